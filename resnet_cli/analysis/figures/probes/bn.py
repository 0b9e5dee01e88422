"""Summary and figure of the probe `bn`: errors with running and with re-estimated batch-norm statistics."""

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import OPEN_MARKER, caption, house_style, network_style, new_figure
from resnet_cli.util.text import printable, shorten

_RUNNING, _REESTIMATED = "running", "re-estimated"
_SPLITS = {"train": "clean training error (%)", "test": "test error (%)"}


def table(frame: pd.DataFrame) -> Summary:
    """One row per network: clean training and test error with both kinds of statistics."""
    rows: list[list[Cell]] = [
        [str(label), *(float(row[split, kind]) for split in _SPLITS for kind in (_RUNNING, _REESTIMATED))]
        for label, row in _wide(frame).iterrows()
    ]
    columns = [f"{split} error %, {kind}" for split in _SPLITS for kind in (_RUNNING, _REESTIMATED)]
    return Summary(["network", *columns], rows, ["re-estimated: batch-norm statistics over the whole training set"])


def draw(frame: pd.DataFrame) -> Figure:
    """Draw one line per network from the error with running statistics to that with re-estimated ones."""
    wide = _wide(frame)
    networks = frame.drop_duplicates("label").set_index("label")["network"]
    with house_style():
        figure, panels = new_figure(1, 2, 0.9 + 0.16 * len(wide), sharey=True)
        for axes, (split, title) in zip(panels, _SPLITS.items(), strict=True):
            for y, (label, row) in enumerate(wide.iterrows()):
                color = network_style(networks[str(label)]).color
                before, after = float(row[split, _RUNNING]), float(row[split, _REESTIMATED])
                axes.plot([before, after], [y, y], color=color, linewidth=0.8)
                axes.plot([before], [y], color=color, marker="o", **OPEN_MARKER)
                axes.plot([after], [y], color=color, marker="o", markersize=3.4)
            axes.set_xlabel(title)
            axes.set_xlim(-1, 2 + wide[split].to_numpy().max())
        panels[0].set_yticks(range(len(wide)), [shorten(printable(str(label)), 30) for label in wide.index])
        panels[0].invert_yaxis()
        panels[0].margins(y=0.5 / len(wide) + 0.05)
        for text in panels[0].get_yticklabels():
            text.set_parse_math(False)
        caption(figure, "open: running batch-norm statistics; filled: re-estimated over the training set")
        return figure


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Errors with one row per label and the columns (split, statistics)."""
    return frame.pivot_table(index="label", columns=["split", "statistics"], values="error_pct", sort=False)
