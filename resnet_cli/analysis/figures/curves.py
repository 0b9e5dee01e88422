"""Figures 1 to 3 of the report and the degradation plot: errors, accuracies and losses during training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from resnet_cli.analysis.bands import seed_bands
from resnet_cli.analysis.figures.figure_data import FigureData, PlotResult, networks_of, seeds_text
from resnet_cli.analysis.figures.lines import draw_bands, from_zero, mark
from resnet_cli.analysis.figures.style import DASHES, INK, OPEN_MARKER, caption, legend, network_style, new_figure
from resnet_cli.analysis.frames import Run

_TEST = ("test", {"linestyle": DASHES["test"]})
_TRAIN = ("training", {"linestyle": DASHES["train"]})
_CLEAN: Mapping[str, Any] = {"linestyle": (0, (1, 1.2)), "marker": "o", **OPEN_MARKER, "markersize": 2.6}
# Share of each curve shown: the first epochs are so far from the rest that they would flatten the curves.
_SHOWN = 0.97
# The axis in figure 6 of He et al. 2015 ends at 20 %, which hides most of the phase with the first learning rate.
_SHOWN_OF_DEGRADATION = 0.9
_PANEL_TITLES = {"plain": "plain networks", "resnet": "residual networks"}
# Labels closer than this share of the axis would touch in a single column.
_LABEL_GAP = 0.14
# With more learning rates, one tick for each would be crowded.
_MAX_LEVELS = 8
# Twice the loss of a uniform guess among a hundred classes. In the first epochs the running
# statistics of batch normalisation lag behind, and a test loss can be many powers of ten larger.
_LARGE_LOSS = 10.0


def accuracy_and_loss(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figure 1: test accuracy (left), and training and test loss (right), at the small depth."""
    frame = data.rows(runs)
    figure, (left, right) = new_figure(1, 2, 2.5)
    _draw_accuracy(left, frame)
    _draw_loss(right, frame)
    return _finish(figure, data, runs, [_TEST, _TRAIN])


