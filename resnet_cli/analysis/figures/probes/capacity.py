"""Summary and figure of the probe `capacity`: a deeper plain network built from a shallower one."""

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import DASHES, caption, house_style, legend, network_style, new_figure

_STATISTICS = {"initial": DASHES["train"], "matched": DASHES["test"]}


def table(frame: pd.DataFrame) -> Summary:
    """One row per network and choice of batch-norm statistics; errors are those of the training images."""
    train = frame[frame["split"] == "train"]
    rows: list[list[Cell]] = []
    for (label, statistics), group in train.groupby(["label", "statistics"], sort=False):
        shallow, deep = (
            group[group["built_depth"] == depth] for depth in (group["built_depth"].min(), group["built_depth"].max())
        )
        evaluated, trained = (deep[deep["mode"] == mode].iloc[0] for mode in ("eval", "train"))
        tuned = deep[deep["mode"] == "fine-tuned"]
        rows.append([
            str(label), f"plain-{evaluated['built_depth']}", str(statistics), float(shallow["error_pct"].iloc[0]),
            float(evaluated["error_pct"]), int(evaluated["num_changed"]), float(evaluated["max_logit_difference"]),
            float(trained["error_pct"]), float(trained["max_logit_difference"]),
            float(tuned["error_pct"].iloc[-1]) if len(tuned) else None,
        ])  # fmt: skip
    columns = [
        "network", "deeper", "statistics", "error %", "deeper error %", "changed", "max |Δ logit|",
        "training mode error %", "training mode max |Δ logit|", "fine-tuned error %",
    ]  # fmt: skip
    return Summary(
        columns,
        rows,
        [
            "training images; changed: predictions that differ from the shallower network; "
            "statistics: batch norm of the identity blocks"
        ],
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the training error of the shallower and the deeper network, in training mode, and after each epoch."""
    train = frame[frame["split"] == "train"]
    num_epochs = int(train["epoch"].max())
    steps = ["shallower", "deeper, eval mode", "deeper, training mode", *map(str, range(1, num_epochs + 1))]
    with house_style():
        figure, (axes,) = new_figure(1, 1, 2.4)
        for (_, statistics), group in train.groupby(["label", "statistics"], sort=False):
            is_deep = group["built_depth"] == group["built_depth"].max()
            shallow = group[~is_deep & (group["mode"] == "eval")]
            deep = group[is_deep].sort_values("epoch", kind="stable")  # eval, train, fine-tuned
            errors = [*shallow["error_pct"], *deep["error_pct"]]
            style = network_style(str(group["network"].iloc[0]))
            line = {"linewidth": style.line_width, "linestyle": _STATISTICS[str(statistics)]}
            axes.plot(range(len(errors)), errors, color=style.color, marker=".", **line)
        axes.set_xticks(range(len(steps)), [step.replace(", ", ",\n") for step in steps])
        axes.set_ylabel("training error (%)")
        axes.set_ylim(bottom=-2)
        axes.margins(x=0.1)
        keys = [(f"{name} statistics", {"linestyle": dashes}) for name, dashes in _STATISTICS.items()]
        legend(figure, list(dict.fromkeys(frame["network"])), keys)
        text = "deeper: identity blocks appended to each stage, without training"
        caption(figure, f"{text}; then epochs of fine-tuning" if num_epochs else text)
        return figure
