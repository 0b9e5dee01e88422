"""Progress of `resnet reproduce` on the terminal: all processes of a study at a glance."""

import itertools
import time
from collections.abc import Mapping
from typing import NamedTuple, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resnet_cli.cli.output import Output
from resnet_cli.cli.train_progress import TimeLeft, epoch_parts, fit, line_width
from resnet_cli.launch import Ending, EpochEnd, Message, Observer, Position, Task, Warned
from resnet_cli.util.text import duration, printable

_BAR_WIDTH = 12


class Running(NamedTuple):
    """A task in progress."""

    started_at: float
    position: Position
    first_done: float | None
    """Part of the task that was done when it started; None until it is known."""
    last_epoch: EpochEnd | None


class StudyReporter(Observer):
    """A `launch.Observer`: a live overview on a terminal, elsewhere one line per epoch and per task that ends.

    Args:
        output: sink of the command.
        work: expected work of each task, by name, in any unit.
        noun: what the tasks are: `runs`.
    """

    def __init__(self, output: Output, work: Mapping[str, float], noun: str) -> None:
        self._output, self._work, self._noun = output, work, noun
        self._running: dict[str, Running] = {}
        self._states: dict[str, str] = {}
        self._clock = TimeLeft()
        self._seconds_left: float | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._output.is_live:
            self._live = Live(
                console=self._output.stderr, transient=True, get_renderable=self.overview, refresh_per_second=4
            )
            self._live.start()
        self._clock.update(0.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, task: Task) -> None:
        """Show that a process starts to work on `task`."""
        self._running[task.name] = Running(time.monotonic(), Position(0.0, "starting"), None, None)
        if self._live is None:
            self._output.note(f"{task.name}: started")

    def received(self, task: Task, message: Message) -> None:
        """Show a message."""
        running = self._running[task.name]
        match message:
            case Position():
                first = running.first_done
                if first is None and message.activity.startswith("epoch"):
                    first = message.done
                self._running[task.name] = running._replace(position=message, first_done=first)
                self._seconds_left = self._clock.update(self._done())
            case EpochEnd():
                self._running[task.name] = running._replace(last_epoch=message)
                if self._live is None:
                    prefix = f"{task.name}: "
                    parts = epoch_parts(message.metrics, message.num_epochs)
                    self._output.note(prefix + fit(parts, line_width(self._output) - len(prefix)))
            case Warned():
                self._output.warn(f"{task.name}: {message.text}")

    def ended(self, task: Task, ending: Ending) -> None:
        """Show how a task has ended."""
        running = self._running.pop(task.name)
        self._states[task.name] = ending.state
        seconds = duration(time.monotonic() - running.started_at)
        if ending.state == "done":
            self._output.note(f"{task.name}: {self._result(running)}{seconds} ({self._count()})")
        elif ending.reason or ending.state != "stopped":  # a signal to the whole study is reported once, at its end
            reason = f": {ending.reason.removeprefix('training diverged: ')}" if ending.reason else ""
            self._output.warn(f"{task.name} {ending.state}{reason} ({self._count()})")

    def stopping(self, signal_name: str) -> None:
        """Tell the user that the study is about to stop."""
        self._output.note(
            f"stopping after {signal_name}: saving the {self._noun} in progress; a second signal kills them"
        )

    @staticmethod
    def _result(running: Running) -> str:
        if running.last_epoch is None:
            return "done in "
        metrics = running.last_epoch.metrics
        clean = metrics.train_clean_error_pct
        error = "" if clean is None else f", clean training error {clean:.2f} %"
        return f"test accuracy {metrics.test_accuracy_pct:.2f} %{error}, trained in "

    def _count(self) -> str:
        return f"{len(self._states)} of {len(self._work)} {self._noun}"

    def _done(self) -> float:
        """The part of all work that is done (0 to 1)."""
        total = sum(self._work.values())
        done = sum(self._work[name] for name in self._states)
        for name, running in self._running.items():
            first = running.first_done or 0.0
            part = (running.position.done - first) / (1 - first) if first < 1 else 1.0
            done += self._work[name] * max(part, 0.0)
        return done / total if total else 1.0

    def overview(self) -> Group:
        """The tasks in progress, and a line about all of them."""
        table = Table.grid(padding=(0, 2, 0, 0))
        width, height = self._output.stderr.size
        most = max(1, height - 3)  # leaves room for the last line, which counts the tasks that are not shown
        for name, running in itertools.islice(self._running.items(), most):
            position = running.position
            filled = round(position.done * _BAR_WIDTH)
            bar = "━" * filled + "─" * (_BAR_WIDTH - filled)
            label = "train err " if width >= 60 else ""
            error = "" if position.train_error_pct is None else f"{label}{position.train_error_pct:.1f} %"
            speed = "" if position.images_per_second is None else f"{position.images_per_second:,.0f} images/s"
            cells = [name, printable(position.activity), *[bar] * (width >= 90), error, *[speed] * (width >= 72)]
            table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
        counts = [f"{len(self._states)} of {len(self._work)} {self._noun} ended", f"{len(self._running)} in progress"]
        for state in ("diverged", "failed"):
            if number := list(self._states.values()).count(state):
                counts.append(f"{number} {state}")
        if self._seconds_left is not None:
            counts.append(f"about {duration(self._seconds_left)} left")
        return Group(table, Text(", ".join(counts), no_wrap=True, overflow="ellipsis"))
