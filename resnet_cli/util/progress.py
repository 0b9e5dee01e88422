"""How long-running code reports progress without knowing who shows it."""

from typing import Protocol


class Progress(Protocol):
    """Called with what is being done, how much of it is done and how much there is (in `unit`)."""

    def __call__(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Take note of the progress."""


def silent(label: str, done: int, total: int, unit: str = "") -> None:
    """The progress nobody watches."""
