"""Progress of a run, as `train` reports it, and its result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resnet_cli.rundir import EpochMetrics, GradflowRow, RunDir, RunRecord, Summary

if TYPE_CHECKING:
    from resnet_cli.engine import StepEvent


class Start(NamedTuple):
    """Where an attempt to train a run starts."""

    step: int
    """Optimizer steps done in earlier attempts."""
    total_steps: int
    epochs_done: int
    num_epochs: int
    is_resumed: bool
    """Whether the run was started earlier; it may have stopped before its first checkpoint."""


class Reporter:
    """Receives the progress of a run and ignores it; override the methods of interest."""

    def progress(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Report that `done` of `total` bytes, or another `unit`, of the data `label` are downloaded or decoded."""

    def note(self, text: str) -> None:
        """Report one line that the user should read."""

    def warn(self, text: str) -> None:
        """Report a problem that does not stop the run."""

    def started(self, record: RunRecord, path: Path, start: Start) -> None:
        """Report that training starts or resumes.

        Args:
            record: content of run.json.
            path: the run directory.
            start: where the run starts and how long it is.
        """

    def tick(self, tick: "StepEvent") -> None:
        """Report a training step or an evaluated batch; called for each of them, so it should be fast."""

    def epoch(self, metrics: EpochMetrics) -> None:
        """Report the end of an epoch with its row of metrics.csv: errors in per cent, losses in nats."""

    def gradflow(self, rows: Sequence[GradflowRow]) -> None:
        """Report the gradient flow at every layer, measured before training (epoch 0) or after an epoch."""

    def finished(self, summary: Summary) -> None:
        """Report that the run is complete and its files are written."""


class Reporters(Reporter):
    """Passes everything on to several reporters, in order."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def progress(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.progress(label, done, total, unit)

    def note(self, text: str) -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.note(text)

    def warn(self, text: str) -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.warn(text)

    def started(self, record: RunRecord, path: Path, start: Start) -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.started(record, path, start)

    def tick(self, tick: "StepEvent") -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.tick(tick)

    def epoch(self, metrics: EpochMetrics) -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.epoch(metrics)

    def gradflow(self, rows: Sequence[GradflowRow]) -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.gradflow(rows)

    def finished(self, summary: Summary) -> None:
        """Pass on."""
        for reporter in self._reporters:
            reporter.finished(summary)


class Result(NamedTuple):
    """Return value of `train`."""

    run: RunDir
    record: RunRecord
    summary: Summary
    was_complete: bool
    """Whether the run was complete already, so that nothing was trained."""
