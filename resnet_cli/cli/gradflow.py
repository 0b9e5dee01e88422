"""`resnet gradflow`: gradient at every layer and block, networks side by side, with a verdict."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.analysis.figures import SUFFIXES
from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.cli.subjects import Which, new_networks, saved_networks
from resnet_cli.errors import CheckFailedError, UsageError
from resnet_cli.util.text import csv_text, printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table

    from resnet_cli.analysis.gradients import NetworkFlow
    from resnet_cli.measure import Subject

HELP = """Measure how the gradient changes from the last layer to the first, networks side by side.

Without arguments: plain-56 and resnet-56 at initialisation, five seeds each, on the embedded digits.
With run directories: the networks of those runs, with initial, last or best weights; seeds of one network are averaged.
Rows of a run are stored in its folder probes/, as by resnet probe gradflow.

All measures are independent of the scale of the weights (docs/probes.md defines them). A verdict for each network
says whether its gradient vanishes or explodes towards the input within a stage.

Examples:

  resnet gradflow

  resnet gradflow --depth 110 --seeds 3 --plot gradflow.png

  resnet gradflow --arch resnet --depth 20 --shortcut B --json

  resnet gradflow runs/ --which last

  resnet gradflow --depth 20 --check-identity
"""

Format = Literal["table", "csv", "json"]
_IDENTITY = ["label", "network", "which", "dataset"]
_BAR_WIDTH = 10
# Rounding in float64 alone gives about 1e-15.
MAX_IDENTITY_RESIDUAL = 1e-10


@config_options(
    "device",
    arch="Measure only this architecture (default: plain and resnet).",
    depth="Number of weighted layers, 6n+2 (default: 56).",
    shortcut="Shortcut of the residual network: A (zero-padding, the default) or B (1×1 projection).",
    seed="First seed for the initial weights (default: 0).",
    dataset="Dataset to measure on (default: digits).",
)
def command(
    *,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run directories, folders of runs, or weight files.",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ] = None,
    which: Annotated[
        Which | None, typer.Option(help="Weights of the runs to measure (default: last).", show_default=False)
    ] = None,
    given: dict[str, Any],
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds for the initial weights (default: 5).", min=1, max=100, show_default=False),
    ] = None,
    data_dir: DataDir = None,
    batches: Annotated[int, typer.Option(help="Number of minibatches to average over.", min=1, max=10_000)] = 4,
    batch_size: Annotated[int, typer.Option(help="Number of images per minibatch.", min=2, max=1_000_000)] = 128,
    identity: Annotated[
        bool,
        typer.Option(
            "--check-identity",
            help="Only check in float64 that the gradient at each block's input is the sum of its two parts.",
        ),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = "table",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the gradients into this .png, .svg or .pdf file.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    output = Output(json=json or format_ == "json", quiet=quiet)
    device = given.pop("device", "auto")
    if plot and plot.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {plot}: unsupported format", hint="use .png, .svg or .pdf")
    if runs:
        given = {**given, **({"seeds": seeds} if seeds else {})}
        subjects = _join_seeds(saved_networks(runs, which, given, output, only_new=("seed", "seeds")))
    else:
        first = given.pop("seed", 0)
        subjects = new_networks(which, given, range(first, first + (seeds or 5)))
    output.loading_torch()
    if identity:
        _check_identity(subjects, data_dir, device, output)
        return
    from resnet_cli.measure import ProbeOptions, run_probe

    settings = (f"batches={batches}", f"batch_size={batch_size}")
    # `which` of new networks is fixed, that of runs defaults to last
    options = ProbeOptions(which, batch_size=batch_size, settings=settings, device=device, data_dir=data_dir)
    with output.progress() as progress:
        result = run_probe("gradflow", subjects, options, progress=progress, note=output.note)
    frame = result.frame
    if plot:
        from resnet_cli.analysis.figures.gradients import measured_gradients
        from resnet_cli.analysis.figures.style import save

        save(measured_gradients(frame), plot)
        output.note(f"wrote {plot}")
    if format_ == "csv" and not json:
        output.raw(frame.assign(label=frame["label"].map(csv_text)).to_csv(index=False))
    else:
        from resnet_cli.analysis.gradients import flow_of_networks

        flows = flow_of_networks(frame)
        output.result(_document(frame, flows), None if output.json else _page(frame, flows))


def _join_seeds(subjects: "list[Subject]") -> "list[Subject]":
    """Label runs that differ in their seed alone with the name of their network."""
    import msgspec

    kinds: dict[str, set[Any]] = {}
    for subject in subjects:
        kinds.setdefault(subject.config.network, set()).add(msgspec.structs.replace(subject.config, seed=0))
    distinct = {(subject.config, subject.which) for subject in subjects}
    if len(distinct) < len(subjects):  # two runs of one seed are not two samples
        return subjects
    return [
        subject._replace(label=subject.config.network) if len(kinds[subject.config.network]) == 1 else subject
        for subject in subjects
    ]


def _check_identity(subjects: "list[Subject]", data_dir: Path | None, device: str, output: Output) -> None:
    from rich.text import Text

    from resnet_cli.measure import check_identity

    with output.progress() as progress:
        residuals = check_identity(subjects, data_dir=data_dir, device=device, progress=progress)
    lines = [f"{printable(label)}: largest relative residual over all blocks {value:.1e}" for label, value in
             residuals.items()]  # fmt: skip
    title = "∂L/∂x = Sᵀ(m ⊙ g) + J_Fᵀ(m ⊙ g) in float64"
    documents = [{"label": label, "max_relative_residual": value} for label, value in residuals.items()]
    output.result({"identity": documents, "limit": MAX_IDENTITY_RESIDUAL}, Text("\n".join([title, *lines])))
    if max(residuals.values()) > MAX_IDENTITY_RESIDUAL:
        raise CheckFailedError(f"the identity does not hold to {MAX_IDENTITY_RESIDUAL:g}")


def _document(frame: "pd.DataFrame", flows: "list[NetworkFlow]") -> dict[str, Any]:
    return {"networks": [_network(frame[frame["label"] == flow.label], flow) for flow in flows]}


def _network(rows: "pd.DataFrame", flow: "NetworkFlow") -> dict[str, Any]:
    ranges = zip(flow.stages, flow.lowest_growth, flow.highest_growth, strict=True)
    return {
        **{name: rows[name].iloc[0] for name in _IDENTITY},
        "seeds": flow.seeds,
        **flow.verdict._asdict(),
        "seeds_with_this_verdict": flow.agreeing,
        "stages": [
            {**stage._asdict(), "lowest_growth_per_block": low, "highest_growth_per_block": high}
            for stage, low, high in ranges
        ],
        "layers": rows.drop(columns=_IDENTITY).to_dict("records"),
    }


def _page(frame: "pd.DataFrame", flows: "list[NetworkFlow]") -> "Group":
    from rich.console import Group
    from rich.text import Text

    dataset, which = frame[["dataset", "which"]].iloc[0]
    weights = {"init": "initial weights", "last": "last weights", "best": "best weights"}.get(which, "weight file")
    num_seeds = max(len(flow.seeds) for flow in flows)
    over = f"; geometric mean over {num_seeds} seeds" if num_seeds > 1 else ""
    verdicts = [_verdict_line(flow) for flow in flows]
    return Group(
        Text(printable(f"gradient flow, {dataset}, {weights}{over}")),
        Text("\nweights: ‖W‖·‖∂L/∂W‖ of each layer (bars: log scale)"), _layer_table(frame),
        Text("\nblocks: ‖∂L/∂x‖ at the input; growth: ÷ at the output; skip: share through the shortcut"),
        _block_table(frame),
        Text("\nstages: growth per block towards the input, where the shape does not change"), _stage_table(flows),
        Text("\n" + "\n".join(verdicts)),
    )  # fmt: skip


def _verdict_line(flow: "NetworkFlow") -> str:
    seeds = f" ({flow.agreeing} of {len(flow.seeds)} seeds)" if len(flow.seeds) > 1 else ""
    return f"{printable(flow.label)}: {flow.verdict}{seeds}"


def _means(frame: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """Geometric mean over seeds of one column: one row per layer, in forward order, and one column per network."""
    import numpy as np

    logs = np.log(frame[column].where(frame[column] > 0).replace(np.inf, np.nan))
    means = frame.assign(log=logs).pivot_table(index="layer", columns="label", values="log")
    labels = [label for label in frame["label"].unique() if label in means.columns]
    # the deepest network has every layer of the others, in the same order
    order = frame.groupby("layer")["layer_index"].max().loc[means.index].sort_values().index
    return means.loc[order, labels].apply(np.exp)


def _layer_table(frame: "pd.DataFrame") -> "Table":
    import numpy as np
    from rich.bar import Bar
    from rich.table import Table

    means = _means(frame, "scale_free_grad_norm")
    logs = np.log10(means)
    low, high = logs.min().min(), logs.max().max()
    shortest = 1 / (8 * _BAR_WIDTH)  # an eighth of a character
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for label in means.columns:
        table.add_column(printable(str(label)), justify="right", no_wrap=True)
        table.add_column("", width=_BAR_WIDTH, no_wrap=True)
    for layer, values in means.iterrows():
        cells: list[Any] = []
        for value in values:
            share = max((np.log10(value) - low) / (high - low), shortest) if high > low else 1.0
            cells += ["", ""] if np.isnan(value) else [f"{value:.2e}", Bar(1, 0, share, color="cyan")]
        table.add_row(str(layer), *cells)
    return table


def _block_table(frame: "pd.DataFrame") -> "Table":
    from rich.table import Table

    blocks = frame[frame["input_grad_norm"].notna()]
    norms, growth = _means(blocks, "input_grad_norm"), _means(blocks, "growth")
    shares = blocks.groupby(["label", "layer"], sort=False)[["skip_share", "skip_branch_cosine"]].mean()
    table = Table(box=None, pad_edge=False)
    table.add_column("block", no_wrap=True)
    residual = {label for label in norms.columns if shares.loc[label]["skip_share"].notna().any()}
    for label in norms.columns:
        for header in (printable(str(label)), "growth", *(("skip", "cosine") if label in residual else ())):
            table.add_column(header, justify="right", no_wrap=True)
    for layer in norms.index:
        cells = [str(layer).removesuffix(".conv1")]
        for label in norms.columns:
            cells += [_number(norms.at[layer, label], ".2e"), _number(growth.at[layer, label], ".2f")]
            if label in residual:
                share, cosine = shares.loc[(label, layer)] if (label, layer) in shares.index else (None, None)
                cells += [_number(share, ".2f"), _number(cosine, "+.2f")]
        table.add_row(*cells)
    return table


def _stage_table(flows: "list[NetworkFlow]") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for header in ("stage", "growth per block", "range over seeds", "over the stage", "‖W‖·‖∂L/∂W‖ over the stage"):
        table.add_column(header, justify="right")
    for flow in flows:
        for stage, low, high in zip(flow.stages, flow.lowest_growth, flow.highest_growth, strict=True):
            seeds = f"{low:.3f} … {high:.3f}" if len(flow.seeds) > 1 else "—"
            table.add_row(
                printable(flow.label), str(stage.stage), _number(stage.growth_per_block, ".3f"), seeds,
                _number(stage.ratio, ".3g"), _number(stage.weight_ratio, ".3g"),
            )  # fmt: skip
    return table


def _number(value: Any, form: str) -> str:
    return "—" if value is None or math.isnan(value) else f"{value:{form}}"
