"""`resnet gradflow`: gradient norm of every layer, networks side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.errors import UsageError
from resnet_cli.util.text import printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group

HELP = """Print the gradient norm that reaches each layer, networks side by side.

Without arguments: plain-56 beside resnet-56 at initialisation, on the embedded digits.
With run directories: those runs, at initialisation, at the end or at their best.

Examples:

  resnet gradflow

  resnet gradflow --depth 110 --plot gradflow.png

  resnet gradflow --arch resnet --depth 20 --shortcut B --seed 1 --json

  resnet gradflow runs/plain-56 runs/resnet-56 --at last
"""

At = Literal["init", "last", "best"]
Format = Literal["table", "csv", "json"]
_BAR_WIDTH = 14
_PICTURES = (".png", ".svg", ".pdf")


@config_options(
    "device",
    arch="Measure only this architecture (default: plain and resnet).",
    depth="Number of weighted layers, 6n+2 (default: 56).",
    shortcut="Shortcut of the residual network: A (zero-padding, the default) or B (1×1 projection).",
    seed="Seed for the initial weights (default: 0).",
    dataset="Dataset to measure on (default: digits).",
)
def command(
    *,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUNS...]", help="Run directories.", show_default=False)
    ] = None,
    at: Annotated[
        At | None, typer.Option(help="Weights of the runs to measure (default: last).", show_default=False)
    ] = None,
    given: dict[str, Any],
    data_dir: DataDir = None,
    batches: Annotated[int, typer.Option(help="Number of minibatches to average over.", min=1)] = 8,
    batch_size: Annotated[int, typer.Option(help="Number of images per minibatch.", min=2)] = 128,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = "table",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the norms into this .png, .svg or .pdf file.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    output = Output(json=json or format_ == "json", quiet=quiet)
    device = given.pop("device", "auto")
    if runs:
        for name, value in given.items():
            raise UsageError(
                f"--{name} {value} cannot be combined with run directories, which record their own network and data"
            )
    elif at not in (None, "init"):
        raise UsageError(f"--at {at} needs a run directory", hint="name one, or leave --at out")
    if plot and plot.suffix.lower() not in _PICTURES:
        raise UsageError(f"--plot {plot}: the file's suffix is none of {', '.join(_PICTURES)}")
    from resnet_cli.measure import Subject, profile, subjects_of_networks, subjects_of_runs

    subjects: list[Subject]
    if runs:
        subjects = subjects_of_runs(runs, at or "last")
    else:
        defaults = {"arch": None, "depth": 56, "shortcut": None, "seed": 0, "dataset": "digits"}
        subjects = subjects_of_networks(**{**defaults, **given})
    with output.progress() as progress:
        frame = profile(
            subjects, data_dir=data_dir, num_batches=batches, batch_size=batch_size, device=device, progress=progress
        )
    if plot:
        from resnet_cli.analysis.figures.profile import profile_figure
        from resnet_cli.analysis.figures.style import save

        save(profile_figure(frame), plot)
        output.note(f"wrote {plot}")
    if format_ == "csv" and not json:
        output.raw(frame.assign(label=frame["label"].map(printable)).to_csv(index=False))
    else:
        output.result(_document(frame), _table(frame))


def _document(frame: "pd.DataFrame") -> dict[str, Any]:
    from resnet_cli.analysis.gradients import gradient_trend

    networks = []
    for label, rows in frame.groupby("label", sort=False):
        first = rows.iloc[0]
        networks.append(
            {
                "label": str(label),
                **{name: first[name] for name in ("network", "at", "dataset")},
                "seed": int(first["seed"]),
                **gradient_trend(rows)._asdict(),
                "layers": rows.drop(columns=["label", "network", "at", "dataset", "seed"]).to_dict("records"),
            }
        )
    return {"networks": networks}


def _table(frame: "pd.DataFrame") -> "Group":
    import numpy as np
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from resnet_cli.analysis.gradients import gradient_trend

    labels = list(dict.fromkeys(frame["label"]))
    norms = frame.loc[frame["grad_norm"] > 0, "grad_norm"]
    low, high = (np.log10(norms.min()), np.log10(norms.max())) if len(norms) else (0.0, 1.0)
    table = Table(box=None, pad_edge=False, title=printable(_title(frame)), title_justify="left")
    table.add_column("layer", no_wrap=True)
    for label in labels:
        table.add_column(printable(label), justify="right", no_wrap=True)
        table.add_column("", width=_BAR_WIDTH, no_wrap=True)
    columns = {label: frame[frame["label"] == label].set_index("layer")["grad_norm"] for label in labels}
    order = frame.sort_values("layer_index")["layer"].drop_duplicates()
    # a deep network's layers come between those of a shallower one; the longest has them all
    longest = max(columns.values(), key=len)
    for layer in longest.index if set(order) == set(longest.index) else order:
        cells: list[str | Text] = [str(layer)]
        for label in labels:
            norm = columns[label].get(layer)
            cells += ["", ""] if norm is None else [f"{norm:.2e}", Text(bar(norm, low, high, _BAR_WIDTH), style="cyan")]
        table.add_row(*cells)
    lines: list[Text | Table] = [table]
    for label in labels:
        trend = gradient_trend(frame[frame["label"] == label])
        lines.append(
            Text(
                f"{printable(label)}: early/late ratio {trend.early_late_ratio:.3g} (stage 1 over stage 3), "
                f"slope {trend.log10_slope_per_layer:+.4f} decades a layer towards the output"
            )
        )
    return Group(*lines)


def _title(frame: "pd.DataFrame") -> str:
    first = frame.iloc[0]
    same_place = frame["at"].nunique() == 1
    return f"gradient norm ‖∂L/∂W‖ {'at ' + first['at'] if same_place else ''}, {first['dataset']} (bars: log scale)"


def bar(value: float, low: float, high: float, width: int) -> str:
    """A bar of block characters for log10(value) between `low` and `high`; at least an eighth of a character."""
    import math

    if value <= 0 or not math.isfinite(value):
        return ""
    share = 1.0 if high <= low else (math.log10(value) - low) / (high - low)
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else "▏▎▍▌▋▊▉"[eighths % 8 - 1])
