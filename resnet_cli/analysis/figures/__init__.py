"""Figures: a registry of kinds, each drawn from the runs of a study; importing it loads neither pandas nor matplotlib.

From Python::

    from resnet_cli.analysis.figures import draw
    from resnet_cli.analysis.frames import load_study

    drawn, skipped = draw(load_study(["runs"], with_metrics=True), ["curves", "degradation"])
    for one in drawn:
        one.figure.savefig(f"{one.name}.png")
"""

import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from resnet_cli.analysis.frames import Group, Study
from resnet_cli.errors import InputError, RunFileError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_cli.analysis.figures.figure_data import FigureData, Shown

ALL = "all"
SUFFIXES = (".png", ".svg", ".pdf")  # of the image files that can be written
_MAX_REASONS = 3


class FigureSpec(NamedTuple):
    """One kind of figure."""

    shows: "tuple[Shown, ...]"  # runs to draw, one figure each
    function: str  # `module:name` in this package; takes `FigureData` and the runs and returns a `PlotResult`
    summary: str  # for the help


KINDS: dict[str, FigureSpec] = {
    "curves": FigureSpec(
        ("any",), "curves:curves", "accuracy, loss, training error and learning rate of all runs, also unfinished ones"
    ),
    "convergence": FigureSpec(
        ("small pair",), "curves:convergence", "accuracy and losses of a plain and a residual network, small depth"
    ),
    "accuracy": FigureSpec(
        ("large pair",), "curves:accuracy", "test accuracy of a plain and a residual network, large depth"
    ),
    "dynamics": FigureSpec(("large pair",), "curves:dynamics", "curves of a plain and a residual network, large depth"),
    "confusion": FigureSpec(
        ("small pair", "large pair"), "confusion:confusion_matrices", "confusion matrices, small and large depth"
    ),
    "degradation": FigureSpec(
        ("all",), "degradation:degradation", "errors at every depth, after He et al. 2015, figure 6"
    ),
    "gradients": FigureSpec(
        ("small", "large"), "gradients:gradient_flow", "gradients per layer and block, small and large depth"
    ),
}
"""Kinds of figures by name."""

ALIASES: "dict[str, tuple[str, Shown]]" = {
    "fig1": ("convergence", "small pair"),
    "fig2": ("accuracy", "large pair"),
    "fig3": ("dynamics", "large pair"),
    "fig4": ("confusion", "small pair"),
    "fig5": ("confusion", "large pair"),
}
"""The figures of the report (Shinde 2025) by number."""


class DrawnFigure(NamedTuple):
    """A figure of one group of runs."""

    name: str  # `degradation`, or with the depth: `confusion-56`
    kind: str
    report_figure: str | None  # `fig1` to `fig5`
    group: Group
    figure: "Figure"
    networks: list[str]  # short names of the networks shown
    n_runs: int  # number of runs shown
    left_out: list[str]  # one line for each run of the group that is missing because its file cannot be read


class SkippedFigure(NamedTuple):
    """A figure that cannot be drawn from one group of runs."""

    name: str
    kind: str
    group: Group
    reason: str  # one line


