"""Summary and figure of the probe `responses`: deviations of layers, and branches relative to their shortcuts."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from resnet_cli.analysis.figures.probes.runs import draw_runs, network_names
from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import RULE, caption, house_style, legend, new_figure


def table(frame: pd.DataFrame) -> Summary:
    """One row per network: deviations of its layers, and the growth of ‖F(x)‖ / ‖S(x)‖ since initialisation."""
    columns = [
        "network", "deviation", "smallest", "largest", "‖F‖ / ‖S‖", "growth", "growth, downsampling",
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for label, layers in _numeric(frame).groupby("label", sort=False):
        deviation = layers["deviation"]
        same, down = layers[~layers["downsampling"]], layers[layers["downsampling"]]
        rows.append([
            str(label), float(deviation.mean()), float(deviation.min()), float(deviation.max()),
            _geometric_mean(same["branch_to_skip"]), _geometric_mean(same["branch_to_skip_growth"]),
            _geometric_mean(down["branch_to_skip_growth"]),
        ])  # fmt: skip
    difference = 100 * (frame["deviation"] / frame["closed_form"] - 1).abs().max()
    notes = [
        "deviation: of each 3×3 layer's output after batch norm, before ReLU and addition (mean over layers); "
        f"largest difference from √(mean γ² + var β): {difference:.2g} %",
        "‖F‖ / ‖S‖: branch to shortcut, geometric mean over blocks that keep the shape; growth: trained ÷ initial",
    ]
    return Summary(columns, rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw He et al.'s figure 7 (deviations in layer order and sorted), and the ratios of residual branches."""
    frame = _numeric(frame)
    blocks = frame[frame["branch_to_skip"].notna()]
    blocks = blocks.assign(number=blocks.groupby("label", sort=False).cumcount() + 1)
    with house_style():
        figure, panels = new_figure(2 if len(blocks) else 1, 2, 4.2 if len(blocks) else 2.3)
        draw_runs(panels[0], frame, "layer_index", "deviation")
        draw_runs(panels[1], frame.sort_values("rank", kind="stable"), "rank", "deviation")
        for axes, text in zip(panels, ("layer (1: next to the input)", "layer, sorted by deviation"), strict=False):
            axes.set_xlabel(text)
            axes.set_ylabel("standard deviation")
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, 0.48), max(high, 2.1))  # at least two ticks besides 1
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        captions = ["outputs of 3×3 layers after batch norm, before ReLU and addition"]
        if len(blocks):
            for axes, column in zip(panels[2:], ("branch_to_skip", "branch_to_skip_growth"), strict=True):
                draw_runs(axes, blocks, "number", column)
                down = blocks[blocks["downsampling"]]
                draw_runs(axes, down, "number", column, linestyle="none", marker="o", markersize=3)
                axes.set_xlabel("block (1: next to the input)")
            panels[2].set_ylabel("‖F(x)‖ / ‖S(x)‖")
            panels[2].set_ylim(bottom=0)
            panels[3].set_ylabel("its growth (trained ÷ initial)")
            panels[3].axhline(1, color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
            captions.append("dots: downsampling blocks")
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        legend(figure, network_names(frame))
        caption(figure, "; ".join([*captions, "one line per run"]))
        return figure


def _numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """Ratios as numbers: a frame of plain networks alone has none."""
    columns = ["branch_to_skip", "branch_to_skip_growth"]
    return frame.assign(**{column: pd.to_numeric(frame[column]) for column in columns})


def _geometric_mean(values: "pd.Series[float]") -> float:
    known = values.dropna()
    return float(np.exp(np.log(known).mean())) if len(known) else float("nan")
