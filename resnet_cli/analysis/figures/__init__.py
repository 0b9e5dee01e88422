"""Figures: a registry of kinds, each drawn from the runs of a study; importing it loads neither pandas nor matplotlib.

From Python::

    from resnet_cli.analysis.figures import draw
    from resnet_cli.analysis.frames import load_study

    drawn, skipped = draw(load_study(["runs"], with_metrics=True), ["fig1", "degradation"])
    for one in drawn:
        one.figure.savefig(f"{one.kind}.png")
"""

import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from resnet_cli.analysis.frames import Group, Study
from resnet_cli.errors import InputError, RunFileError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"
SUFFIXES = (".png", ".svg", ".pdf")  # of the image files that can be written


class FigureSpec(NamedTuple):
    """One kind of figure."""

    depth: Literal["small", "large", "all"]  # depth of the runs to draw
    function: str  # `module:name` in this package; takes `FigureData` and the runs and returns a `PlotResult`
    summary: str  # for the help


KINDS: dict[str, FigureSpec] = {
    "fig1": FigureSpec("small", "curves:accuracy_and_loss", "test accuracy and losses at the small depth"),
    "fig2": FigureSpec("large", "curves:accuracy", "test accuracy at the large depth"),
    "fig3": FigureSpec(
        "large", "curves:dynamics", "accuracy, losses, training error and learning rate at the large depth"
    ),
    "fig4": FigureSpec("small", "confusion:confusion_matrices", "confusion matrices at the small depth"),
    "fig5": FigureSpec("large", "confusion:confusion_matrices", "confusion matrices at the large depth"),
    "degradation": FigureSpec("all", "curves:degradation", "errors at every depth, after He et al. 2015, figure 6"),
    "gradflow": FigureSpec("all", "gradients:gradient_flow", "gradient norm of every layer, for runs that recorded it"),
}
"""Kinds of figures by name; fig1 to fig5 are the figures of the report (Shinde 2025)."""


class DrawnFigure(NamedTuple):
    """A figure of one group of runs."""

    kind: str
    group: Group
    figure: "Figure"
    networks: list[str]  # short names of the networks shown
    n_runs: int  # number of runs shown
    left_out: list[str]  # one line for each run of the group that is missing because its file cannot be read


class SkippedFigure(NamedTuple):
    """A figure that cannot be drawn from one group of runs."""

    kind: str
    group: Group
    reason: str  # one line

    def __str__(self) -> str:
        return f"skipped {self.kind} of {self.group.label}: {self.reason}"


def draw(
    study: Study, kinds: Sequence[str] = (ALL,), depths: Sequence[int] | None = None
) -> tuple[list[DrawnFigure], list[SkippedFigure]]:
    """Draw figures; each group (dataset and recipe) has its own set.

    Args:
        study: the runs; loaded with metrics, or metrics.csv is read again for every group.
        kinds: names from `KINDS`; `all` draws every figure that the runs support.
        depths: one or two depths for fig1 to fig5; None: 20 and 56 if available, else the smallest and largest depth.

    Returns:
        Drawn and skipped figures, by group and then in the order of `KINDS`.

    Raises:
        UsageError: an unknown kind, or more than two depths.
        InputError: there is no complete run, no figure can be drawn, or no group supports a kind given by
            name; the message names what is missing.
    """
    from resnet_cli.analysis.figures.figure_data import FigureData, NotDrawableError, networks_of
    from resnet_cli.analysis.figures.style import house_style

    check_kinds(kinds)
    if depths is not None and not 1 <= len(set(depths)) <= 2:
        raise UsageError(f"--depths must be one or two (got {len(set(depths))} depths)", hint="use --depths 20,56")
    study.require_runs()
    drawn, skipped = [], []
    for group, runs in study.groups().items():
        data = FigureData(group, runs, study, depths)
        for kind in [kind for kind in KINDS if kind in kinds or ALL in kinds]:
            if kind == "fig5" and ALL in kinds and data.small_depth == data.large_depth:
                reason = f"{data.large_depth} is the only depth, already shown by fig4"
                skipped.append(SkippedFigure(kind, group, reason))
                continue
            plot = pkgutil.resolve_name(f"{__name__}.{KINDS[kind].function}")
            try:
                with house_style():
                    figure, drawn_runs, left_out = plot(data, data.select(KINDS[kind].depth))
            except (NotDrawableError, RunFileError) as error:
                skipped.append(SkippedFigure(kind, group, str(error)))
            else:
                drawn.append(DrawnFigure(kind, group, figure, networks_of(drawn_runs), len(drawn_runs), left_out))
    drawn_kinds = {figure.kind for figure in drawn}
    for figure in skipped:
        if not drawn or (figure.kind in kinds and figure.kind not in drawn_kinds):
            raise InputError(
                f"cannot draw {figure.kind} of {figure.group.label}: {figure.reason}",
                hint="add the missing runs, or choose other figures with --kind or --depths",
            )
    return drawn, skipped


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `UsageError` for the first of `kinds` that is neither in `KINDS` nor `all`."""
    for kind in kinds:
        if kind not in (*KINDS, ALL):
            raise UsageError(f"unknown figure --kind {kind}", hint=f"use {', '.join(KINDS)} or {ALL}")
