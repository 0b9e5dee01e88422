"""One training step, from bytes to updated weights, without waiting for the device."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, crop_and_flip
from resnet_cli.device import DeviceSetup
from resnet_cli.engine.sums import EpochSums


class TrainStep:
    """Crops, flips and normalises a batch, takes an SGD step on it, and adds its loss and errors to the sums.

    Args:
        network: maps images (B, 3, H, W) to logits (B, classes).
        optimizer: the caller sets its learning rate.
        scaler: loss scaler; only enabled for fp16.
        images: training set, on the device.
        normalizer: turns bytes into network input.
        setup: supplies the precision.
        sums: running sums of the epoch.
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
        """Take a step on the images at `order` (B,), cropped at `shift` (B, 2), flipped where `flip` (B,).

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
