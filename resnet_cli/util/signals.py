"""Turn stop signals into a flag that training checks between steps."""

import signal
import threading
from types import FrameType
from typing import Any, Self

# Ctrl-C, the usual signal of schedulers, and SLURM's --signal=USR1
_STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


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
