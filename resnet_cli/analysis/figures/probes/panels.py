"""Panels that several probe figures share: bands over repetitions, and one map per network."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator

from resnet_cli.analysis.figures.style import letter_panels, network_style, new_figure
from resnet_cli.util.text import printable, shorten

MAX_MAPS = 4
"""Number of networks that get a map of their own: more would be too small to read."""

COLOR_MAP = "cividis"  # readable with every kind of colour blindness

_ROW_INCHES = 2.2


def curves_and_maps(
    frame: pd.DataFrame, draw_map: Callable[[Axes, pd.DataFrame], None], colors: Normalize, label: str
) -> tuple[Figure, list[Axes]]:
    """Create a figure with two free panels above a map of the first run of each network, up to `MAX_MAPS`.

    Args:
        frame: rows of a probe.
        draw_map: draws the rows of one network with `colors` and the colour map `COLOR_MAP`.
        colors: scale of the colour bar.
        label: label of the colour bar.

    Returns:
        The figure and its two free panels.
    """
    figure, panels = new_figure(2, MAX_MAPS, 2 * _ROW_INCHES)
    firsts = frame.groupby("network", sort=False)["label"].first().head(MAX_MAPS)
    for axes, run in zip(panels[MAX_MAPS:], firsts, strict=False):
        draw_map(axes, frame[frame["label"] == run])
        axes.set_title(shorten(printable(str(run)), 22), parse_math=False)
    for axes in [*panels[:MAX_MAPS], *panels[MAX_MAPS + len(firsts) :]]:
        axes.remove()
    grid, half = figure.axes[0].get_gridspec(), MAX_MAPS // 2
    assert grid is not None  # `new_figure` places its panels on one
    bar = figure.colorbar(ScalarMappable(colors, COLOR_MAP), ax=figure.axes, location="bottom", label=label, aspect=60)
    if isinstance(colors, LogNorm):
        assert colors.vmin is not None
        assert colors.vmax is not None
        is_short = colors.vmax < 1000 * colors.vmin
        bar.locator = LogLocator(subs=(1, 2, 5) if is_short else (1,))
        bar.formatter = FormatStrFormatter("%g")
        bar.minorticks_off()
        bar.update_ticks()
    free = [figure.add_subplot(grid[0, :half]), figure.add_subplot(grid[0, half:])]
    letter_panels([*free, *panels[MAX_MAPS : MAX_MAPS + len(firsts)]])
    return figure, free


def draw_ranges(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, low: str | None = None, high: str | None = None
) -> None:
    """Draw the mean of `y` at each `x` for every network, and shade its range over repetitions.

    Args:
        axes: target.
        frame: one row per `x` and repetition (run, line, direction …), with the column network.
        x: column on the horizontal axis.
        y: column on the vertical axis.
        low: column with the lower end of each value's interval; the range then covers the intervals.
        high: column with the upper end.
    """
    for network, rows in frame.groupby("network", sort=False):
        style = network_style(str(network))
        points = rows.groupby(x).agg(mean=(y, "mean"), low=(low or y, "min"), high=(high or y, "max"))
        axes.plot(points.index, points["mean"], color=style.color, linewidth=style.line_width, label=str(network))
        axes.fill_between(points.index, points["low"], points["high"], color=style.color, alpha=0.18, linewidth=0)
