"""Who is told how a run goes on, and what is returned when it is done."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from resnet_cli.rundir import RunDir, RunRecord, Summary
from resnet_cli.util.progress import silent

if TYPE_CHECKING:
    from resnet_cli.engine import StepEvent


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def progress(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Data is being fetched or decoded."""

    def note(self, text: str) -> None:
        """Something the user should know, in one line."""

    def started(self, record: RunRecord, path: Path, num_epochs: int, epochs_done: int) -> None:
        """Training starts or, with `epochs_done` or a step behind it, goes on."""

    def tick(self, tick: "StepEvent") -> None:
        """A step or an evaluated batch is done."""

    def epoch(self, metrics: dict[str, float | int | None]) -> None:
        """An epoch is done; `metrics` is its row of metrics.csv."""


class SilentReporter:
    """Tells nobody."""

    progress = staticmethod(silent)

    def note(self, text: str) -> None:
        """Say nothing."""

    def started(self, record: RunRecord, path: Path, num_epochs: int, epochs_done: int) -> None:
        """Say nothing."""

    def tick(self, tick: "StepEvent") -> None:
        """Say nothing."""

    def epoch(self, metrics: dict[str, float | int | None]) -> None:
        """Say nothing."""


class Result(NamedTuple):
    """What `train` returns."""

    run: RunDir
    record: RunRecord
    summary: Summary
    was_complete: bool
    """Whether the run was there already and nothing was trained."""
