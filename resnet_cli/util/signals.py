"""Stop signals: a flag that training checks between steps, and their way from a parent process to its children."""

import signal
import threading
from types import FrameType
from typing import Any, Protocol, Self

from resnet_cli.errors import InterruptedByUserError, StoppedError

# Ctrl-C, the usual signal of schedulers, and SLURM's --signal=USR1
_STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StopFlag:
    """Context in which the first stop signal sets `signal_name`; a second one has its usual effect.

    Outside the main thread, where Python cannot handle signals, the flag is never set.

    Args:
        ignores_more: later signals have no effect.
    """

    def __init__(self, *, ignores_more: bool = False) -> None:
        self.signal_name: str | None = None
        self._ignores_more = ignores_more
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
        if not self._ignores_more:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


class StopInterrupt(StopFlag):
    """Context in which the first stop signal ends the work at once, with an error; a second one has its usual effect.

    Args:
        hint: how to continue.

    Raises:
        StoppedError: a stop signal arrived.
    """

    def __init__(self, hint: str) -> None:
        super().__init__()
        self._hint = hint

    def _handle(self, number: int, frame: FrameType | None) -> None:
        super()._handle(number, frame)
        raise KeyboardInterrupt  # unlike an `Exception`, it passes through libraries that ignore errors

    def __exit__(self, *exception: object) -> None:
        super().__exit__()
        if exception[0] is KeyboardInterrupt and self.signal_name:
            raise stopped(self.signal_name, self._hint) from None


def stopped(signal_name: str, hint: str) -> StoppedError:
    """The error for work that a signal stopped."""
    kind = InterruptedByUserError if signal_name == "SIGINT" else StoppedError
    return kind(f"stopped by {signal_name}", hint=hint)


class Receiver(Protocol):
    """A child process that signals are passed on to, such as `subprocess.Popen`."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""


class SignalForwarder(StopFlag):
    """Context that passes the first stop signal on to child processes, which save and end; a second one kills them."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Receiver] = []

    def add(self, child: Receiver) -> None:
        """Pass signals on to `child` too, from the one that may have arrived while it started."""
        self.children.append(child)
        if self.signal_name:
            child.send_signal(signal.Signals[self.signal_name])

    def _handle(self, number: int, _: FrameType | None) -> None:
        is_first = self.signal_name is None
        self.signal_name = self.signal_name or signal.Signals(number).name
        for child in self.children:
            child.send_signal(number if is_first else signal.SIGKILL)
