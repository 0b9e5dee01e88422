"""Several commands of this tool at a time, each in a child process that can be stopped, resumed and restarted."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec

from resnet_cli.errors import ExitCode, InputError, ResnetError, UsageError
from resnet_cli.launch.channel import VARIABLE, Message, Warned
from resnet_cli.util.signals import SignalForwarder, stopped

RESUME_HINT = "run the same command again to resume"
MAX_RESTARTS = 2
"""How often a task is restarted after its process was killed."""

_POLL_SECONDS = 0.05
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Task(NamedTuple):
    """A command of this tool; running it again resumes its work."""

    name: str
    """For messages: `plain-56, seed 0`."""
    arguments: list[str]


class Ending(NamedTuple):
    """How a task ended."""

    state: Literal["done", "diverged", "failed", "stopped"]
    exit_code: int
    reason: str = ""
    """Of a failure: one line."""


class Observer:
    """Receives the events of the tasks and ignores them; override the methods of interest."""

    def started(self, task: Task) -> None:
        """Report that a process starts to work on `task`."""

    def received(self, task: Task, message: Message) -> None:
        """Report a message of the process of `task`."""

    def ended(self, task: Task, ending: Ending) -> None:
        """Report that `task` has ended."""

    def stopping(self, signal_name: str) -> None:
        """Report that a stop signal has arrived and was passed on to the processes."""


class Process(Protocol):
    """A process that works on a task, on this machine or elsewhere."""

    task: Task
    slot: dict[str, str]
    num_restarts: int

    def poll(self) -> int | None:
        """The exit code; negative: number of the signal that ended the process; None: it still runs."""

    def read(self) -> list[Message]:
        """The messages that have arrived."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal; called from signal handlers, too."""

    def wait(self) -> None:
        """Wait for the end of the process, which was sent a signal."""

    def loss(self) -> str | None:
        """Why the ended process did not come to its own end: a task that was lost is restarted."""

    def close(self) -> str:
        """Release what belongs to the ended process and return its error: one line, or nothing."""


Start = Callable[[Task, dict[str, str], int], Process]
"""Starts a process from a task, its slot and the number of restarts."""


def run_tasks(
    tasks: Sequence[Task], slots: Sequence[dict[str, str]], observer: Observer, start: Start | None = None
) -> list[Ending]:
    """Run every task in a child process; one that fails or diverges does not stop the others.

    The children never execute code from the current folder. They receive the stop signals of this process, a second one
    kills them, and they stop when this process ends. A child that is killed is restarted up to `MAX_RESTARTS` times.

    Args:
        tasks: started in this order.
        slots: environment variables of the processes that run at the same time, from `launch.slots`.
        observer: receives what happens.
        start: starts the processes (None: as child processes on this machine).

    Returns:
        How each task ended.

    Raises:
        StoppedError: a signal stopped the tasks; those in progress have saved their state.
        ResnetError: no process could be started; those in progress have been stopped and have saved their state.
    """
    pool = _Pool(slots, observer, start or Child)
    with SignalForwarder() as signals:
        try:
            pool.run(tasks, signals)
        finally:
            pool.stop()
        if signals.signal_name:
            raise stopped(signals.signal_name, RESUME_HINT)
    return [pool.endings[task.name] for task in tasks]


