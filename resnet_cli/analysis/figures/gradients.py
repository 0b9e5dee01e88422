"""Gradient norms of every layer: whether the gradient vanishes on its way to the first layers."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.figures.bands import seed_bands
from resnet_cli.analysis.figures.figure_data import (
    Material,
    NotDrawableError,
    PlotResult,
    networks_of,
    read_each,
    seeds_text,
)
from resnet_cli.analysis.figures.lines import draw_bands, mark
from resnet_cli.analysis.figures.style import (
    DOUBLE_COLUMN_INCHES,
    SINGLE_COLUMN_INCHES,
    caption,
    legend,
    network_style,
    new_figure,
    panels,
)
from resnet_cli.analysis.frames import Run

# More light lines than this run together.
_MAX_EARLIER = 5
_NOT_RECORDED = "no run recorded gradient norms; train with --gradflow-every"


def gradient_flow(material: Material) -> PlotResult:
    """Gradient norm against layer, a panel a depth: the last recorded epoch thick, earlier ones thin and light.

    Geometric mean over seeds, since norms span decades.

    Raises:
        NotDrawableError: no run recorded gradient norms.
    """
    there = [run for run in material.runs if os.path.lexists(run.dir.gradflow_path)]
    found, left_out = read_each(there, _norms_of)
    found = [(run, rows) for run, rows in found if len(rows)]
    runs = [run for run, _ in found]
    if not runs:
        raise NotDrawableError(left_out[0] if left_out else _NOT_RECORDED)
    frame = pd.concat(
        [
            rows.assign(path=str(run.dir.path), network=run.network, depth=run.record.config.depth)
            for run, rows in found
        ],
        ignore_index=True,
    ).assign(x=lambda rows: rows["layer_index"].astype(float))
    depths = sorted(frame["depth"].unique())
    columns = min(len(depths), 2)
    num_rows = -(-len(depths) // columns)
    figure = new_figure(DOUBLE_COLUMN_INCHES if columns > 1 else SINGLE_COLUMN_INCHES, 0.6 + 2.1 * num_rows)
    all_axes = panels(figure, num_rows, columns, sharey=True)
    for axes, depth in zip(all_axes, depths, strict=False):
        _draw(axes, frame[frame["depth"] == depth])
        axes.set_xlabel("layer (1: next to the input)")
    for axes in all_axes[len(depths) :]:
        axes.set_visible(False)
    for axes in all_axes[::columns]:
        axes.set_ylabel("gradient norm ‖∂L/∂W‖")
    _show_lines(all_axes[: len(depths)])
    legend(figure, networks_of(runs))
    last = sorted({int(epoch) for epoch in frame.groupby("path")["epoch"].max()})
    text = f"{material.group.label}; {seeds_text(runs)}; epoch {' or '.join(map(str, last))}"
    one_seed = len(runs) == len(networks_of(runs))
    text += ", thin: earlier epochs" if one_seed and frame["epoch"].min() < last[0] else ""
    if not one_seed:
        text += "; geometric mean over seeds, shaded: 95 % Student-t interval"
    caption(figure, text)
    return PlotResult(figure, runs, left_out)


def _norms_of(run: Run) -> pd.DataFrame:
    return run.dir.read_gradflow(run.record.config.depth, run.summary)


def _draw(axes: Axes, frame: pd.DataFrame) -> None:
    axes.set_yscale("log")
    for network, rows in frame.groupby("network", sort=False):
        style = network_style(str(network))
        epochs = sorted(rows["epoch"].unique())
        # bands and earlier epochs together would be too much to see either
        earlier = spread(epochs[:-1], _MAX_EARLIER) if rows["path"].nunique() == 1 else []
        for epoch in earlier:
            band = seed_bands(rows[rows["epoch"] == epoch], "x", "grad_norm", log=True)
            axes.plot(
                band["x"].to_numpy(), band["mean"].to_numpy(), color=style.color, linewidth=0.5, alpha=0.45,
                zorder=1.5, label=f"{network} epoch {epoch}",
            )  # fmt: skip
        draw_bands(axes, rows[rows["epoch"] == epochs[-1]], "grad_norm", "solid", log=True)
    # a rule where a stage begins: the width of the layers changes there
    for stage in sorted({1, 2, 3} & set(frame["stage"])):
        mark(axes, float(frame[frame["stage"] == stage]["x"].min()), f"stage {stage}")
    axes.set_xlim(1, float(frame["x"].max()))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _show_lines(all_axes: Sequence[Axes]) -> None:
    """Fit the shared y axis to the lines: the interval of two seeds alone can span decades."""
    norms = np.concatenate(
        [np.asarray(line.get_ydata()) for axes in all_axes for line in axes.lines if line.get_label() != "_rule"]
    )
    if len(norms):
        all_axes[0].set_ylim(norms.min() / 1.6, norms.max() * 1.6)


def spread(values: list[int], count: int) -> list[int]:
    """At most `count` of `values`, evenly spread, the first among them."""
    if len(values) <= count:
        return values
    return [values[round(position * (len(values) - 1) / (count - 1))] for position in range(count)]
