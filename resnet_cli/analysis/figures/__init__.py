"""The figures: a registry of kinds, each drawn from a study's runs; importing this loads neither pandas nor matplotlib.

From Python::

    from pathlib import Path
    from resnet_cli.analysis import figures
    from resnet_cli.analysis.frames import load_study

    for kind, group, figure in figures.draw(load_study(["runs"], with_metrics=True), ["fig1", "degradation"]):
        figures.save(figure, Path(f"{kind}.png"))
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resnet_cli.analysis.frames import Group, Study
from resnet_cli.errors import InputError, RunFileError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_cli.analysis.figures.figure_data import FigureData, PlotResult

ALL = "all"


class FigureSpec(NamedTuple):
    """One kind of figure."""

    summary: str
    """What it shows, for the help."""
    module: str
    function: str
    """Takes a `FigureData` and returns a `PlotResult`."""


KINDS: dict[str, FigureSpec] = {
    "fig1": FigureSpec("test accuracy and losses at the small depth", "curves", "small_dynamics"),
    "fig2": FigureSpec("test accuracy at the large depth", "curves", "large_accuracy"),
    "fig3": FigureSpec(
        "accuracy, losses, training error and learning rate at the large depth", "curves", "large_dynamics"
    ),
    "fig4": FigureSpec("confusion matrices at the small depth", "confusion", "small_confusion"),
    "fig5": FigureSpec("confusion matrices at the large depth", "confusion", "large_confusion"),
    "degradation": FigureSpec("errors of every depth, after He et al. 2015, figure 6", "curves", "degradation"),
    "gradflow": FigureSpec("gradient norm of every layer, for runs that recorded it", "gradients", "gradient_flow"),
}
"""Kinds of figures by name; fig1 to fig5 are the report's (Shinde 2025)."""


class DrawnFigure(NamedTuple):
    """A figure of one group of runs."""

    kind: str
    group: Group
    figure: "Figure"
    networks: list[str]
    """Short names of the networks in it."""
    n_runs: int
    """Number of runs in it."""
    left_out: list[str]
    """Why runs of the group are not in it, whose files for it cannot be read; one line each."""


class SkippedFigure(NamedTuple):
    """A figure that one group of runs does not suffice for."""

    kind: str
    group: Group
    reason: str
    """One line."""


def draw(
    study: Study, kinds: Sequence[str] = (ALL,), depths: Sequence[int] | None = None
) -> "list[tuple[str, Group, Figure]]":
    """Draw figures; groups (datasets, recipes) are never mixed, so each has its own set.

    Args:
        study: the runs; loaded with metrics, or they are read again for every group.
        kinds: names of `KINDS`; `all` draws those that the runs suffice for.
        depths: one or two depths that fig1 to fig5 show; None: 20 and 56, else the smallest and largest there are.

    Returns:
        FigureSpec, group and figure, by group and then in the order of `KINDS`. Pass the figure to `save`.

    Raises:
        UsageError: an unknown kind, or more than two depths.
        InputError: there is no complete run, no figure can be drawn, or no group suffices for a kind that
            was named; the message says what is missing.
    """
    figures, _ = draw_or_explain(study, kinds, depths)
    return [(drawn.kind, drawn.group, drawn.figure) for drawn in figures]


def draw_or_explain(
    study: Study, kinds: Sequence[str] = (ALL,), depths: Sequence[int] | None = None
) -> tuple[list[DrawnFigure], list[SkippedFigure]]:
    """As `draw`, and why the other figures were not drawn."""
    check_kinds(kinds)
    if depths is not None and not 1 <= len(set(depths)) <= 2:
        raise UsageError(f"{len(set(depths))} depths were given", hint="give a small and a large one")
    if not study.runs:
        found = f"{len(study.skipped)} run{'' if len(study.skipped) == 1 else 's'}"
        raise InputError(f"none of the {found} found is complete", hint="finish one with resnet train")
    wanted = [kind for kind in KINDS if ALL in kinds or kind in kinds]
    figures, missing = [], []
    for outcome in _draw_each(study, wanted, depths, is_all=ALL in kinds):
        if isinstance(outcome, DrawnFigure):
            figures.append(outcome)
        else:
            missing.append(outcome)
    drawn = {figure.kind for figure in figures}
    for not_drawn in missing:
        if not figures or (not_drawn.kind in kinds and not_drawn.kind not in drawn):
            raise InputError(
                f"{not_drawn.kind} of {not_drawn.group.label} cannot be drawn: {not_drawn.reason}",
                hint="name the runs that have it, or choose other figures with --kind or --depths",
            )
    return figures, missing


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `UsageError` for the first of `kinds` that is neither in `KINDS` nor `all`."""
    for kind in kinds:
        if kind not in (*KINDS, ALL):
            raise UsageError(f"--kind {kind!r} is not a figure", hint=f"use {', '.join(KINDS)} or {ALL}")


def save(figure: "Figure", path: Path) -> None:
    """Write `figure` to `path` as its suffix says: .png (300 dpi), .svg (text stays text) or .pdf.

    Equal figures give equal bytes. The file is written atomically; its folder must exist.

    Raises:
        ValueError: another suffix.
        OSError: as the file system gives it.
    """
    from resnet_cli.analysis.figures import style

    style.save(figure, path)


def _draw_each(
    study: Study, kinds: Sequence[str], depths: Sequence[int] | None, *, is_all: bool
) -> "Iterator[DrawnFigure | SkippedFigure]":
    from resnet_cli.analysis.figures.figure_data import FigureData, NotDrawableError, networks_of
    from resnet_cli.analysis.figures.style import house_style

    for group, runs in study.groups().items():
        data = FigureData(group, runs, study, depths)
        for kind in kinds:
            if kind == "fig5" and is_all and data.small_depth == data.large_depth:
                yield SkippedFigure(kind, group, f"{data.large_depth} is the only depth, which fig4 shows")
                continue
            try:
                with house_style():
                    drawing = _drawer(kind)(data)
            except (NotDrawableError, RunFileError) as error:
                yield SkippedFigure(kind, group, str(error))
            else:
                names, left_out = networks_of(drawing.runs), list(drawing.left_out)
                yield DrawnFigure(kind, group, drawing.figure, names, len(drawing.runs), left_out)


def _drawer(kind: str) -> "Callable[[FigureData], PlotResult]":
    module = importlib.import_module(f"resnet_cli.analysis.figures.{KINDS[kind].module}")
    drawer: Callable[[FigureData], PlotResult] = getattr(module, KINDS[kind].function)
    return drawer
