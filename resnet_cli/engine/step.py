"""One training step, from bytes to updated weights, without waiting for the device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, crop_and_flip
from resnet_cli.device import DeviceSetup
from resnet_cli.engine.sums import EpochSums


@dataclass(frozen=True)
class TrainStep:
    """Crops, flips and normalises a batch, takes an SGD step on it, and adds its loss and errors to the sums."""

    network: Callable[[Tensor], Tensor]
    """Maps images (B, 3, H, W) to logits (B, classes)."""
    optimizer: torch.optim.Optimizer
    """The caller sets its learning rate."""
    scaler: torch.amp.GradScaler
    """Scales the loss; only enabled for fp16."""
    images: DeviceImages
    """Training set, on the device."""
    normalizer: Normalizer
    setup: DeviceSetup
    sums: EpochSums

    def __call__(self, order: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
        """Take a step on the images at `order` (B,), cropped at `shift` (B, 2), flipped where `flip` (B,).

        Returns:
            The mean loss (), on the device.
        """
        pixels, labels = self.images.pixels[order], self.images.labels[order]
        images = self.normalizer(crop_and_flip(pixels, shift, flip))
        with self.setup.autocast():
            logits = self.network(images).float()
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)  # gradflow reads true gradients
        self.scaler.step(self.optimizer)
        self.scaler.update()
        loss = loss.detach()
        self.sums.add(loss, logits.detach(), labels)
        return loss