class _Pool:
    def __init__(self, slots: Sequence[dict[str, str]], observer: Observer, start: Start) -> None:
        self._free = list(reversed(slots))
        self._observer = observer
        self._start_process = start
        self._running: list[Process] = []
        self.endings: dict[str, Ending] = {}

    def run(self, tasks: Sequence[Task], signals: SignalForwarder) -> None:
        waiting = deque((task, 0) for task in tasks)
        is_stopping = False
        while self._running or (waiting and not signals.signal_name):
            while waiting and self._free and not signals.signal_name:
                self._start(*waiting.popleft(), signals)
            time.sleep(_POLL_SECONDS)
            if signals.signal_name and not is_stopping:
                is_stopping = True
                self._observer.stopping(signals.signal_name)
            for child in tuple(self._running):
                has_ended = child.poll() is not None  # before its last messages are read
                for message in child.read():
                    self._observer.received(child.task, message)
                if has_ended and not self._end(child, signals):
                    waiting.appendleft((child.task, child.num_restarts + 1))

    def stop(self) -> None:
        """Stop the children that are left after an error, and wait until they have saved their state."""
        for child in self._running:
            child.send_signal(signal.SIGTERM)
        for child in self._running:
            child.wait()
            child.close()

    def _start(self, task: Task, num_restarts: int, signals: SignalForwarder) -> None:
        slot = self._free.pop()
        if not num_restarts:
            self._observer.started(task)
        try:
            child = self._start_process(task, slot, num_restarts)
        except (UsageError, InputError) as error:  # of this task only
            self._free.append(slot)
            self._record(task, Ending("failed", error.exit_code, error.as_options()))
            return
        except OSError as error:
            hint = "use fewer --jobs, or raise the limit of the system, and run the same command again"
            raise ResnetError(f"{task.name}: no process can be started: {error.strerror}", hint=hint) from error
        self._running.append(child)
        signals.add(child)

    def _end(self, child: Process, signals: SignalForwarder) -> bool:
        """Record how the task of an ended child ended; return False if it has to be restarted instead."""
        signals.children.remove(child)
        self._running.remove(child)
        self._free.append(child.slot)
        code, loss, reason = child.poll(), child.loss(), child.close()
        assert code is not None
        if signals.signal_name and code != ExitCode.DONE:
            ending = Ending("stopped", code)
        elif loss and child.num_restarts < MAX_RESTARTS:
            self._observer.received(child.task, Warned(f"{loss}; restarting it"))
            return False
        else:
            ending = Ending("failed", code, loss) if loss else _ending(code, reason)
        self._record(child.task, ending)
        return True

    def _record(self, task: Task, ending: Ending) -> None:
        self.endings[task.name] = ending
        self._observer.ended(task, ending)


def _signal_name(number: int) -> str:
    """The name of a signal in brackets; nothing for the real-time signals, most of which have none."""
    return f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""


def _ending(code: int, reason: str) -> Ending:
    if code == ExitCode.DONE:
        return Ending("done", code)
    if code == ExitCode.DIVERGED:
        return Ending("diverged", code, reason)
    if code in (ExitCode.STOPPED, ExitCode.CTRL_C) or -code in _STOP_SIGNALS:
        return Ending("stopped", code, "it received a stop signal")
    return Ending("failed", code, reason or f"exit code {code}")


class Child:
    """A child process and the other end of its channel.

    Args:
        task: what it works on.
        slot: environment variables.
        num_restarts: how often the task was started before.
        folder: its current folder (None: that of this process).
    """

    def __init__(self, task: Task, slot: dict[str, str], num_restarts: int = 0, folder: Path | None = None) -> None:
        self.task, self.slot, self.num_restarts = task, slot, num_restarts
        self._received = b""
        read_end, write_end = os.pipe()
        try:
            self.socket, theirs = socket.socketpair()
        except OSError:
            os.close(read_end)
            os.close(write_end)
            raise
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "resnet_cli", *task.arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write_end, pass_fds=(theirs.fileno(),),
                cwd=folder, process_group=0,  # the terminal sends Ctrl-C to this process alone, which passes it on
                env={**safe_environment(), **slot, VARIABLE: str(theirs.fileno())},
            )  # fmt: skip
        except BaseException:
            os.close(read_end)
            self.socket.close()
            raise
        finally:
            theirs.close()
            os.close(write_end)
        self.socket.setblocking(False)
        os.set_blocking(read_end, False)
        self._stderr = read_end
        self._errors = b""

    def poll(self) -> int | None:
        """The exit code; negative: number of the signal that ended the process; None: it still runs."""
        return self._process.poll()

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait for the end of the process, or for the time to pass."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)

    def loss(self) -> str | None:
        """The signal that killed the ended process, other than a stop signal."""
        number = -self._process.returncode
        return (
            f"killed by signal {number}{_signal_name(number)}" if number > 0 and number not in _STOP_SIGNALS else None
        )

    def read(self) -> list[Message]:
        """The messages that have arrived; one that cannot be read is ignored."""
        self._read_errors()
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.socket.recv(2**16):
                self._received += data
        *lines, self._received = self._received.split(b"\n")
        messages: list[Message] = []
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                messages.append(msgspec.json.decode(line, type=Message))
        return messages

    def _read_errors(self) -> None:
        """Read what the child wrote to stderr, so that it never waits; the end is kept, which has the error."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stderr, 2**16):
                self._errors = (self._errors + data)[-(2**16) :]

    def close(self) -> str:
        """Close the channel and return the last line that the ended process wrote to stderr."""
        self._read_errors()
        os.close(self._stderr)
        self.socket.close()
        lines = self._errors.decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""


def safe_environment() -> dict[str, str]:
    """Environment in which Python imports nothing from the current folder, but the same `resnet_cli` as here."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    root = str(Path(__file__).resolve().parents[2])
    if not sys.flags.safe_path and sys.path[0] == root:  # started as `python -m resnet_cli` in a source tree
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment
