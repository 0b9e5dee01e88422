"""Summary and figure of the probe `lesion`: error after blocks are deleted or swapped."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.figures.probes.runs import draw_runs, network_names
from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import OPEN_MARKER, caption, house_style, legend, network_style, new_figure
from resnet_cli.analysis.lesions import deletion_areas

_STATISTICS = ("running", "re-estimated")


def table(frame: pd.DataFrame) -> Summary:
    """One row per network and kind of statistics: what single and random deletions and swaps do to the test error."""
    columns = [
        "network", "statistics", "error %", "delete one, pp", "largest, pp", "block", "delete k, area %", "area, pp",
        "swap two, pp",
    ]  # fmt: skip
    areas = {(area["label"], area["statistics"]): area for area in deletion_areas(frame).to_dict("records")}
    rows: list[list[Cell]] = []
    for (label, statistics), found in frame.groupby(["label", "statistics"], sort=False):
        single = found[(found["lesion"] == "delete") & ~found["downsampling"]]
        intact = found[found["num_deleted"].eq(0) & (found["lesion"] == "delete-random")].iloc[0]
        worst = single.sort_values("error_change_pp", kind="stable").iloc[-1]
        area = areas[str(label), str(statistics)]
        rows.append([
            str(label), str(statistics), float(intact["error_pct"]), float(single["error_change_pp"].mean()),
            float(worst["error_change_pp"]), str(worst["blocks"]), float(area["area_error_pct"]),
            float(area["area_change_pp"]), float(found.loc[found["lesion"] == "swap", "error_change_pp"].mean()),
        ])  # fmt: skip
    notes = [
        "error: of the intact network on test images; pp: mean change of it, blocks that keep the shape only",
        "delete k: area under the curve of random deletions, from no block to all, averaged over random orders",
        "statistics: of batch norm, as trained or re-estimated after each change",
    ]
    return Summary(columns, rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw single deletions, random deletions and swaps, with running (top) and re-estimated (bottom) statistics."""
    names = network_names(frame)
    with house_style():
        figure, panels = new_figure(2, 3, 4.4, sharex="col", sharey="col")
        for row, statistics in enumerate(_STATISTICS):
            rows = frame[frame["statistics"] == statistics]
            single, random, swaps = panels[3 * row : 3 * row + 3]
            deleted = _numbered(rows[rows["lesion"] == "delete"])
            draw_runs(single, deleted[~deleted["downsampling"]], "number", "error_change_pp")
            down = {"linestyle": "none", "marker": "o", **OPEN_MARKER}
            draw_runs(single, deleted[deleted["downsampling"]], "number", "error_change_pp", **down)
            curves = rows[rows["lesion"] == "delete-random"]
            mean = curves.groupby(["network", "label", "deleted_share"], sort=False)["error_pct"].mean().reset_index()
            draw_runs(random, mean.sort_values("deleted_share"), "deleted_share", "error_pct")
            for position, name in enumerate(names):
                changes = rows.loc[(rows["lesion"] == "swap") & (rows["network"] == name), "error_change_pp"]
                spread = np.linspace(-0.25, 0.25, len(changes)) if len(changes) > 1 else np.zeros(len(changes))
                color = network_style(name).color
                swaps.plot(position + spread, changes, linestyle="none", marker=".", markersize=3, color=color)
            single.set_ylabel(f"{statistics} statistics\nchange of test error (pp)")
            random.set_ylabel("test error (%)")
            swaps.set_ylabel("change of test error (pp)")
            if not (frame["lesion"] == "swap").any():
                swaps.set_yticks([])
                swaps.text(0.5, 0.5, "no two blocks\nof one shape", ha="center", va="center", transform=swaps.transAxes)
        for axes, text in zip(
            panels, ("one block deleted", "random blocks deleted", "two blocks swapped"), strict=False
        ):
            axes.set_title(text)
        single.set_xlabel("block (1: next to the input)")
        single.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        random.set_xlabel("share of deleted blocks")
        swaps.set_xticks([])
        swaps.set_xlabel("pairs of blocks")
        legend(figure, names)
        caption(
            figure,
            "one line per run, mean over random orders; circles: downsampling blocks, reduced to their shortcuts",
        )
        return figure


def _numbered(deleted: pd.DataFrame) -> pd.DataFrame:
    """Single deletions with the `number` of the deleted block in its network, from 1."""
    blocks_per_stage = (deleted["network"].str.split("-").str[1].astype(int) - 2) // 6
    index = deleted["blocks"].str.rpartition(".")[2].astype(int)
    return deleted.assign(number=(deleted["stage"].astype(int) - 1) * blocks_per_stage + index + 1)
