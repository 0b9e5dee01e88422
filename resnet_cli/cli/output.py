"""Output of all commands: results to stdout, progress and messages to stderr."""

import contextlib
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from resnet_cli.launch.channel import Position, channel
from resnet_cli.util.text import json_text, printable

SCHEMA_VERSION = 1

# Wide enough not to wrap tables in logs and pipes, which have no width of their own.
_PIPE_WIDTH = 200


class Pipe:
    """A standard stream that the command survives the loss of: writing to it never raises when it cannot be written.

    Args:
        stream: stdout or stderr, open on the descriptor of the same name.
        errors: the errors that mean that the stream is lost; others are raised.
    """

    def __init__(self, stream: TextIO, errors: type[OSError]) -> None:
        self._stream, self._errors = stream, errors
        self.is_lost = False
        self.is_needed = True
        """Whether its loss is a failure of the command."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text`, or nothing if the stream is lost."""
        with self._tolerated():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        with self._tolerated():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except self._errors:
            self.is_lost = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())  # takes what is still buffered
            os.close(null)


class Output:
    """Sink for the result, progress and messages of a command.

    Args:
        json: print exactly one JSON document on stdout and nothing else there.
        quiet: print results, warnings and errors only.
        is_saved: the result is also in files, so that nothing is lost if stdout cannot be written.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, is_saved: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        if is_saved and isinstance(sys.stdout, Pipe):
            sys.stdout.is_needed = False
        self.stdout = _console(sys.stdout)
        self.stderr = _console(sys.stderr)

    @property
    def is_live(self) -> bool:
        """Whether progress can be redrawn in place: stderr is a terminal that supports it."""
        return self.stderr.is_terminal and not self.stderr.is_dumb_terminal and not self.quiet

    def result(self, document: Mapping[str, Any], human: RenderableType | None) -> None:
        """Print the result: `document` as JSON in JSON mode, else `human` (nothing when None)."""
        if self.json:
            is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
            sys.stdout.write(json_text({"schema_version": SCHEMA_VERSION, **document}, ascii_only=not is_unicode))
        elif human is not None:
            self.stdout.print(human)

    def raw(self, text: str) -> None:
        """Print a result that is already text in its own format (CSV, LaTeX, Markdown)."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def note(self, text: str) -> None:
        """Print a status line on stderr; silent with `--quiet`."""
        if not self.quiet:
            self._message(text)

    def loading_torch(self) -> None:
        """Print what the command waits for if PyTorch, whose import takes seconds, has to be loaded."""
        if "torch" not in sys.modules:
            self.note("loading PyTorch")

    def warn(self, text: str) -> None:
        """Print a warning on stderr, even with `--quiet`."""
        self._message(f"warning: {text}", style="yellow")

    def error(self, text: str) -> None:
        """Print an error on stderr."""
        self._message(f"error: {text}", style="red")

    def stopped(self, text: str) -> None:
        """Print on stderr, even with `--quiet`, that a signal stopped the command."""
        self._message(text)

    def _message(self, text: str, style: str = "") -> None:
        """Print one line on stderr, wrapped between words on a terminal; a word that is too long stays whole."""
        text = printable(text)
        if self.stderr.is_terminal:
            text = textwrap.fill(text, self.stderr.width, break_long_words=False, break_on_hyphens=False)
        self.stderr.print(Text(text, style=style), soft_wrap=True)

    def progress(self) -> "ProgressReporter":
        """A context that shows the progress of tasks."""
        return ProgressReporter(self)


class ProgressReporter:
    """A `util.progress.Progress` of tasks that run one after another.

    Shows bars on a terminal, and a line every few seconds elsewhere.
    """

    _LINE_EVERY_SECONDS = 5.0

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bars: Progress | None = None
        self._task: Any = None
        self._label = ""
        self._next_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Show that `done` of `total` is done."""
        label = printable(label)
        if study := channel():
            study.send(Position(done / total if total else 0.0, label))
        if self._output.quiet:
            return
        if self._output.is_live:
            self._draw(label, done, total, unit)
        elif label != self._label or done >= total or time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + self._LINE_EVERY_SECONDS
            if label != self._label or done < total or total:
                self._output.note(f"{label}: {_amount(done, unit, total)}")
        self._label = label

    def _draw(self, label: str, done: int, total: int, unit: str) -> None:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=None),
                TextColumn("{task.fields[amount]}", markup=False), TimeRemainingColumn(),
                console=self._output.stderr, transient=True,
            )  # fmt: skip
            self._bars.start()
        amount = _amount(done, unit, total)
        if label != self._label or self._task is None:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(label, total=total, amount=amount)
        self._bars.update(self._task, completed=done, total=total, amount=amount)

    def close(self) -> None:
        """Remove the bars."""
        if self._bars is not None:
            self._bars.stop()


def _amount(done: int, unit: str, total: int) -> str:
    if unit == "bytes":
        return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
    return f"{done:,} of {total:,} {unit}".rstrip()


def _console(stream: Any) -> Console:
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
