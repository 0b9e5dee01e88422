"""Summary and figure of the probe `similarity`: CKA between blocks, and linear probes of each block."""

from typing import cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.figures.probes.panels import COLOR_MAP, curves_and_maps, draw_ranges
from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import caption, house_style, legend

_STAGES = {0: "first convolution", 1: "stage 1", 2: "stage 2", 3: "stage 3"}


def table(frame: pd.DataFrame) -> Summary:
    """One row per network: CKA of neighbouring blocks, and linear-probe accuracy at the end of each stage."""
    rows: list[list[Cell]] = []
    for label, of_label in frame.groupby("label", sort=False):
        probes = _probes(of_label)
        ends = [float(probes.loc[probes["stage"] == stage, "accuracy_pct"].iloc[-1]) for stage in _STAGES]
        rows.append([cast(Cell, label), float(_neighbours(of_label)["cka"].mean()), *ends])
    probes = _probes(frame)
    margin = ((probes["high_pct"] - probes["low_pct"]) / 2).max()
    notes = [
        "accuracy of a linear classifier on the last block of each stage, on the same number of features everywhere",
        f"95 % interval of an accuracy: up to ± {margin:.1f} points, from {int(probes['num_images'].iloc[0]):,} test "
        "images; smaller differences mean nothing",
    ]
    columns = ["CKA of neighbouring blocks", *(f"{name} %" for name in _STAGES.values())]
    return Summary(["network", *columns], rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw linear probes and the CKA of neighbouring blocks, and the CKA matrix of the first run of each network."""
    with house_style():
        figure, (left, right) = curves_and_maps(frame, _draw_matrix, Normalize(0, 1), "CKA between blocks")
        draw_ranges(left, _probes(frame), "block_index", "accuracy_pct", "low_pct", "high_pct")
        left.set_ylabel("linear-probe test accuracy (%)")
        draw_ranges(right, _neighbours(frame), "block_index", "cka")
        right.set_ylabel("CKA with the block before")
        for axes in (left, right):
            axes.set_xlabel("block (0: first convolution)")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        legend(figure, frame["network"].unique().tolist())
        caption(
            figure,
            (
                "top: mean and range over runs, including the 95 % interval of each accuracy; "
                "bottom: debiased linear CKA in the first run of each network"
            ),
        )
        return figure


def _probes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["quantity"] == "linear probe"]


def _neighbours(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["other"] == frame["block_index"] - 1]


def _draw_matrix(axes: Axes, frame: pd.DataFrame) -> None:
    matrix = frame[frame["quantity"] == "cka"].pivot_table(index="block_index", columns="other", values="cka")
    axes.imshow(matrix, vmin=0, vmax=1, cmap=COLOR_MAP, origin="lower")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("block")
    axes.set_ylabel("block")
