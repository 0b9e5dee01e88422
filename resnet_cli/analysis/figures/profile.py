"""Gradient norms as `resnet gradflow` measures them: networks side by side, layer by layer."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.figures.lines import mark
from resnet_cli.analysis.figures.style import (
    SINGLE_COLUMN_INCHES,
    SMALL_POINTS,
    caption,
    house_style,
    network_style,
    new_figure,
    panels,
)
from resnet_cli.util.text import printable, shorten


def profile_figure(frame: pd.DataFrame) -> Figure:
    """Gradient norm against layer, log scale, one line a network; shaded: ± one standard deviation over batches.

    Args:
        frame: the rows of `resnet_cli.measure.profile`.
    """
    with house_style():
        figure = new_figure(SINGLE_COLUMN_INCHES, 2.6)
        (axes,) = panels(figure, 1, 1)
        axes.set_yscale("log")
        dashes = ["solid", (0, (3.2, 1.4)), (0, (1, 1.2)), (0, (4, 1.4, 1, 1.4))]
        drawn: dict[str, int] = {}
        for label, rows in frame.groupby("label", sort=False):
            network = str(rows["network"].iloc[0])
            style = network_style(network)
            # several runs of one network have its colour and differ in their dashes
            dash = dashes[drawn.setdefault(network, 0) % len(dashes)]
            drawn[network] += 1
            x, norm = rows["layer_index"].to_numpy(), rows["grad_norm"].to_numpy()
            shown = shorten(printable(str(label)), 30)
            axes.plot(x, norm, color=style.color, linewidth=style.line_width, linestyle=dash, label=shown)
            spread = rows["grad_norm_std"].fillna(0.0).to_numpy()
            axes.fill_between(
                x, (norm - spread).clip(norm * 1e-3), norm + spread, color=style.color, alpha=0.2, linewidth=0
            )
        if frame["layer_index"].max() == frame.groupby("label")["layer_index"].max().min():
            for stage in (1, 2, 3):
                mark(axes, float(frame.loc[frame["stage"] == stage, "layer_index"].min()), f"stage {stage}")
        axes.set_xlabel("layer (1: next to the input)")
        axes.set_ylabel("gradient norm ‖∂L/∂W‖")
        axes.set_xlim(1, float(frame["layer_index"].max()))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for text in figure.legend(loc="outside upper center", ncols=2, fontsize=SMALL_POINTS).get_texts():
            text.set_parse_math(False)
        places = {"init": "at initialisation", "last": "after the last epoch", "best": "at the best epoch"}
        at = " and ".join(places[place] for place in dict.fromkeys(frame["at"]))
        caption(figure, f"{frame['dataset'].iloc[0]}; {at}; mean over minibatches, shaded: ± standard deviation")
    return figure
