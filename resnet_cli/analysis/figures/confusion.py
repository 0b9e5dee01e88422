"""Confusion matrices of a plain network and its residual twin: figures 4 and 5 of the report."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm

from resnet_cli.analysis.figures import figure_data
from resnet_cli.analysis.figures.figure_data import FigureData, NotDrawableError, PlotResult, networks_of
from resnet_cli.analysis.figures.style import SMALL_POINTS, caption, new_figure
from resnet_cli.analysis.frames import Run
from resnet_cli.analysis.metrics import Labels, confusion_matrix
from resnet_cli.util.text import printable, shorten

# Numbers of classes above which cells are too small for 7-point numbers, and for 7-point names.
_MAX_ANNOTATED = 10
_MAX_NAMED = 20
_MAX_NAME_LENGTH = 12
_MAX_UPRIGHT = 3
# Number of classes above which a cell is smaller than a pixel.
_MAX_CLASSES = 1000


def _counts_of(run: Run) -> Labels:
    num_classes = len(run.record.dataset.classes)
    predictions = run.dir.read_predictions(num_classes, run.summary)
    return confusion_matrix(predictions.logits.argmax(axis=1), predictions.labels, num_classes)


def confusion_matrices(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figures 4 and 5: confusion matrices of a plain network and its residual twin, with option A if there are both."""
    networks = networks_of(runs)[:2]  # option B comes last
    there = [run for run in runs if os.path.lexists(run.dir.predictions_path)]
    if too_many := next((run for run in there if len(run.record.dataset.classes) > _MAX_CLASSES), None):
        raise NotDrawableError(f"{len(too_many.record.dataset.classes)} classes are too many for a confusion matrix")
    counts, left_out = figure_data.read_each([run for run in there if run.network in networks], _counts_of)
    counts_of = {network: [count for run, count in counts if run.network == network] for network in networks}
    if missing := [name for name, found in counts_of.items() if not found]:
        why = f" ({left_out[0]})" if left_out else ""
        raise NotDrawableError(f"no predictions.npz for {' and '.join(missing)}{why}")

    drawn = sorted((run for run, _ in counts), key=lambda run: networks.index(run.network))
    classes = [shorten(printable(name), _MAX_NAME_LENGTH) for name in drawn[0].record.dataset.classes]
    figure, axes = new_figure(1, 2, 3.6, sharey=True)
    for panel, (network, found) in zip(axes, counts_of.items(), strict=True):
        image = _draw(panel, sum(found, start=np.zeros((), np.int64)), classes)
        panel.set_title(network)
    axes[0].set_ylabel("true class")
    bar = figure.colorbar(image, cax=axes[1].inset_axes((1.03, 0, 0.045, 1)), ticks=[0, 1, 5, 20, 50, 100])
    bar.outline.set_visible(False)
    bar.set_label("predicted as (% of the true class; square-root scale)")
    text = f"{data.title}; {figure_data.seeds_text(drawn)}; cells: % of the true class"
    text += ", blank below 0.1" if len(classes) <= _MAX_ANNOTATED else ""
    caption(figure, text + ("; counts of all seeds summed" if len(drawn) > len(networks) else ""))
    return PlotResult(figure, drawn, left_out)


def _draw(axes: Axes, counts: Labels, classes: Sequence[str]) -> QuadMesh:
    support = counts.sum(axis=1, keepdims=True)
    recall_pct = np.ma.masked_invalid(100 * counts / np.where(support, support, np.nan))  # (C, C)
    # The square root keeps confusions of a few per cent visible next to a diagonal of 90 %.
    numbers = np.vectorize(_percent, otypes=[str])(recall_pct.filled(0.0)) if len(classes) <= _MAX_ANNOTATED else None
    seaborn.heatmap(
        recall_pct, ax=axes, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100), cbar=False, square=True,
        annot=numbers, fmt="", annot_kws={"size": SMALL_POINTS}, xticklabels=False, yticklabels=False,
    )  # fmt: skip
    axes.tick_params(length=0)
    if len(classes) <= _MAX_NAMED:
        places = np.arange(len(classes)) + 0.5
        is_short = max(map(len, classes)) <= _MAX_UPRIGHT
        slant: dict[str, Any] = {} if is_short else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(places, classes, **slant, parse_math=False)
        axes.set_yticks(places, classes, rotation=0, parse_math=False)
    axes.set_xlabel("predicted class")
    mesh: QuadMesh = axes.collections[0]  # type: ignore[assignment]
    return mesh


def _percent(value: float) -> str:
    if value < 0.1:
        return ""
    return f"{value:.1f}" if value < 99.95 else "100"
