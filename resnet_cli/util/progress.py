"""Progress callbacks of long-running functions."""

from typing import Protocol


class Progress(Protocol):
    """Callback that receives a label, and how much of the total is done, in `unit`."""

    def __call__(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Receive progress."""


def silent(label: str, done: int, total: int, unit: str = "") -> None:
    """Ignore progress."""
