"""Progress of `resnet train` on the terminal."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from resnet_cli.cli.output import Output
from resnet_cli.rundir import EpochMetrics, RunRecord
from resnet_cli.session.reporter import Reporter
from resnet_cli.util.text import duration

if TYPE_CHECKING:
    from resnet_cli.engine import StepEvent

_SPEED_WINDOW_SECONDS = 10.0
_BAR_MIN_WIDTH = 100


class TrainReporter(Reporter):
    """A `session.Reporter`: a live line on a terminal, one plain line per epoch elsewhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._data = output.progress()
        self._live: Progress | None = None
        self._task: Any = None
        self._num_epochs = 0
        self._running = ""
        self._speed = Speedometer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._data.close()

    def progress(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Show how much of the data has been downloaded or decoded."""
        self._data(label, done, total, unit)

    def note(self, text: str) -> None:
        """Print a status line."""
        self._output.note(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._output.warn(text)

    def started(self, record: RunRecord, path: Path, num_epochs: int, epochs_done: int) -> None:
        """Show the network, the data, the run directory and the automatic decisions."""
        self._data.close()
        self._num_epochs = num_epochs
        config, data, decisions = record.config, record.dataset, record.decisions
        verb = f"resuming after epoch {epochs_done} of {num_epochs}:" if epochs_done else "training"
        self._output.note(
            f"{verb} {config.network} ({record.model.parameters:,} parameters) on {data.display_name}, "
            f"{data.num_train:,} images, in {path}"
        )
        chosen = (
            f"{name} {decisions[name].value}: {decisions[name].reason}" for name in ("device", "precision", "compile")
        )
        self._output.note("; ".join(chosen))
        if config.epochs and config.milestones and config.milestones[0] >= config.epochs:
            self._output.note(f"lr stays at {config.lr:g}: the first milestone is epoch {config.milestones[0]}")
        if self._output.is_live:
            # a narrow terminal has no room for the bar, and may wrap the numbers
            wide = [TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[detail]}")]
            narrow = [TextColumn("{task.description} {task.fields[detail]}", table_column=Column())]
            columns = wide if self._output.stderr.width >= _BAR_MIN_WIDTH else narrow
            self._live = Progress(*columns, console=self._output.stderr, transient=True)
            self._task = self._live.add_task("starting", total=None, detail="")
            self._live.start()

    def tick(self, tick: "StepEvent") -> None:
        """Show a step or an evaluated batch."""
        if self._live is None:
            return
        left = ""
        if tick.phase == "train":
            speed = self._speed.update(tick.done)
            if speed:
                images_left = (self._num_epochs - tick.epoch) * tick.total + tick.total - tick.done
                left = f"{speed:,.0f} images/s, {duration(images_left / speed)} left"
            if tick.running_loss is not None:
                self._running = f"loss {tick.running_loss:.4f} error {tick.running_error_pct:.1f} % "
            loss = f"step {tick.step} {self._running}"
        else:
            loss = "evaluating "
        self._live.update(
            self._task, description=f"epoch {tick.epoch}/{self._num_epochs}", completed=tick.done, total=tick.total,
            detail=f"{loss}{left}".rstrip(),
        )  # fmt: skip

    def epoch(self, metrics: EpochMetrics) -> None:
        """Print one line with the measurements of an epoch."""
        errors_pct = {
            "error": metrics.train_error_pct, "clean": metrics.train_clean_error_pct, "val": metrics.val_error_pct,
            "test": metrics.test_error_pct,
        }  # fmt: skip
        parts = [
            f"epoch {metrics.epoch}/{self._num_epochs}  step {metrics.step}  lr {metrics.lr:g}",
            f"train loss {metrics.train_loss:.4f}",
            *(f"{name} {value:.2f} %" for name, value in errors_pct.items() if value is not None),
            f"{metrics.images_per_second:,.0f} images/s  {metrics.train_seconds + metrics.eval_seconds:.1f} s",
        ]
        self._output.note("  ".join(parts))


class Speedometer:
    """Images per second over the last ten seconds."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []
        self._images = 0
        self._last_done = 0

    def update(self, done: int) -> float | None:
        """Record that `done` images of an epoch are done; return images per second, None while unknown."""
        self._images += done - self._last_done if done > self._last_done else done
        self._last_done = done
        now = time.monotonic()
        self._points.append((now, self._images))
        while self._points[0][0] < now - _SPEED_WINDOW_SECONDS and len(self._points) > 2:
            self._points.pop(0)
        start, first = self._points[0]
        seconds = now - start
        return (self._images - first) / seconds if seconds > 0 else None
