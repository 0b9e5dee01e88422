"""Training curves: accuracies, losses, training errors and learning rate, of any runs or of a pair of networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from resnet_cli.analysis.bands import MIN_SEEDS
from resnet_cli.analysis.figures.figure_data import FigureData, NotDrawableError, PlotResult, networks_of, seeds_text
from resnet_cli.analysis.figures.lines import UNFINISHED, draw_runs, from_zero, mark, set_epoch_axis
from resnet_cli.analysis.figures.style import DASHES, INK, OPEN_MARKER, caption, legend, network_style, new_figure
from resnet_cli.analysis.frames import AnyRun, Run
from resnet_cli.analysis.stats import MAX_SEEDS_SHOWN

Key = tuple[str, Mapping[str, Any]]

TEST: Key = ("test", {"linestyle": DASHES["test"]})
TRAIN: Key = ("training", {"linestyle": DASHES["train"]})
_CLEAN: Mapping[str, Any] = {"linestyle": (0, (1, 1.2)), "marker": "o", **OPEN_MARKER, "markersize": 2.6}
# Share of each curve shown: the first epochs are so far from the rest that they would flatten the curves.
_SHOWN = 0.97
# Labels closer than this share of the axis would touch in a single column.
_LABEL_GAP = 0.14
# More learning rates have labels that overlap in the strip.
_MAX_LEVELS = 3
# Twice the loss of a uniform guess among a hundred classes. In the first epochs the running
# statistics of batch normalisation lag behind, and a test loss can be many powers of ten larger.
_LARGE_LOSS = 10.0


def curves(data: FigureData, runs: list[Run]) -> PlotResult:
    """Accuracy, loss, training error and learning rate of all runs, also of unfinished ones."""
    drawn = [run for run in (*runs, *data.unfinished) if str(run.dir.path) in data.paths]
    if not drawn:
        raise NotDrawableError("no run has recorded an epoch")
    return _stack(data, drawn)


def dynamics(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figure 3: the same panels for a plain network and its residual twin at the large depth."""
    return _stack(data, runs)


