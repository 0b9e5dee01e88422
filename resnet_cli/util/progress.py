"""Progress callbacks of long-running functions."""

import os
from typing import NamedTuple, Protocol, Self


class Progress(Protocol):
    """Callback that receives a label, and how much of the total is done, in `unit`."""

    def __call__(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Receive progress."""


def silent(label: str, done: int, total: int, unit: str = "") -> None:
    """Ignore progress."""


class StudyPosition(NamedTuple):
    """Position of one run in a study, which the process of the study passes to that of the run."""

    number: int
    """From 1."""
    num_runs: int
    done: float
    """Part of the work of the study (0 to 1) that is done, without this run."""
    share: float
    """Part of the work of the study that this run is."""

    def to_environment(self) -> dict[str, str]:
        """The environment variable that `from_environment` reads."""
        return {_POSITION_VARIABLE: " ".join(map(str, self))}

    @classmethod
    def from_environment(cls) -> Self | None:
        """The position of the run of this process; None if it was not launched by a study."""
        try:
            number, num_runs, done, share = os.environ[_POSITION_VARIABLE].split()
            return cls(int(number), int(num_runs), float(done), float(share))
        except (KeyError, ValueError):
            return None


_POSITION_VARIABLE = "_RESNET_STUDY_POSITION"
