"""Messages from a child process to the study that launched it, over a socket that closes when either of them ends."""

import contextlib
import os
import signal
import socket
import threading
import time

import msgspec

from resnet_cli.rundir.records import EpochMetrics

VARIABLE = "_RESNET_CHANNEL"
"""Environment variable of a child process: the descriptor of its socket."""

_SECONDS_BETWEEN_POSITIONS = 0.5


class Position(msgspec.Struct, frozen=True, tag=True):
    """Progress of a task."""

    done: float
    """Part of the task that is done (0 to 1)."""
    activity: str
    """What the process is doing: `epoch 3/20`, `decoding images`."""
    images_per_second: float | None = None
    train_error_pct: float | None = None
    """Training error of the epoch so far."""


class EpochEnd(msgspec.Struct, frozen=True, tag=True):
    """The end of an epoch."""

    num_epochs: int
    metrics: EpochMetrics


class Warned(msgspec.Struct, frozen=True, tag=True):
    """A warning for the user."""

    text: str


Message = Position | EpochEnd | Warned


class Channel:
    """The end of the socket in a child process."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._next_position = 0.0

    def send(self, message: Message) -> None:
        """Send a message; positions only twice per second, and nothing to a study that is gone or does not read."""
        now = time.monotonic()
        if isinstance(message, Position):
            if now < self._next_position:
                return
            self._next_position = now + _SECONDS_BETWEEN_POSITIONS
        with contextlib.suppress(OSError):
            self._end.send(msgspec.json.encode(message) + b"\n", socket.MSG_DONTWAIT)

    def stop_with_study(self) -> None:
        """Let this process stop as by SIGTERM when the study ends, even by SIGKILL."""

        def wait() -> None:
            with contextlib.suppress(OSError):
                self._end.recv(1)  # the study sends nothing: returns when its end is closed
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()


_channel: Channel | None = None


def connect() -> None:
    """Connect this process with the study that launched it, if there is one, and let it stop with the study."""
    global _channel  # noqa: PLW0603 - a process has one parent
    descriptor = os.environ.pop(VARIABLE, None)
    if descriptor is not None:
        end = socket.socket(fileno=int(descriptor))
        end.set_inheritable(False)
        _channel = Channel(end)
        _channel.stop_with_study()


def channel() -> Channel | None:
    """The channel to the study that launched this process; None without a study."""
    return _channel