def convergence(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figure 1: test accuracy (left), and training and test loss (right), at the small depth."""
    frame = data.rows(runs)
    figure, (left, right) = new_figure(1, 2, 2.5)
    _draw_accuracy(left, frame)
    _draw_loss(right, frame)
    return finish(figure, data, runs, [left, right], [TEST, TRAIN])


def accuracy(data: FigureData, runs: list[Run]) -> PlotResult:
    """Figure 2: test accuracy at the large depth."""
    figure, (axes,) = new_figure(1, 1, 2.5)
    _draw_accuracy(axes, data.rows(runs))
    return finish(figure, data, runs, [axes])


def _stack(data: FigureData, runs: Sequence[AnyRun]) -> PlotResult:
    """Panels above each other on one x axis, one column wide; the learning rate is a strip at the bottom."""
    frame = data.rows(runs)
    figure, panels = new_figure(4, 1, 5.4, sharex=True, height_ratios=(4, 4, 4, 1.2))
    test, loss, error, rate = panels
    _draw_accuracy(test, frame)
    _draw_loss(loss, frame)
    running = draw_runs(error, frame, "train_error_pct", DASHES["train"])
    clean = draw_runs(error, frame, "train_clean_error_pct", **_CLEAN)
    from_zero(error, [running, clean], _SHOWN)
    error.set_ylabel("training error (%)")
    _draw_rate(rate, frame)
    figure.align_ylabels()
    keys = [TEST, TRAIN, *([("clean training", _CLEAN)] if len(clean) else [])]
    text = "; clean: in eval mode without augmentation" if len(clean) else ""
    return finish(figure, data, runs, panels, keys, text=text, is_stack=True)


def _draw_accuracy(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw test accuracy; the axis cuts off first epochs that are far below the rest."""
    drawn = draw_runs(axes, frame, "test_accuracy_pct", DASHES["test"])
    low = drawn.groupby("network")["value"].quantile(1 - _SHOWN, interpolation="lower").min()
    margin = max(0.05 * (drawn["value"].max() - low), 0.5)
    axes.set_ylim(max(low - margin, 0), min(drawn["value"].max() + margin, 101))
    axes.set_ylabel("test accuracy (%)")


def _draw_loss(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw training and test loss, on a logarithmic axis if one of them is very large."""
    drawn = [draw_runs(axes, frame, f"{split}_loss", DASHES[split]) for split in ("train", "test")]
    values = pd.concat([lines["value"] for lines in drawn])
    positive = values[values > 0]
    if len(positive) and positive.max() > _LARGE_LOSS:
        axes.set_yscale("log")
        axes.set_ylim(positive.min() / 1.5, positive.max() * 1.5)
    else:
        from_zero(axes, drawn, _SHOWN)
    axes.set_ylabel("cross-entropy (nats)")


def _draw_rate(axes: Axes, frame: pd.DataFrame) -> None:
    rates = frame.groupby(["network", "x"])["lr"].first().unstack("network")
    is_shared = bool((rates.nunique(axis=1) <= 1).all())
    if is_shared:
        rates = rates.max(axis=1).to_frame("all networks")
    for network in rates:
        color, width = INK, 1.0
        if not is_shared:
            color, width, _ = network_style(str(network))
        rate = rates[network].dropna()
        axes.plot(rate.index, rate, color=color, linewidth=width, label=str(network), drawstyle="steps-pre")
    axes.set_ylabel("lr")
    levels = np.unique(rates.to_numpy()[rates.to_numpy() > 0])
    if len(levels):
        axes.set_yscale("log")
        axes.set_ylim(levels.min() / 2.5, levels.max() * 2.5)
        shown = levels if len(levels) <= _MAX_LEVELS else levels[[0, -1]]
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_yticks(shown, [f"{level:.3g}" for level in shown])


def finish(
    figure: Figure,
    data: FigureData,
    runs: Sequence[AnyRun],
    panels: Sequence[Axes],
    keys: Sequence[Key] = (),
    *,
    text: str = "",
    margin: float = 0.01,
    is_stack: bool = False,
    with_markers: bool = False,
) -> PlotResult:
    """Add the x axis and learning-rate drops to all panels, then legend and caption.

    Args:
        figure: the figure.
        data: of the figure.
        runs: the runs drawn.
        panels: in reading order.
        keys: entries of the legend after the networks.
        text: added to the caption.
        margin: room after the last epoch, as a share of the x axis.
        is_stack: whether the panels are above each other; else they are side by side.
        with_markers: show the marker of each network in the legend.
    """
    frame = data.rows(runs)
    first, last = float(frame["x"].min()), float(frame["x"].max())
    drops = data.lr_drops(frame)
    for position, axes in enumerate(panels):
        set_epoch_axis(axes, first, last, margin)
        if not is_stack or position == len(panels) - 1:
            axes.set_xlabel(data.x_label)
        labelled = -np.inf
        for drop in drops:
            is_labelled = (position == 0 or not is_stack) and drop.x - labelled >= _LABEL_GAP * (last - first)
            mark(axes, drop.x, f"lr ÷{drop.factor:g}" if is_labelled else None)
            labelled = drop.x if is_labelled else labelled
    states = frame.drop_duplicates("path")["status"]
    unfinished = [UNFINISHED[status] for status in UNFINISHED if status in set(states)]
    ends = [(name, {"linestyle": "none", "markersize": 4.0, **style}) for name, style in unfinished]
    legend(figure, networks_of(runs), [*keys, *ends], with_markers=with_markers)
    cut = "; values beyond the axes are cut off" if any(map(_is_cut, panels)) else ""
    caption(figure, f"{data.title}; {seeds_text(runs)}{text}{_lines_text(frame)}{cut}")
    return PlotResult(figure, runs, [])


def _is_cut(axes: Axes) -> bool:
    """Whether a curve leaves the axes at the top or at the bottom."""
    low, high = axes.get_ylim()
    curves = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_transform() == axes.transData]
    return any(((values < low) | (values > high)).any() for values in curves)


def _lines_text(frame: pd.DataFrame) -> str:
    """What a line shows, for the caption; empty if every network has one run."""
    num_seeds = frame[frame["status"] == "complete"].groupby("network")["seed"].nunique()
    thin = ", thin lines: single seeds" if (num_seeds <= MAX_SEEDS_SHOWN).any() else ""
    mean = f"thick lines: means over seeds{thin}, shaded: 95 % Student-t intervals"
    if (num_seeds >= MIN_SEEDS).all() and len(num_seeds):
        return f"; {mean}"
    if (num_seeds >= MIN_SEEDS).any():
        return f"; {mean}; single seeds only if fewer than {MIN_SEEDS}"
    return "; one line per seed" if (num_seeds > 1).any() else ""
