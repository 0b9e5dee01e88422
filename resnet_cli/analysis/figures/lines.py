"""Elements shared by figures with curves: runs and their intervals, axes, vertical rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.bands import MIN_SEEDS, seed_bands
from resnet_cli.analysis.figures.style import RULE, SMALL_POINTS, network_style
from resnet_cli.analysis.stats import MAX_SEEDS_SHOWN

UNFINISHED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "running": ("still training", {"marker": ">", "markerfacecolor": "white"}),
    "incomplete": ("interrupted", {"marker": "s", "markerfacecolor": "white"}),
    "diverged": ("diverged", {"marker": "X"}),
}
"""Name and end marker of the curve of a run that is not complete, by status."""

# An axis that becomes longer by less than this factor flattens the curves too little to cut anything off.
_LITTLE_ROOM = 1.2
_MARKER: Mapping[str, Any] = {"markersize": 4.0, "markeredgewidth": 0.8, "linestyle": "none"}


def draw_runs(axes: Axes, frame: pd.DataFrame, measure: str, linestyle: Any, **line: Any) -> pd.DataFrame:
    """Draw a measure of every network against `x`: each seed, or from `MIN_SEEDS` on the mean with its interval.

    Up to ten seeds behind a mean are drawn as thin lines. Unfinished runs are drawn on their own, with a marker at
    their end, and are not part of a mean.

    Args:
        axes: target; lines are labelled with the network, intervals with network and measure.
        frame: one row per run and `x`, with columns network, seed, path, status, x and `measure`.
        measure: column to draw.
        linestyle: matplotlib line style; it identifies the measure, as colour identifies the network.
        line: further line properties.

    Returns:
        The lines drawn: columns network, x and value.
    """
    values = frame[["network", "seed", "path", "status", "x", measure]].rename(columns={measure: "value"})
    values = values.replace([np.inf, -np.inf], np.nan).dropna()
    drawn = []
    num_seeds = values[values["status"] == "complete"].groupby("network")["seed"].nunique()
    is_averaged = (values["status"] == "complete") & (values["network"].map(num_seeds) >= MIN_SEEDS)
    bands = seed_bands(values[is_averaged], "x", "value")
    # Many overlapping intervals would hide the lines.
    alpha = 0.18 if bands["network"].nunique() <= 2 else 0.09
    for network, band in ((str(name), band) for name, band in bands.groupby("network", sort=False)):
        _draw_line(axes, network, band["x"], band["mean"], linestyle, line)
        color, label = network_style(network).color, f"{network} {measure}"
        axes.fill_between(band["x"], band["low"], band["high"], color=color, alpha=alpha, linewidth=0, label=label)
        drawn.append(band.rename(columns={"mean": "value"})[["network", "x", "value"]])
        if num_seeds[network] <= MAX_SEEDS_SHOWN:
            for _, rows in values[is_averaged & (values["network"] == network)].groupby("path"):
                axes.plot(rows["x"], rows["value"], color=color, linewidth=0.35, alpha=0.5, zorder=1.5, label="_seed")
    for _, rows in values[~is_averaged].groupby("path", sort=False):
        end = rows.iloc[-1]
        network, status = str(end["network"]), str(end["status"])
        # several thick lines of one colour would hide each other
        width = network_style(network).line_width * (0.6 if num_seeds.get(network, 1) > 1 else 1.0)
        _draw_line(axes, network, rows["x"], rows["value"], linestyle, {"linewidth": width, **line})
        if status in UNFINISHED:
            style = {**_MARKER, **UNFINISHED[status][1], "color": network_style(network).color}
            axes.plot([end["x"]], [end["value"]], **style, clip_on=False, zorder=4, label=f"_{status}")
        drawn.append(rows[["network", "x", "value"]])
    return pd.concat(drawn, ignore_index=True) if drawn else values[["network", "x", "value"]]


def _draw_line(axes: Axes, network: str, x: pd.Series, y: pd.Series, linestyle: Any, line: Mapping[str, Any]) -> None:
    style = network_style(network)
    few = {"marker": style.marker, "markersize": 3.0} if len(x) == 1 else {}
    crowded = {"markevery": max(1, len(x) // 20)} if "marker" in line else {}
    axes.plot(
        x.to_numpy(), y.to_numpy(), color=style.color, linestyle=linestyle, label=network,
        # thin lines over thick ones, which would hide them
        **{"linewidth": style.line_width, "zorder": 2 - 0.1 * style.line_width, **few, **crowded, **line},
    )  # fmt: skip


def from_zero(axes: Axes, drawn: Sequence[pd.DataFrame], share: float) -> None:
    """Start the y axis at 0 and show at least `share` of the lines of every network, or all if they need little room.

    Args:
        axes: target.
        drawn: as returned by `draw_runs`.
        share: of the points of each line, up to 1.
    """
    # "higher" cuts nothing off a short run, whose first epoch is one of ten.
    by_network = [lines.groupby("network")["value"] for lines in drawn if len(lines)]
    top = max((float(values.quantile(share, interpolation="higher").max()) for values in by_network), default=0) or 1
    highest = max((float(values.max().max()) for values in by_network), default=0)
    top = highest if highest <= _LITTLE_ROOM * top else top
    axes.set_ylim(-0.015 * top, 1.05 * top)  # keeps a line at 0 above the axis


def set_epoch_axis(axes: Axes, first: float, last: float, margin: float = 0.0) -> None:
    """Let the x axis start at the first epoch and end `margin` (a share of its length) after the last one."""
    length = (last - first) or 1.0
    is_point = first == last
    axes.set_xlim(first - 0.5 * is_point, last + 0.5 * is_point + margin * length)
    ticks = MaxNLocator(6, integer=True, min_n_ticks=1).tick_values(first, last)
    inside = [float(tick) for tick in ticks if first + 0.06 * length < tick <= last]
    axes.set_xticks([first, *inside] if first.is_integer() else inside)


def mark(axes: Axes, x: float, label: str | None) -> None:
    """Draw a thin vertical rule at `x`, and `label` above the axis."""
    axes.axvline(x, color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5, label="_rule")
    if label:
        write_above(axes, x, label)


def write_above(axes: Axes, x: float, label: str) -> None:
    """Write `label` above the axis at `x`."""
    axes.annotate(
        label, (x, 1), (0, 1.5), xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="center", va="bottom", size=SMALL_POINTS, color=RULE, annotation_clip=False,
    )  # fmt: skip
