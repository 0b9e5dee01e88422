"""Gradient norm of every layer: whether the gradient vanishes or explodes on its way to the first layers."""

import os
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.figures import figure_data
from resnet_cli.analysis.figures.figure_data import FigureData, NotDrawableError, PlotResult, networks_of
from resnet_cli.analysis.figures.lines import mark
from resnet_cli.analysis.figures.style import caption, house_style, legend, network_style, new_figure
from resnet_cli.analysis.frames import Run
from resnet_cli.analysis.gradients import measured_profiles, recorded_profiles
from resnet_cli.util.text import printable, shorten

_NOT_RECORDED = "no run recorded gradient norms; train with --gradflow-every"
_WHICH = {"init": "initial weights", "last": "weights of the last epoch", "best": "weights of the best epoch"}
# Lines of several runs of one network: same colour, different dashes.
_DASHES = ("solid", (0, (3.2, 1.4)), (0, (1, 1.2)), (0, (4, 1.4, 1, 1.4)))
_MAX_LABEL_LENGTH = 30


def gradient_flow(data: FigureData, runs: list[Run]) -> PlotResult:
    """Draw the gradient norms that runs recorded: the last epoch thick, earlier ones thin and light."""
    there = [run for run in runs if os.path.lexists(run.dir.gradflow_path)]
    found, left_out = figure_data.read_each(there, _norms_of)
    found = [(run, rows) for run, rows in found if len(rows)]
    runs = [run for run, _ in found]
    if not runs:
        raise NotDrawableError(left_out[0] if left_out else _NOT_RECORDED)
    networks = networks_of(runs)
    found.sort(key=lambda pair: networks.index(pair[0].network))
    frame = pd.concat([
        rows.assign(path=str(run.dir.path), network=run.network, depth=run.record.config.depth) for run, rows in found
    ], ignore_index=True)  # fmt: skip
    last = sorted({int(epoch) for epoch in frame.groupby("path")["epoch"].max()})
    text = f"{data.group.label}; {figure_data.seeds_text(runs)}; epoch {' or '.join(map(str, last))}"
    if len(runs) > len(networks):
        text += "; geometric mean over seeds, shaded: 95 % Student-t interval"
    elif frame["epoch"].min() < last[0]:
        text += ", thin: earlier epochs"
    return PlotResult(_figure(recorded_profiles(frame), text), runs, left_out)


def measured_gradients(frame: pd.DataFrame) -> Figure:
    """Draw the gradient norms that `resnet gradflow` measured, one line per network.

    Args:
        frame: rows of `resnet_cli.measure.measure` with `measure_gradflow`.
    """
    dataset, which = frame[["dataset", "which"]].iloc[0]
    text = f"{dataset}; {_WHICH[which]}; mean over minibatches, shaded: ± standard deviation"
    with house_style():
        return _figure(measured_profiles(frame), text)


def _norms_of(run: Run) -> pd.DataFrame:
    return run.dir.read_gradflow(run.record.config.depth, run.summary)


def _figure(profiles: pd.DataFrame, text: str) -> Figure:
    """Draw profiles with one panel per depth, all on one logarithmic y axis."""
    depths = sorted(profiles["depth"].unique())
    columns = min(len(depths), 2)
    num_rows = -(-len(depths) // columns)
    figure, all_axes = new_figure(num_rows, columns, 0.6 + 2.1 * num_rows, sharey=True)
    styles = _line_styles(profiles)
    for axes, depth in zip(all_axes, depths, strict=False):
        _draw(axes, profiles[profiles["depth"] == depth], styles)
        for stage in (1, 2, 3):  # the number of filters changes where a stage begins
            mark(axes, 2 + (stage - 1) * (depth - 2) // 3, f"stage {stage}")
        axes.set_xlim(1, depth)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("layer (1: next to the input)")
    for axes in all_axes[len(depths) :]:
        axes.set_visible(False)
    for axes in all_axes[::columns]:
        axes.set_ylabel("gradient norm ‖∂L/∂W‖")
    # fitted to the lines: the interval of two seeds alone can span decades
    norms = profiles["norm"][(profiles["norm"] > 0) & np.isfinite(profiles["norm"])]
    if len(norms):
        all_axes[0].set_ylim(norms.min() / 1.6, norms.max() * 1.6)
    legend(figure, [], [(shorten(printable(label), _MAX_LABEL_LENGTH), style) for label, style in styles.items()])
    for entry in figure.legends[0].get_texts():
        entry.set_parse_math(False)  # a label can be the name of a folder
    caption(figure, text)
    return figure


def _line_styles(profiles: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour, width and dashes of each line except earlier epochs, by label and in order."""
    lines = profiles.loc[~profiles["is_earlier"], ["label", "network"]].drop_duplicates()
    numbers = lines.groupby("network").cumcount() % len(_DASHES)
    styles = [network_style(network) for network in lines["network"]]
    return {
        str(label): {"color": style.color, "linewidth": style.line_width, "linestyle": _DASHES[number]}
        for label, style, number in zip(lines["label"], styles, numbers, strict=True)
    }


def _draw(axes: Axes, profiles: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    axes.set_yscale("log")
    for label, line in profiles.groupby("label", sort=False):
        color = network_style(line["network"].iloc[0]).color
        thin: dict[str, Any] = {"color": color, "linewidth": 0.5, "alpha": 0.45, "zorder": 1.5}
        axes.plot(line["layer_index"], line["norm"], label=str(label), **styles.get(str(label), thin))
        if line["low"].notna().any():
            axes.fill_between(line["layer_index"], line["low"], line["high"], color=color, alpha=0.18, linewidth=0)
