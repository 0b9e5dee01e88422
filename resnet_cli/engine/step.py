"""One training step, from bytes to updated weights; nothing in it waits for the device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, crop_and_flip
from resnet_cli.device import DevicePlan

_NEVER = 2**62  # no run is this long
_READ_EVERY_STEPS = 50  # how often a GPU is asked for its sums


class EpochSums:
    """Loss and errors of an epoch's training steps, summed on the device.

    The tensors stay the same objects for ever, so that a CUDA graph can add to them.
    """

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64
        self.loss_sum = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self.num_wrong = torch.zeros((), dtype=torch.int64, device=device)
        self.first_bad_step = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        """Optimizer steps taken since the start of the run, as the device counts them."""
        self.num_seen = 0
        """Images, as the caller counts them."""

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one step: mean loss (), logits (B, classes), labels (B,)."""
        self.loss_sum += loss * len(labels)
        self.num_wrong += (logits.argmax(dim=1) != labels).sum()
        bad = torch.where(torch.isfinite(loss), _NEVER, self.step)
        torch.minimum(self.first_bad_step, bad, out=self.first_bad_step)
        self.step += 1

    def reset(self) -> None:
        """Begin an epoch; the count of steps goes on."""
        self.loss_sum.zero_()
        self.num_wrong.zero_()
        self.first_bad_step.fill_(_NEVER)
        self.num_seen = 0

    @property
    def is_bad(self) -> bool:
        """Whether a loss was not finite."""
        return int(self.first_bad_step) < _NEVER

    @property
    def loss(self) -> float:
        """Mean loss over the images seen."""
        return float(self.loss_sum) / max(self.num_seen, 1)

    @property
    def error_pct(self) -> float:
        """Wrong answers in per cent of the images seen."""
        return 100.0 * int(self.num_wrong) / max(self.num_seen, 1)


class Seen(NamedTuple):
    """The sums at some step."""

    loss: float
    """Mean training loss of the epoch up to it."""
    error_pct: float
    is_bad: bool
    """Whether a loss was not finite."""


class SumsReader:
    """Reads the sums of an epoch without stopping a GPU: what it copies is read when it has arrived."""

    def __init__(self, sums: EpochSums) -> None:
        self._sums = sums
        self._device = sums.loss_sum.device.type
        self._copy: Tensor | None = None
        self._num_seen = 0
        if self._device == "cuda":
            self._copy = torch.empty(3, dtype=torch.float64, pin_memory=True)
            self._arrived: torch.cuda.Event | None = None

    def poll(self, step: int) -> Seen | None:
        """The sums after `step` on a CPU; on a GPU those of some steps ago, or None when there is nothing new."""
        if self._copy is not None:
            return self._poll_cuda(self._copy, step)
        if self._device != "cpu" and step % _READ_EVERY_STEPS:
            return None
        return Seen(self._sums.loss, self._sums.error_pct, self._sums.is_bad)

    def _poll_cuda(self, copy: Tensor, step: int) -> Seen | None:
        found = None
        if self._arrived is not None and self._arrived.query():  # type: ignore[no-untyped-call]
            loss_sum, num_wrong, first_bad_step = copy.tolist()
            found = Seen(loss_sum / self._num_seen, 100.0 * num_wrong / self._num_seen, first_bad_step < _NEVER)
            self._arrived = None
        if self._arrived is None and step % _READ_EVERY_STEPS == 0:
            sums = (self._sums.loss_sum, self._sums.num_wrong, self._sums.first_bad_step)
            copy.copy_(torch.stack([value.double() for value in sums]), non_blocking=True)
            self._num_seen = self._sums.num_seen
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        return found


class TrainStep:
    """Crop, flip, normalise, forward, backward, SGD, sums.

    Args:
        network: maps images (B, 3, H, W) to logits (B, classes).
        optimizer: its learning rate is set by the caller.
        scaler: of the loss; disabled but for fp16.
        images: the training set, on the device.
        normalizer: bytes to network input.
        plan: precision.
        sums: what is added to.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        images: DeviceImages,
        normalizer: Normalizer,
        plan: DevicePlan,
        sums: EpochSums,
    ) -> None:
        self._network, self._optimizer, self._scaler = network, optimizer, scaler
        self._images, self._normalizer, self._plan, self._sums = images, normalizer, plan, sums

    def __call__(self, order: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
        """Take a step on the images at `order` (B,), cropped at `shift` (B, 2), mirrored where `flip` (B,).

        Returns:
            The mean loss (), on the device.
        """
        pixels, labels = self._images.pixels[order], self._images.labels[order]
        images = self._normalizer(crop_and_flip(pixels, shift, flip))
        with self._plan.autocast():
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
