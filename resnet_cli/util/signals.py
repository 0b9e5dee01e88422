"""Stop signals: a flag that training checks between steps, and their way from a parent process to its child."""

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any, Self

# Ctrl-C, the usual signal of schedulers, and SLURM's --signal=USR1
_STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


PARENT_PIPE_VARIABLE = "_RESNET_PARENT_PIPE"
"""Environment variable of a child process: descriptor of a pipe that closes when the parent ends, however it ends."""


class StopFlag:
    """Context in which the first stop signal sets `signal_name`; a second one has its usual effect.

    Outside the main thread, where Python cannot handle signals, the flag is never set.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


class SignalForwarder(StopFlag):
    """Context that sets `signal_name` and passes every stop signal on to a child process, which decides what to do."""

    def __init__(self) -> None:
        super().__init__()
        self.child: subprocess.Popen[bytes] | None = None

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
        if self.child is not None:
            self.child.send_signal(number)


def stop_with_parent() -> None:
    """Let this process stop as by SIGTERM when the parent that launched it ends, even by SIGKILL."""
    descriptor = os.environ.pop(PARENT_PIPE_VARIABLE, None)
    if descriptor is None:
        return

    def wait() -> None:
        os.read(int(descriptor), 1)  # returns when the last writing end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