def accuracy(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figure 2: test accuracy at the large depth, one column wide."""
    figure, (axes,) = new_figure(1, 1, 2.5)
    _draw_accuracy(axes, data.rows(runs))
    return _finish(figure, data, runs)


def dynamics(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figure 3: test accuracy, losses, running and clean training error, and learning rate at the large depth."""
    frame = data.rows(runs)
    figure, (test, loss, error, rate) = new_figure(2, 2, 4.3, sharex=True)
    _draw_accuracy(test, frame)
    _draw_loss(loss, frame)
    running = draw_bands(error, frame, "train_error_pct", DASHES["train"])
    clean = draw_bands(error, frame, "train_clean_error_pct", **_CLEAN)
    from_zero(error, [running, clean], _SHOWN)
    error.set_ylabel("training error (%)")
    _draw_rate(rate, frame)
    figure.align_ylabels()
    keys = [_TEST, ("training, running", _TRAIN[1])]
    return _finish(figure, data, runs, [*keys, ("training, clean", _CLEAN)] if len(clean) else keys)


def degradation(data: FigureData, runs: list[Run]) -> PlotResult:
    """Training error (dashed) and test error (solid) of every depth, plain networks left and residual ones right.

    After He et al. 2015, figure 6. Degradation concerns training error, so the clean
    training error after the last epoch is marked if it was measured.
    """
    archs = sorted({run.record.config.arch for run in runs})
    figure, all_axes = new_figure(1, len(archs), 3.0, sharey=True)
    all_rows = data.rows(runs)
    drops = data.lr_drops(all_rows)
    drawn, has_clean_error = [], False
    for axes, arch in zip(all_axes, archs, strict=True):
        frame = all_rows[all_rows["arch"] == arch]
        drawn += [draw_bands(axes, frame, f"{split}_error_pct", DASHES[split]) for split in ("train", "test")]
        has_clean_error |= _mark_final_clean_error(axes, frame)
        axes.set_title(_PANEL_TITLES[arch], pad=13 if drops else 4)  # leaves room for the labels of the drops
    from_zero(all_axes[0], drawn, _SHOWN_OF_DEGRADATION)
    all_axes[0].set_ylabel("error (%)")
    if not has_clean_error:
        return _finish(figure, data, runs, [_TEST, _TRAIN])
    keys = [_TEST, _TRAIN, ("clean training", {**_CLEAN, "linestyle": "none"})]
    text = "; marker: clean training error after the last epoch"
    return _finish(figure, data, runs, keys, text=text, with_markers=True)


def _draw_accuracy(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw test accuracy; the axis cuts off first epochs that are far below the rest."""
    bands = draw_bands(axes, frame, "test_accuracy_pct", DASHES["test"])
    low = bands.groupby("network")["mean"].quantile(1 - _SHOWN, interpolation="lower").min()
    margin = max(0.05 * (bands["mean"].max() - low), 0.5)
    axes.set_ylim(max(low - margin, 0), min(bands["mean"].max() + margin, 101))
    axes.set_ylabel("test accuracy (%)")


def _draw_loss(axes: Axes, frame: pd.DataFrame) -> None:
    drawn = [draw_bands(axes, frame, f"{split}_loss", DASHES[split]) for split in ("train", "test")]
    if max(float(bands["mean"].max()) for bands in drawn) > _LARGE_LOSS:
        axes.set_yscale("log")
    else:
        from_zero(axes, drawn, _SHOWN)
    axes.set_ylabel("cross-entropy loss (nats)")


def _draw_rate(axes: Axes, frame: pd.DataFrame) -> None:
    rates = frame.groupby(["network", "x"])["lr"].first().unstack("network")
    is_shared = bool((rates.nunique(axis=1) <= 1).all())
    for network in list(rates)[:1] if is_shared else list(rates):
        style = network_style(str(network))
        color, width, label = (INK, 1.0, "all networks") if is_shared else (style.color, style.line_width, network)
        line: dict[str, Any] = {"color": color, "linewidth": width, "label": label, "drawstyle": "steps-pre"}
        # A row contains the rate of the epoch that ends at x; the first epoch begins at 0.
        rate = rates[network].dropna()
        axes.plot([0, *rate.index], [*rate[:1], *rate], **line)
    axes.set_ylabel("learning rate")
    levels = np.unique(rates.to_numpy()[rates.to_numpy() > 0])
    if len(levels):
        axes.set_yscale("log")
        axes.set_ylim(levels.min() / 2, levels.max() * 2)
    if 0 < len(levels) <= _MAX_LEVELS:
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_yticks(levels, [f"{level:.3g}" for level in levels])


def _mark_final_clean_error(axes: Axes, frame: pd.DataFrame) -> bool:
    last = frame[frame["x"] == frame.groupby("network")["x"].transform("max")]
    bands = seed_bands(last, "x", "train_clean_error_pct")
    numbers = bands[["x", "mean", "low", "high"]].to_numpy(float)
    for network, (x, mean, low, high) in zip(bands["network"], numbers, strict=True):
        style = network_style(network)
        _, _, bars = axes.errorbar(
            x, mean, yerr=None if np.isnan(low) else [[mean - low], [high - mean]],
            color=style.color, marker=style.marker, **OPEN_MARKER, elinewidth=0.8, clip_on=False, zorder=5,
            label=f"{network} clean",
        )  # fmt: skip
        for bar in bars:  # the marker may overlap the edge of the panel, but not the interval
            bar.set_clip_on(True)
    return len(bands) > 0


def _finish(
    figure: Figure,
    data: FigureData,
    runs: list[Run],
    keys: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    text: str = "",
    with_markers: bool = False,
) -> PlotResult:
    """Add x axis and learning-rate drops to every panel, then legend and caption; each row has two panels."""
    frame = data.rows(runs)
    right = float(frame["x"].max())
    drops = data.lr_drops(frame)
    for position, axes in enumerate(figure.axes):
        axes.set_xlim(0, 1.01 * right)  # room for half a marker
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if position >= len(figure.axes) - 2:
            axes.set_xlabel(data.x_label)
        labelled = -np.inf
        for drop in drops:
            is_labelled = position < 2 and drop.x - labelled >= _LABEL_GAP * right
            mark(axes, drop.x, f"lr ÷{drop.factor:g}" if is_labelled else None)
            labelled = drop.x if is_labelled else labelled
    networks = networks_of(runs)
    legend(figure, networks, keys, with_markers=with_markers)
    interval = "; line: mean over seeds, shaded: 95 % Student-t interval" if len(runs) > len(networks) else ""
    caption(figure, f"{data.group.label}; {seeds_text(runs)}{text}{interval}")
    return PlotResult(figure, runs, [])
