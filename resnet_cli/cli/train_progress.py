"""Progress of `resnet train` on the terminal."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rich.progress import BarColumn, Progress, TextColumn

from resnet_cli.cli.output import Output
from resnet_cli.launch.channel import Channel, EpochEnd, Position, Warned
from resnet_cli.rundir import EpochMetrics, RunRecord
from resnet_cli.session.reporter import Reporter, Start
from resnet_cli.util.text import duration

if TYPE_CHECKING:
    from resnet_cli.engine import StepEvent

_SPEED_WINDOW_SECONDS = 10.0
_MARGIN = 4  # two blanks next to the bar; and if the terminal's echo of ^C wrapped, the line could not be erased
_LOG_WIDTH = 80  # of a line in a file or pipe


class Part(NamedTuple):
    """One labelled value of a line."""

    text: str
    rank: int
    """Higher ranks are hidden first; the lowest one never is."""


def fit(parts: Sequence[Part], width: int) -> str:
    """Join the parts to a line, hiding the highest ranks until it fits into `width` columns."""
    line = ""
    for rank in sorted({part.rank for part in parts}, reverse=True):
        line = "  ".join(part.text for part in parts if part.rank <= rank)
        if len(line) <= width:
            break
    return line


class TrainReporter(Reporter):
    """A `session.Reporter`: a live line on a terminal, and one line per epoch everywhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._data = output.progress()
        self._live: Progress | None = None
        self._task: Any = None
        self._start = Start(0, 1, 0, 1, is_resumed=False)
        self._running: list[Part] = []
        self._left: list[Part] = []
        self._speed = Speedometer()
        self._clock = TimeLeft()

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

    def started(self, record: RunRecord, path: Path, start: Start) -> None:
        """Show the network, the data, the run directory and the automatic decisions."""
        self._data.close()
        self._start = start
        config, data, decisions = record.config, record.dataset, record.decisions
        self._output.note(
            f"{_verb(start)} {config.network} ({record.model.parameters:,} parameters) on {data.display_name}, "
            f"{data.num_train:,} images, in {path}"
        )
        if record.init_from:
            self._output.note(f"initial weights: {record.init_from.path} (SHA-256 {record.init_from.sha256[:12]})")
        for name in ("device", "precision", "compile"):
            self._output.note(f"{name} {decisions[name].value}: {decisions[name].reason}")
        if self._output.is_live:
            bar = BarColumn(bar_width=self._bar_width)
            columns = TextColumn("{task.description}"), bar, TextColumn("{task.fields[detail]}")
            self._live = Progress(*columns, console=self._output.stderr, transient=True)
            self._task = self._live.add_task("starting", total=1.0, detail="")
            self._live.start()

    @property
    def _bar_width(self) -> int:
        return self._output.stderr.width // 8

    def tick(self, tick: "StepEvent") -> None:
        """Show a step or an evaluated batch."""
        if self._live is None:
            return
        done = tick.step / self._start.total_steps
        label = f"epoch {tick.epoch}/{self._start.num_epochs}"
        if tick.phase == "train":
            self._update_times(tick, done)
            if tick.running_loss is not None:
                loss, error = f"train loss {tick.running_loss:.4f}", f"train err {tick.running_error_pct:.1f} %"
                self._running = [Part(loss, 3), Part(error, 1)]
            parts = [Part(f"step {tick.step}", 5), *self._running, *self._left]
        else:
            parts = [Part("evaluating", 1), *(part for part in self._left if part.rank < 4)]
        width = self._output.stderr.width - len(label) - self._bar_width - _MARGIN
        self._live.update(self._task, description=label, completed=done, detail=fit(parts, width))

    def _update_times(self, tick: "StepEvent", done: float) -> None:
        speed, seconds = self._speed.update(tick.done), self._clock.update(done)
        self._left = [Part(f"{speed:,.0f} images/s", 4)] if speed else []
        if seconds is not None:
            self._left.append(Part(f"{duration(seconds)} left", 2))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Print one line with the measurements of an epoch."""
        parts = epoch_parts(metrics, self._start.num_epochs)
        self._output.note(fit(parts, line_width(self._output)))


class ChannelReporter(Reporter):
    """A `session.Reporter` that sends progress and warnings to the study that launched this process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._start = Start(0, 1, 0, 1, is_resumed=False)
        self._speed = Speedometer()
        self._images_per_second: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def progress(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Send how far the data are downloaded or decoded."""
        self._channel.send(Position(0.0, label))

    def warn(self, text: str) -> None:
        """Send a warning."""
        self._channel.send(Warned(text))

    def started(self, record: RunRecord, path: Path, start: Start) -> None:
        """Remember the length of the run."""
        self._start = start

    def tick(self, tick: "StepEvent") -> None:
        """Send the position after a step or an evaluated batch."""
        if tick.phase == "train":
            self._images_per_second = self._speed.update(tick.done)
        activity = f"epoch {tick.epoch}/{self._start.num_epochs}"
        done = tick.step / self._start.total_steps
        self._channel.send(Position(done, activity, self._images_per_second, tick.running_error_pct))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Send the measurements of an epoch."""
        self._channel.send(EpochEnd(self._start.num_epochs, metrics))


def line_width(output: Output) -> int:
    """Number of columns of a line on stderr."""
    return output.stderr.width if output.stderr.is_terminal else _LOG_WIDTH


def epoch_parts(metrics: EpochMetrics, num_epochs: int) -> list[Part]:
    """The measurements of an epoch."""
    parts = [
        Part(f"epoch {metrics.epoch:>{len(str(num_epochs))}}/{num_epochs}", 0),
        Part(f"step {metrics.step}", 7),
        Part(f"lr {metrics.lr:g}", 5),
        Part(f"time {duration(metrics.train_seconds + metrics.eval_seconds)}", 3),
        Part(f"{metrics.images_per_second:,.0f} images/s", 6),
        Part(f"train loss {metrics.train_loss:.4f}", 4),
        Part(f"train err {metrics.train_error_pct:5.2f} %", 0),
    ]
    for name, error_pct, rank in (
        ("clean", metrics.train_clean_error_pct, 1),
        ("val", metrics.val_error_pct, 2),
    ):
        if error_pct is not None:
            parts.append(Part(f"{name} err {error_pct:5.2f} %", rank))
    return [*parts, Part(f"test acc {metrics.test_accuracy_pct:5.2f} %", 0)]


def _verb(start: Start) -> str:
    if not start.is_resumed:
        return "training"
    if start.step == 0:
        return "restarting, since no checkpoint was saved:"
    epoch = min(start.epochs_done + 1, start.num_epochs)
    return f"resuming after step {start.step} of {start.total_steps} (epoch {epoch} of {start.num_epochs}):"


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


class TimeLeft:
    """Time until all is done, at the mean speed since the first update: evaluations and saves are included."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def update(self, done: float) -> float | None:
        """Record that the part `done` (0 to 1) of the whole is done; return the seconds left, None while unknown."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        start, before = self._first
        return (1 - done) * (now - start) / (done - before) if done > before and now > start else None
