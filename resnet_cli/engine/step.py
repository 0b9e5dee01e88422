"""One training step, from bytes to updated weights, without waiting for the device."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, crop_and_flip
from resnet_cli.device import DeviceSetup
from resnet_cli.dist import Ranks
from resnet_cli.engine.sums import EpochSums
from resnet_cli.model import CifarNet
from resnet_cli.norm import DistributedBatch, synchronized


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
        logits, labels = self.predict(order, shift, flip)
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.update()
        loss = loss.detach()
        self.sums.add(loss * len(labels), (logits.detach().argmax(dim=1) != labels).sum())
        return loss

    def predict(self, order: Tensor, shift: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) float32 of the images, and their labels (B,)."""
        pixels, labels = self.images.pixels[order], self.images.labels[order]
        images = self.normalizer(crop_and_flip(pixels, shift, flip))
        with self.setup.autocast():
            return self.network(images).float(), labels

    def update(self) -> None:
        """Change the weights by their gradients."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)  # gradflow reads true gradients
        self.scaler.step(self.optimizer)
        self.scaler.update()


@dataclass(frozen=True)
class DistributedStep:
    """The same step on a batch of which every process has a part; all of them end with the same weights.

    The gradients add up to those of the mean loss over the whole batch. Running statistics are averaged over the
    processes, weighted by their images, so that any process has the whole state of the run.
    """

    step: TrainStep
    """Computes this process's part."""
    model: CifarNet
    ranks: Ranks
    sync_bn: bool
    """Normalise by the statistics of the whole batch, not of this process's part."""

    def __call__(self, order: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
        """Take a step on the whole batch, given as for `TrainStep`.

        Returns:
            The mean loss () over the whole batch, float64, on the device.
        """
        step, num_images = self.step, len(order)
        mine = self.ranks.shard(num_images)
        step.optimizer.zero_grad(set_to_none=True)
        counts = torch.zeros(2, dtype=torch.float64, device=order.device)  # sum of losses, wrong predictions
        shared = synchronized(self.model, DistributedBatch(self.ranks, num_images))
        # the scaler is set up by what it scales first, and this process may have no loss
        step.scaler.scale(counts)
        with shared if self.sync_bn else contextlib.nullcontext():
            if mine.stop > mine.start or self.sync_bn:
                logits, labels = step.predict(order[mine], shift[mine], flip[mine])
                loss = F.cross_entropy(logits, labels, reduction="sum")
                step.scaler.scale(loss / num_images).backward()  # type: ignore[no-untyped-call]
                counts[0] = loss.detach()
                counts[1] = (logits.detach().argmax(dim=1) != labels).sum()
        self._combine((mine.stop - mine.start) / num_images)
        step.update()
        self.ranks.all_reduce_sum([counts])
        step.sums.add(counts[0], counts[1].long())
        return counts[0] / num_images

    @torch.no_grad()
    def _combine(self, share: float) -> None:
        """Add up the gradients of all processes, and average their running statistics, weighted by `share`."""
        state = []
        for parameter in self.model.parameters():
            if parameter.grad is None:  # this process had no image
                parameter.grad = torch.zeros_like(parameter)
            state.append(parameter.grad)
        for buffer in self.model.buffers():
            if buffer.is_floating_point():
                state.append(buffer.mul_(share))
        self.ranks.all_reduce_sum(state)
