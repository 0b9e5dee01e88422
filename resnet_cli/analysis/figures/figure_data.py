"""Data of a figure: the runs of one group, their frame and the depths to show."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.bands import LrDrop, lr_drops
from resnet_cli.analysis.frames import Group, Run, Study, epochs_frame
from resnet_cli.errors import RunFileError

T = TypeVar("T")

REPORT_DEPTHS = (20, 56)  # Shinde 2025, section 2.1


class NotDrawableError(Exception):
    """Runs or measurements for a figure are missing; the message names them."""


class PlotResult(NamedTuple):
    """A figure and the runs in it."""

    figure: Figure
    runs: list[Run]
    left_out: list[str]  # one line for each run that is missing because its file cannot be read


def read_each(runs: Iterable[Run], read: Callable[[Run], T]) -> tuple[list[tuple[Run, T]], list[str]]:
    """Call `read` for every run; return its results, and the error messages of runs with a damaged file."""
    found: list[tuple[Run, T]] = []
    left_out = []
    for run in runs:
        try:
            found.append((run, read(run)))
        except RunFileError as error:
            left_out.append(str(error))
    return found, left_out


class FigureData:
    """The runs of one group.

    Args:
        group: dataset and recipe of the runs.
        runs: complete runs.
        study: contains the runs.
        depths: one or two depths for Figures 1 to 5; None: 20 and 56 if there are runs of both,
            else the smallest and the largest depth.
    """

    def __init__(self, group: Group, runs: Sequence[Run], study: Study, depths: Sequence[int] | None = None) -> None:
        self.group = group
        self.runs = list(runs)
        self._metrics = study.metrics
        there = {run.record.config.depth for run in runs}
        chosen = depths or (REPORT_DEPTHS if there.issuperset(REPORT_DEPTHS) else there)
        self.small_depth, self.large_depth = min(chosen), max(chosen)
        self._counts_steps = runs[0].record.config.steps is not None
        self.x_label = "step (thousands)" if self._counts_steps else "epoch"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`epochs_frame` of the runs with a column `x`: the epoch, or thousands of steps if the recipe counts steps.

        Raises:
            RunFileError: a metrics.csv cannot be read.
        """
        frame = epochs_frame(Study(self.runs, [], self._metrics))
        return frame.assign(x=frame["step"] / 1000 if self._counts_steps else frame["epoch"].astype(float))

    def rows(self, runs: Sequence[Run]) -> pd.DataFrame:
        """Select the rows of `runs` in `frame`; raise `NotDrawableError` if a run has no rows."""
        there = set(self.frame["path"])
        for run in runs:
            if str(run.dir.path) not in there:
                raise NotDrawableError(f"{run.dir.metrics_path} has no rows")
        return self.frame[self.frame["path"].isin([str(run.dir.path) for run in runs])]

    def lr_drops(self, frame: pd.DataFrame) -> list[LrDrop]:
        """Find drops of the learning rate in the rows of `frame`, in the unit of `x`."""
        scale = 1000 if self._counts_steps else 1
        milestones = [milestone / scale for milestone in self.runs[0].record.config.milestones]
        return lr_drops(frame, "x", milestones)

    def select(self, which: str) -> list[Run]:
        """Select `all` runs, or those of the `small` or `large` depth, which need both architectures.

        Raises:
            NotDrawableError: an architecture is missing.
        """
        if which == "all":
            return self.runs
        depth = self.small_depth if which == "small" else self.large_depth
        runs = [run for run in self.runs if run.record.config.depth == depth]
        there = {run.record.config.arch for run in runs}
        if missing := [f"{arch}-{depth}" for arch in ("plain", "resnet") if arch not in there]:
            raise NotDrawableError(f"no complete run of {' and '.join(missing)}")
        return runs


def networks_of(runs: Iterable[Run]) -> list[str]:
    """List the networks of `runs`: plain before residual, by depth, option A before B."""
    keys = {(run.record.config.arch, run.record.config.depth, run.record.config.shortcut): run for run in runs}
    return [keys[key].network for key in sorted(keys)]


def seeds_text(runs: Sequence[Run]) -> str:
    """Number of seeds per network, for a caption: `1 seed`, `3 seeds each`, `1 to 3 seeds each`."""
    counts = sorted(sum(run.network == network for run in runs) for network in networks_of(runs))
    if counts[-1] == 1:
        return "1 seed each" if len(counts) > 1 else "1 seed"
    return f"{counts[0]} seeds each" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} seeds each"
