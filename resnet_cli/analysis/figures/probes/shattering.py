"""Summary and figure of the probe `shattering`: autocorrelation of input gradients, cosines of minibatch gradients."""

from typing import cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.figures.probes.panels import draw_ranges
from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import RULE, caption, house_style, legend, new_figure

_NOISES = {"white": (0, (1, 1.2)), "brown": (0, (3.2, 1.4))}


def table(frame: pd.DataFrame) -> Summary:
    """One row per network, then one per noise: decay of the autocorrelation, and the cosine of whole gradients."""
    rows: list[list[Cell]] = []
    for label, of_label in frame.groupby("label", sort=False):
        whole = of_label[of_label["layer"] == "all"].iloc[0]
        rows.append([
            cast(Cell, label), *_decay(of_label[of_label["series"] == "network"]),
            float(whole["cosine"]), float(whole["loss"]), int(whole["batch_size"]),
        ])  # fmt: skip
    rows += [[f"{noise} noise", *_decay(frame[frame["series"] == noise]), None, None, None] for noise in _NOISES]
    step = frame.loc[frame["lag"] == 1, "distance"].iloc[0]
    notes = [
        f"lag 1 is {step:.2g} of the line between two images; half at: share of the line at which the "
        "autocorrelation has fallen to 0.5",
        "the cosine depends on batch size and loss: compare it only between networks in which these are equal",
    ]
    return Summary(
        ["network", "autocorrelation at lag 1", "half at", "minibatch cosine", "loss", "batch size"], rows, notes
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the autocorrelation over the lag, next to noise, and the cosine of each layer."""
    curves, cosines = frame[frame["quantity"] == "autocorrelation"], frame[frame["stage"].notna()]
    with house_style():
        figure, (left, right) = new_figure(1, 2, 2.4)
        draw_ranges(left, curves[curves["series"] == "network"], "distance", "autocorrelation")
        for noise, dashes in _NOISES.items():
            mean = curves[curves["series"] == noise].groupby("distance")["autocorrelation"].mean()
            left.plot(mean.index, mean, color=RULE, linewidth=1.0, linestyle=dashes, label=f"{noise} noise")
        left.set_xlabel("distance (share of the line between two images)")
        left.set_ylabel("autocorrelation of ∂f/∂x")
        index = cosines.groupby("label", sort=False).cumcount() + 1
        draw_ranges(right, cosines.assign(layer_index=index), "layer_index", "cosine")
        right.axhline(0, color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
        right.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        right.set_xlabel("layer (1: next to the input)")
        right.set_ylabel("cosine of minibatch gradients")
        noises = [(f"{noise} noise", {"linestyle": dashes, "color": RULE}) for noise, dashes in _NOISES.items()]
        legend(figure, frame["network"].unique().tolist(), noises)
        size = frame["batch_size"].max()
        text = f"left: mean and range over lines and runs; right: mean over pairs of minibatches of {size:.0f} images"
        caption(figure, text)
        return figure


def _decay(rows: pd.DataFrame) -> tuple[float, float]:
    """Mean autocorrelation at lag 1, and the distance at which the mean reaches 0.5 (NaN if it does not)."""
    mean = rows.groupby("distance")["autocorrelation"].mean()
    values, distances = mean.to_numpy(), mean.index.to_numpy(dtype=float)
    below = np.flatnonzero(values < 0.5)
    if not len(below):
        return float(values[1]), float("nan")
    last, first = below[0] - 1, below[0]
    return float(values[1]), float(np.interp(-0.5, -values[[last, first]], distances[[last, first]]))
