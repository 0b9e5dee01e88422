"""Loss and error counts of an epoch, summed on the device and read asynchronously."""

from typing import NamedTuple

import torch
from torch import Tensor

_NEVER = 2**62  # beyond the last step of any run
_READ_EVERY_STEPS = 50  # interval between requests for the sums on a GPU


class EpochSums:
    """Loss and errors of an epoch's training steps, summed on the device.

    The tensors are never replaced, so that a CUDA graph can add to them.
    """

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64
        self.loss_sum = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self.num_wrong = torch.zeros((), dtype=torch.int64, device=device)
        self.first_bad_step = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        """Optimizer steps taken since the start of the run, counted on the device."""
        self.num_seen = 0
        """Images trained on in this epoch, counted by the caller."""

    def add(self, loss_sum: Tensor, num_wrong: Tensor) -> None:
        """Add one step: the sum of its losses () and its number of wrong predictions () int64."""
        self.loss_sum += loss_sum
        self.num_wrong += num_wrong
        bad = torch.where(torch.isfinite(loss_sum), _NEVER, self.step)
        torch.minimum(self.first_bad_step, bad, out=self.first_bad_step)
        self.step += 1

    def reset(self) -> None:
        """Start an epoch; the count of steps continues."""
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
        """Share of wrong predictions among the images seen, in per cent."""
        return 100.0 * int(self.num_wrong) / max(self.num_seen, 1)


class RunningMetrics(NamedTuple):
    """Means over the steps of the epoch so far."""

    loss: float
    """Mean training loss."""
    error_pct: float
    is_bad: bool
    """Whether a loss was not finite."""


class AsyncSumsReader:
    """Reads the sums of an epoch without waiting for a GPU: copies are requested, then read once they have arrived.

    Args:
        sums: what is read.
        waits: read them after the same steps in every process that trains the network, waiting for the GPU.
    """

    def __init__(self, sums: EpochSums, *, waits: bool = False) -> None:
        self._sums = sums
        self._device = sums.loss_sum.device.type
        self._copy: Tensor | None = None
        self._num_seen = 0
        if self._device == "cuda" and not waits:
            self._copy = torch.empty(3, dtype=torch.float64, pin_memory=True)
            self._arrived: torch.cuda.Event | None = None

    def poll(self, step: int) -> RunningMetrics | None:
        """Means after `step` on a CPU; on a GPU those of an earlier step, or None if there are no new ones."""
        if self._copy is not None:
            return self._poll_cuda(self._copy, step)
        if self._device != "cpu" and step % _READ_EVERY_STEPS:
            return None
        return RunningMetrics(self._sums.loss, self._sums.error_pct, self._sums.is_bad)

    def _poll_cuda(self, copy: Tensor, step: int) -> RunningMetrics | None:
        found = None
        if self._arrived is not None and self._arrived.query():  # type: ignore[no-untyped-call]
            loss_sum, num_wrong, first_bad_step = copy.tolist()
            found = RunningMetrics(
                loss_sum / self._num_seen, 100.0 * num_wrong / self._num_seen, first_bad_step < _NEVER
            )
            self._arrived = None
        if self._arrived is None and step % _READ_EVERY_STEPS == 0:
            sums = (self._sums.loss_sum, self._sums.num_wrong, self._sums.first_bad_step)
            copy.copy_(torch.stack([value.double() for value in sums]), non_blocking=True)
            self._num_seen = self._sums.num_seen
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        return found
