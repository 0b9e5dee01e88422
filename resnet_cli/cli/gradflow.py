"""`resnet gradflow`: gradient norm of every layer, networks side by side."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.analysis.figures import SUFFIXES
from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.errors import UsageError
from resnet_cli.util.text import printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group

HELP = """Measure the norm of the gradient at each layer, networks side by side.

Without arguments: plain-56 and resnet-56 at initialisation, on the embedded digits.
With run directories: the networks of those runs, with initial, last or best weights.

Examples:

  resnet gradflow

  resnet gradflow --depth 110 --plot gradflow.png

  resnet gradflow --arch resnet --depth 20 --shortcut B --seed 1 --json

  resnet gradflow runs/plain-56 runs/resnet-56 --which last
"""

Which = Literal["init", "last", "best"]
Format = Literal["table", "csv", "json"]
_IDENTITY = ["label", "network", "which", "dataset", "seed"]
_BAR_WIDTH = 14


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
        list[Path] | None, typer.Argument(metavar="RUN", help="Run directories.", show_default=False)
    ] = None,
    which: Annotated[
        Which | None, typer.Option(help="Weights of the runs to measure (default: last).", show_default=False)
    ] = None,
    given: dict[str, Any],
    data_dir: DataDir = None,
    batches: Annotated[int, typer.Option(help="Number of minibatches to average over.", min=1)] = 8,
    batch_size: Annotated[int, typer.Option(help="Number of images per minibatch.", min=2)] = 128,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = "table",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the norms into this .png, .svg or .pdf file.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    output = Output(json=json or format_ == "json", quiet=quiet)
    device = given.pop("device", "auto")
    if runs:
        for name, value in given.items():
            clash = f"--{name} {value} cannot be combined with run directories"
            raise UsageError(f"{clash}, which record their own network and data", hint=f"omit --{name}")
    elif which not in (None, "init"):
        raise UsageError(f"--which {which} needs a run directory", hint="name one, or omit --which")
    if plot and plot.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {plot}: unsupported format", hint="use .png, .svg or .pdf")
    output.loading_torch()
    from resnet_cli.measure import fresh_subjects, measure, run_subjects

    subjects = run_subjects(runs, which or "last") if runs else fresh_subjects(**given)
    from resnet_cli.probes.gradflow import measure_gradflow  # imports torch, so errors in the options come first

    probe = functools.partial(measure_gradflow, num_batches=batches)
    with output.progress() as progress:
        frame = measure(subjects, probe, batch_size=batch_size, data_dir=data_dir, device=device, progress=progress)
    if plot:
        from resnet_cli.analysis.figures.gradients import measured_gradients
        from resnet_cli.analysis.figures.style import save

        save(measured_gradients(frame), plot)
        output.note(f"wrote {plot}")
    if format_ == "csv" and not json:
        output.raw(frame.assign(label=frame["label"].map(printable)).to_csv(index=False))
    else:
        output.result(_document(frame), _table(frame))


def _document(frame: "pd.DataFrame") -> dict[str, Any]:
    from resnet_cli.analysis.gradients import gradient_trend

    return {
        "networks": [
            {
                **rows[_IDENTITY].iloc[0].to_dict(),
                **gradient_trend(rows)._asdict(),
                "layers": rows.drop(columns=_IDENTITY).to_dict("records"),
            }
            for _, rows in frame.groupby("label", sort=False)
        ]
    }


def _table(frame: "pd.DataFrame") -> "Group":
    import numpy as np
    from rich.bar import Bar
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from resnet_cli.analysis.gradients import gradient_trend

    logs = np.log10(frame["grad_norm"].where(frame["grad_norm"] > 0)).replace(np.inf, np.nan)
    shares = (logs - logs.min()) / (logs.max() - logs.min())
    shortest = 1 / (8 * _BAR_WIDTH)  # an eighth of a character
    frame = frame.assign(share=shares.clip(lower=shortest).fillna(0.0))
    networks = [(printable(str(label)), rows) for label, rows in frame.groupby("label", sort=False)]
    dataset, which = frame[["dataset", "which"]].iloc[0]
    title = f"gradient norm ‖∂L/∂W‖, {which.replace('init', 'initial')} weights, {dataset} (bars: log scale)"
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    cells = []  # by layer, for each network
    for label, rows in networks:
        table.add_column(label, justify="right", no_wrap=True)
        table.add_column("", width=_BAR_WIDTH, no_wrap=True)
        values = zip(rows["layer"], rows["grad_norm"], rows["share"], strict=True)
        cells.append({layer: (f"{norm:.2e}", Bar(1, 0, share, color="cyan")) for layer, norm, share in values})
    for layer in max(cells, key=len):  # the deepest network has all layers of the others
        table.add_row(layer, *(cell for of_network in cells for cell in of_network.get(layer, ("", ""))))
    lines = []
    for label, rows in networks:
        trend = gradient_trend(rows)
        lines.append(
            f"{label}: stage 1 / stage 3 ratio {trend.early_late_ratio:.3g}, "
            f"slope {trend.log10_slope_per_layer:+.4f} decades per layer towards the output"
        )
    return Group(Text(printable(title)), table, Text("\n".join(lines)))
