"""The degradation plot, after He et al. 2015, figure 6: training and test error of every depth."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from resnet_cli.analysis.bands import MIN_SEEDS, seed_bands
from resnet_cli.analysis.figures.curves import TEST, TRAIN, finish
from resnet_cli.analysis.figures.figure_data import FigureData, PlotResult
from resnet_cli.analysis.figures.lines import draw_runs, from_zero, write_above
from resnet_cli.analysis.figures.style import DASHES, OPEN_MARKER, network_style, new_figure
from resnet_cli.analysis.frames import Run

# The axis in figure 6 of He et al. 2015 ends at 20 %, which hides most of the phase with the first learning rate.
_SHOWN = 0.9
_PANEL_TITLES = {"plain": "plain networks", "resnet": "residual networks"}
# Room for one marker after the last epoch, as a share of the x axis.
_MARKER_SHARE = 0.04


def degradation(data: FigureData, runs: list[Run]) -> PlotResult:
    """Training error (dashed) and test error (solid) of every depth, plain networks left and residual ones right.

    Degradation concerns training error, so the clean training error after the last epoch is
    marked next to the curves if it was measured.
    """
    archs = sorted({run.record.config.arch for run in runs})
    figure, panels = new_figure(1, len(archs), 3.0, sharey=True)
    all_rows = data.rows(runs)
    frames = [all_rows[all_rows["arch"] == arch] for arch in archs]
    drawn = [draw_runs(axes, rows, f"{split}_error_pct", DASHES[split])
             for axes, rows in zip(panels, frames, strict=True) for split in ("train", "test")]  # fmt: skip
    finals = [_final_clean_errors(rows) for rows in frames]
    drawn += [rows.rename(columns={"train_clean_error_pct": "value"}) for rows in finals]
    from_zero(panels[0], drawn, _SHOWN)
    panels[0].set_ylabel("error (%)")
    has_drops = bool(data.lr_drops(all_rows))
    num_markers = max(rows["network"].nunique() for rows in finals)
    for axes, arch, rows in zip(panels, archs, finals, strict=True):
        axes.set_title(_PANEL_TITLES[arch], pad=13 if has_drops or num_markers else 4)  # room for labels
        _draw_markers(axes, rows, all_rows["x"])
    if not num_markers:
        return finish(figure, data, runs, panels, [TEST, TRAIN])
    margin = _MARKER_SHARE * (num_markers + 0.5)
    is_averaged = max(rows.groupby("network")["seed"].nunique().max() for rows in finals if len(rows)) >= MIN_SEEDS
    text = f"; markers: clean training error after the last epoch{', with 95 % intervals' if is_averaged else ''}"
    return finish(figure, data, runs, panels, [TEST, TRAIN], text=text, margin=margin, with_markers=True)


def _final_clean_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch with a clean training error."""
    is_last = frame["x"] == frame.groupby("network")["x"].transform("max")
    return frame[is_last & frame["train_clean_error_pct"].notna()]


def _draw_markers(axes: Axes, rows: pd.DataFrame, x: pd.Series) -> None:
    """Draw clean errors to the right of the last epoch: each seed, or mean and interval from `MIN_SEEDS` on."""
    step = _MARKER_SHARE * ((x.max() - x.min()) or 1.0)
    networks = sorted(rows["network"].unique(), key=lambda network: int(network.split("-")[1]))
    for position, network in enumerate(networks, start=1):
        of_network = rows[rows["network"] == network]
        errors = of_network["train_clean_error_pct"]
        style = network_style(network)
        heights, interval = errors.to_numpy(), None
        if of_network["seed"].nunique() >= MIN_SEEDS:
            ((mean, low, high),) = seed_bands(of_network, "x", errors.name)[["mean", "low", "high"]].to_numpy()
            heights, interval = np.array([mean]), [[mean - low], [high - mean]]
        axes.errorbar(
            np.full(len(heights), x.max() + position * step), heights, yerr=interval, linestyle="none",
            color=style.color, marker=style.marker, **OPEN_MARKER, elinewidth=0.8, zorder=5, label=f"{network} clean",
        )  # fmt: skip
    if networks:
        write_above(axes, x.max() + step * (len(networks) + 1) / 2, "clean")
