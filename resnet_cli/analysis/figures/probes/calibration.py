"""Summary and figure of the probe `calibration`: reliability diagrams and overall measures."""

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import RULE, caption, house_style, legend, network_style, new_figure

_TITLES = {"none": "outputs as they are", "temperature": "scaled by a cross-fitted temperature"}
_MEASURES = {
    "gap_pct": "confidence − accuracy", "entropy": "entropy", "nll": "NLL", "brier": "Brier", "ece_pct": "ECE %",
}  # fmt: skip


_FEWEST_IMAGES = 5  # an accuracy over fewer images is mostly noise


def table(frame: pd.DataFrame) -> Summary:
    """One row per network and scaling: measures over all images, and the mean of the two temperatures."""
    rows: list[list[Cell]] = [
        [
            str(row["label"]), str(row["scaling"]), float(row["accuracy_pct"]),
            *(float(row[name]) for name in _MEASURES), float(row["temperature_1"] + row["temperature_2"]) / 2,
        ]
        for _, row in frame[frame["bin"].isna()].iterrows()
    ]  # fmt: skip
    notes = ["confidence − accuracy in percentage points (positive: overconfident); entropy and NLL in nats"]
    return Summary(["network", "scaling", "accuracy %", *_MEASURES.values(), "temperature"], rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence for each bin, without and with temperature scaling."""
    bins = frame[frame["bin"].notna() & (frame["num_images"] >= _FEWEST_IMAGES)]
    with house_style():
        figure, panels = new_figure(1, 2, 2.9, sharey=True)
        for axes, (scaling, title) in zip(panels, _TITLES.items(), strict=True):
            axes.plot([0, 100], [0, 100], color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
            for _, rows in bins[bins["scaling"] == scaling].groupby("label", sort=False):
                style = network_style(str(rows["network"].iloc[0]))
                axes.plot(rows["confidence_pct"], rows["accuracy_pct"], color=style.color, linewidth=0.8, alpha=0.7)
                # the area of a marker is proportional to the number of images
                area = 4 + 60 * rows["num_images"] / rows["num_images"].sum()
                axes.scatter(rows["confidence_pct"], rows["accuracy_pct"], s=area, color=style.color, linewidths=0)
            axes.set_title(title)
            axes.set_xlabel("mean confidence of the bin (%)")
        panels[0].set_ylabel("accuracy of the bin (%)")
        legend(figure, list(dict.fromkeys(frame["network"])))
        text = f"15 bins of equal width; those with fewer than {_FEWEST_IMAGES} images are not drawn"
        caption(figure, f"{text}; the area of a marker is proportional to the number of test images")
        return figure
