"""Summary and figure of the probe `branch-scale`: error and loss over the factor α of all branches."""

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.figures.probes.runs import draw_runs, network_names
from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import RULE, caption, house_style, legend, new_figure

_DASHES = {"running": (0, (3.2, 1.4)), "re-estimated": "solid"}


def table(frame: pd.DataFrame) -> Summary:
    """One row per network and kind of statistics: test error at each α, and the α with the lowest test loss."""
    test = frame[frame["split"] == "test"]
    test = test.sort_values("alpha", kind="stable")
    rows: list[list[Cell]] = []
    for label in frame["label"].unique():
        for statistics in _DASHES:
            found = test[(test["label"] == label) & (test["statistics"] == statistics)]
            best = found.sort_values("loss", kind="stable")["alpha"].iloc[0]
            rows.append([str(label), statistics, *map(float, found["error_pct"]), float(best)])
    alphas = [f"α = {alpha:g}" for alpha in sorted(test["alpha"].unique())]
    notes = ["test error %; statistics: of batch norm, as trained or re-estimated for each α"]
    return Summary(["network", "statistics", *alphas, "α of lowest loss"], rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw error (top) and loss (bottom) of training and test images over α."""
    with house_style():
        figure, panels = new_figure(2, 2, 4.2, sharex=True, sharey="row")
        for column, split in enumerate(("train", "test")):
            for row, (measure, text) in enumerate((("error_pct", "error (%)"), ("loss", "loss (nats)"))):
                axes = panels[2 * row + column]
                for statistics, dashes in _DASHES.items():
                    chosen = frame[(frame["split"] == split) & (frame["statistics"] == statistics)]
                    draw_runs(axes, chosen.sort_values("alpha"), "alpha", measure, linestyle=dashes)
                axes.axvline(1, color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
                if not row:
                    axes.set_title("training images" if split == "train" else "test images")
                else:
                    axes.set_yscale("log")
                    axes.set_xlabel("factor α of all branches")
                if not column:
                    axes.set_ylabel(text)
        keys = [(f"{statistics} statistics", {"linestyle": dashes}) for statistics, dashes in _DASHES.items()]
        legend(figure, network_names(frame), keys)
        caption(figure, "each block computes relu(S(x) + α F(x)); one line per run")
        return figure
