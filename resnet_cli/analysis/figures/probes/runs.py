"""Lines of single runs, in the colour of their network, so that each seed remains visible."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from resnet_cli.analysis.figures.style import network_style


def network_names(frame: pd.DataFrame) -> list[str]:
    """Names of the networks in `frame`: plain ones first, by depth."""

    def key(name: str) -> tuple[str, int, str]:
        arch, depth, *shortcut = name.split("-")
        return arch, int(depth), "".join(shortcut)

    return sorted(map(str, frame["network"].unique()), key=key)


def draw_runs(axes: Axes, frame: pd.DataFrame, x: str, y: str, **line: Any) -> None:
    """Draw `y` over `x` with one line per label, interrupted where a value is missing; a single value is a dot."""
    for (network, label), rows in frame.groupby(["network", "label"], sort=False):
        style = network_style(str(network))
        properties: dict[str, Any] = {
            "color": style.color,
            "linewidth": 0.6 * style.line_width,
            "label": str(label),
        } | line
        if rows[y].count() == 1:
            properties = {"marker": "o", "markersize": 3.4} | properties  # a line through one point is invisible
        axes.plot(rows[x].to_numpy(float), rows[y].to_numpy(float), **properties)