def draw(
    study: Study, kinds: Sequence[str] = (ALL,), depths: Sequence[int] | None = None
) -> tuple[list[DrawnFigure], list[SkippedFigure]]:
    """Draw figures; each group (dataset and recipe) has its own set.

    Args:
        study: the runs; loaded with metrics, or metrics.csv is read again for every group.
        kinds: names from `KINDS` or `ALIASES`; `all` draws every figure that the runs support.
        depths: one or two depths for figures of a pair of networks and of gradients; None: 20 and 56 if available,
            else the smallest and largest depth.

    Returns:
        Drawn and skipped figures, by group and then in the order of `KINDS`.

    Raises:
        UsageError: an unknown kind, or more than two depths.
        InputError: there is no suitable run, no figure can be drawn, or no group supports a kind given by
            name; the message names what is missing.
    """
    from resnet_cli.analysis.figures.figure_data import FigureData

    check_kinds(kinds)
    if depths is not None and not 1 <= len(set(depths)) <= 2:
        raise UsageError(f"--depths must be one or two (got {len(set(depths))} depths)", hint="use --depths 20,56")
    wanted = _wanted(kinds)
    if not (study.unfinished and any(shown == "any" for _, shown in wanted)):
        study.require_runs()
    drawn: list[DrawnFigure] = []
    skipped: list[SkippedFigure] = []
    for group in figure_groups(study):
        data = FigureData(group, study, depths)
        # one figure if the small and the large depth are the same
        distinct = {(kind, data.depth(shown)): (kind, shown) for kind, shown in reversed(wanted)}
        for kind, shown in reversed(distinct.values()):
            if (not data.runs and shown != "any") or (ALL in kinds and data.is_shown_by_curves(kind)):
                continue
            result = _draw(data, kind, shown)
            if isinstance(result, DrawnFigure):
                drawn.append(result)
            else:
                skipped.append(result)
    for missing in skipped:
        if not drawn or (ALL not in kinds and missing.kind not in {figure.kind for figure in drawn}):
            raise InputError(
                f"cannot draw {missing.name} of {missing.group.label}: {missing.reason}",
                hint="add the missing runs, or choose other figures with --kind or --depths",
            )
    return drawn, skipped


def figure_groups(study: Study) -> list[Group]:
    """The groups of a study that can have figures: those of complete runs, and of unfinished ones."""
    return sorted({run.group for run in (*study.runs, *study.unfinished)})


def describe_skipped(skipped: Sequence[SkippedFigure]) -> str:
    """One line about the figures that were not drawn, with the most frequent reasons."""
    names: dict[str, list[str]] = {}
    for figure in skipped:
        names.setdefault(figure.reason, []).append(figure.name)
    reasons = sorted(names, key=lambda reason: -len(names[reason]))
    parts = [f"{', '.join(dict.fromkeys(names[reason]))} ({reason})" for reason in reasons[:_MAX_REASONS]]
    if len(reasons) > _MAX_REASONS:
        parts.append(f"and others; --json lists all {len(skipped)}")
    return f"not drawn: {'; '.join(parts)}"


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `UsageError` for the first of `kinds` that is not in `KINDS` or `ALIASES` and is not `all`."""
    for kind in kinds:
        if kind not in (*KINDS, *ALIASES, ALL):
            raise UsageError(f"unknown figure --kind {kind}", hint=f"use {', '.join([*KINDS, *ALIASES])} or {ALL}")


def _wanted(kinds: Sequence[str]) -> "list[tuple[str, Shown]]":
    """The figures that `kinds` names, each once, in the order of `KINDS`."""
    every = [(name, shown) for name, spec in KINDS.items() for shown in spec.shows]
    named = {ALIASES[kind] for kind in kinds if kind in ALIASES}
    return [figure for figure in every if figure in named or figure[0] in kinds or ALL in kinds]


def _draw(data: "FigureData", kind: str, shown: "Shown") -> DrawnFigure | SkippedFigure:
    from resnet_cli.analysis.figures.figure_data import NotDrawableError, networks_of
    from resnet_cli.analysis.figures.style import house_style

    depth = data.depth(shown)
    name = kind if depth is None else f"{kind}-{depth}"
    plot = pkgutil.resolve_name(f"{__name__}.{KINDS[kind].function}")
    try:
        with house_style():
            figure, runs, left_out = plot(data, data.select(shown))
    except (NotDrawableError, RunFileError) as error:
        return SkippedFigure(name, kind, data.group, str(error))
    number = next((alias for alias, figure in ALIASES.items() if figure == (kind, shown)), None)
    return DrawnFigure(name, kind, number, data.group, figure, networks_of(runs), len(runs), left_out)
