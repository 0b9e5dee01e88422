"""One training step, from bytes to updated weights; nothing in it waits for the device."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, crop_and_flip
from resnet_cli.device import DeviceSetup
from resnet_cli.engine.sums import EpochSums


class TrainStep:
    """Crop, flip, normalise, forward, backward, SGD, sums.

    Args:
        network: maps images (B, 3, H, W) to logits (B, classes).
        optimizer: its learning rate is set by the caller.
        scaler: of the loss; disabled but for fp16.
        images: the training set, on the device.
        normalizer: bytes to network input.
        setup: precision.
        sums: what is added to.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        images: DeviceImages,
        normalizer: Normalizer,
        setup: DeviceSetup,
        sums: EpochSums,
    ) -> None:
        self._network, self._optimizer, self._scaler = network, optimizer, scaler
        self._images, self._normalizer, self._setup, self._sums = images, normalizer, setup, sums

    def __call__(self, order: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
        """Take a step on the images at `order` (B,), cropped at `shift` (B, 2), mirrored where `flip` (B,).

        Returns:
            The mean loss (), on the device.
        """
        pixels, labels = self._images.pixels[order], self._images.labels[order]
        images = self._normalizer(crop_and_flip(pixels, shift, flip))
        with self._setup.autocast():
            logits = self._network(images).float()
        loss = F.cross_entropy(logits, labels)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._optimizer)  # gradflow reads true gradients
        self._scaler.step(self._optimizer)
        self._scaler.update()
        loss = loss.detach()
        self._sums.add(loss, logits.detach(), labels)
        return loss
