"""Data of a figure: the runs of one group, their frame and the depths to show."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.bands import LrDrop, lr_drops
from resnet_cli.analysis.frames import AnyRun, Group, Run, Study, epochs_of
from resnet_cli.analysis.words import recipe_in_words
from resnet_cli.errors import RunFileError

T = TypeVar("T")

Shown = Literal["any", "all", "small", "large", "small pair", "large pair"]
"""Runs in a figure: in any state; complete ones of all depths, or of one; or a plain network and its residual twin."""

REPORT_DEPTHS = (20, 56)  # Shinde 2025, section 2.1


class NotDrawableError(Exception):
    """Runs or measurements for a figure are missing; the message names them."""


class PlotResult(NamedTuple):
    """A figure and the runs in it."""

    figure: Figure
    runs: Sequence[AnyRun]
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
        study: contains the runs.
        depths: one or two depths for the figures of a pair of networks; None: 20 and 56 if there are runs of both,
            else the smallest and the largest depth.
    """

    def __init__(self, group: Group, study: Study, depths: Sequence[int] | None = None) -> None:
        self.group = group
        self.runs = [run for run in study.runs if run.group == group]
        complete = {run.record.run_id for run in self.runs}
        self.unfinished = [run for run in study.unfinished if run.group == group and run.record.run_id not in complete]
        self._metrics = study.metrics
        every = [*self.runs, *self.unfinished]
        there = {run.record.config.depth for run in self.runs or every}
        chosen = depths or (REPORT_DEPTHS if there.issuperset(REPORT_DEPTHS) else there)
        self.small_depth, self.large_depth = min(chosen), max(chosen)
        self._config = every[0].record.config
        self.x_label = "epoch" if self._config.steps is None else "step (thousands)"

    @property
    def title(self) -> str:
        """Dataset and recipe in words, for captions."""
        _, _, initial = self.group.recipe.partition(" init=")
        start = f", from the weights {initial}" if initial else ""
        return f"{self.group.dataset}, {recipe_in_words(self._config)}{start}"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`epochs_frame` of the runs, finished or not, with two more columns.

        `status` is `complete`, or the status of an unfinished run. `x` is the epoch, or thousands of steps if the
        recipe counts steps.

        Raises:
            RunFileError: a metrics.csv cannot be read.
        """
        frame = epochs_of([*self.runs, *self.unfinished], self._metrics)
        status = {str(run.dir.path): "complete" for run in self.runs}
        status |= {str(run.dir.path): run.status for run in self.unfinished}
        x = frame["epoch"].astype(float) if self._config.steps is None else frame["step"] / 1000
        return frame.assign(x=x, status=frame["path"].map(status))

    @cached_property
    def paths(self) -> set[str]:
        """The paths of the runs that have rows in `frame`."""
        return set(self.frame["path"].unique())

    def rows(self, runs: Sequence[AnyRun]) -> pd.DataFrame:
        """Select the rows of `runs` in `frame`; raise `NotDrawableError` if a run has no rows."""
        paths = [str(run.dir.path) for run in runs]
        for path, run in zip(paths, runs, strict=True):
            if path not in self.paths:
                raise NotDrawableError(f"{run.dir.metrics_path} has no rows")
        return self.frame if len(self.paths) == len(paths) else self.frame[self.frame["path"].isin(paths)]

    def lr_drops(self, frame: pd.DataFrame) -> list[LrDrop]:
        """Find drops of the learning rate in the rows of `frame`, in the unit of `x`."""
        scale = 1 if self._config.steps is None else 1000
        milestones = [milestone / scale for milestone in self._config.milestones]
        return lr_drops(frame, "x", milestones)

    def select(self, shown: Shown) -> list[Run]:
        """Select the complete runs of a figure.

        Raises:
            NotDrawableError: no run is complete, or a pair of networks lacks an architecture.
        """
        if shown in ("any", "all"):
            return self.runs
        depth = self.depth(shown)
        runs = [run for run in self.runs if run.record.config.depth == depth]
        archs = {run.record.config.arch for run in runs}
        needed = ("plain", "resnet") if "pair" in shown else ()
        if missing := [f"{arch}-{depth}" for arch in needed if arch not in archs]:
            raise NotDrawableError(f"no complete run of {' and '.join(missing)}")
        if not runs:
            raise NotDrawableError(f"no complete run of depth {depth}")
        return runs

    def is_shown_by_curves(self, kind: str) -> bool:
        """Whether a figure adds nothing to the curves of all runs, because they are those of one network or pair."""
        if kind == "dynamics":
            return not self.unfinished and {run.record.config.depth for run in self.runs} == {self.large_depth}
        return kind == "degradation" and len({run.network for run in self.runs}) == 1

    def depth(self, shown: Shown) -> int | None:
        """The depth that a figure shows; None for all depths."""
        if shown in ("any", "all"):
            return None
        return self.small_depth if "small" in shown else self.large_depth


def networks_of(runs: Iterable[AnyRun]) -> list[str]:
    """List the networks of `runs`: plain before residual, by depth, option A before B."""
    keys = {(run.record.config.arch, run.record.config.depth, run.record.config.shortcut): run for run in runs}
    return [keys[key].network for key in sorted(keys)]


def seeds_text(runs: Sequence[AnyRun]) -> str:
    """Seeds for a caption: `plain-56, seed 3` of a single run, `3 seeds each`, or `1 to 3 seeds each`."""
    if len(runs) == 1:
        return f"{runs[0].network}, seed {runs[0].seed}"
    counts = sorted(len({run.seed for run in runs if run.network == network}) for network in networks_of(runs))
    if counts[-1] == 1:
        return "1 seed each"
    return f"{counts[0]} seeds each" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} seeds each"
