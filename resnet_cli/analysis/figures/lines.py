"""Elements shared by figures with curves: lines with intervals, axes that start at zero, vertical rules."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from resnet_cli.analysis.bands import seed_bands
from resnet_cli.analysis.figures.style import RULE, SMALL_POINTS, network_style


def draw_bands(axes: Axes, frame: pd.DataFrame, measure: str, linestyle: Any, **line: Any) -> pd.DataFrame:
    """Draw the mean over seeds of every network against `x`, with its interval if there are several seeds.

    Args:
        axes: target; lines are labelled with the network, bands with network and measure.
        frame: one row per run and `x`; see `seed_bands`.
        measure: column to draw.
        linestyle: matplotlib line style; it identifies the measure, as colour identifies the network.
        line: further line properties.

    Returns:
        The data drawn: the frame of `seed_bands`.
    """
    bands = seed_bands(frame, "x", measure)
    # Many overlapping intervals would hide the lines.
    alpha = 0.18 if bands["network"].nunique() <= 2 else 0.09
    for network, band in bands.groupby("network", sort=False):
        style = network_style(str(network))
        few = {"marker": style.marker, "markersize": 3.0} if len(band) == 1 else {}
        crowded = {"markevery": max(1, len(band) // 20)} if "marker" in line else {}
        x = band["x"].to_numpy()
        axes.plot(
            x, band["mean"].to_numpy(), color=style.color, linewidth=style.line_width, linestyle=linestyle,
            label=str(network), **{**few, **crowded, **line},
        )  # fmt: skip
        if band["low"].notna().any():
            low, high = band["low"].to_numpy(), band["high"].to_numpy()
            label = f"{network} {measure}"
            axes.fill_between(x, low, high, color=style.color, alpha=alpha, linewidth=0, label=label)
    return bands


def from_zero(axes: Axes, drawn: Sequence[pd.DataFrame], share: float) -> None:
    """Start the y axis at 0 and show at least `share` of every mean line in `drawn`."""
    # "higher" cuts nothing off a short run, whose first epoch is one of ten.
    quantiles = [band.groupby("network")["mean"].quantile(share, interpolation="higher") for band in drawn]
    top = max((float(quantile.max()) for quantile in quantiles if len(quantile)), default=0) or 1
    axes.set_ylim(-0.015 * top, 1.05 * top)  # keeps a line at 0 above the axis


def mark(axes: Axes, x: float, label: str | None) -> None:
    """Draw a thin vertical rule at `x`, and `label` above the axis."""
    axes.axvline(x, color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5, label="_rule")
    if label:
        axes.annotate(
            label, (x, 1), (0, 1.5), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", size=SMALL_POINTS, color=RULE, annotation_clip=False,
        )  # fmt: skip
