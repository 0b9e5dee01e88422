"""`resnet probe`: one measurement on any networks, or all of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.analysis.figures import SUFFIXES
from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.cli.subjects import Which, new_networks, saved_networks
from resnet_cli.cli.views import ReportView
from resnet_cli.errors import NotApplicableError, UsageError
from resnet_cli.launch.channel import Warned, channel
from resnet_cli.probes.registry import ALL, TITLES, WITHOUT_TORCH, check_name
from resnet_cli.util.text import csv_text

if TYPE_CHECKING:
    import pandas as pd

    from resnet_cli.measure import ProbeResult, Subject

_TITLE_LINES = "\n\n".join(f"  {name}: {title}" for name, title in TITLES.items())

HELP = f"""Measure trained or newly initialised networks with one probe, or with all of them.

Networks are runs, folders of runs, weight files, or new networks that --arch, --depth and --seed describe.
Rows of a run are stored in its folder probes/, where other commands read them; they are measured only once.

Probes (docs/probes.md defines them and lists their settings):

{_TITLE_LINES}

Examples:

  resnet probe bn runs/

  resnet probe all runs/demo-plain-56 runs/demo-resnet-56

  resnet probe lesion runs/demo-resnet-56 --which best --plot lesion.png

  resnet probe shattering --arch plain --depth 56 --seed 1 --json

  resnet probe responses resnet56.th --dataset cifar10 --format csv
"""

Format = Literal["table", "csv", "json"]
_MAX_SEED = 2**31 - 1
_MAX_IMAGES = 10_000_000


@config_options(
    "device",
    arch="Architecture of a new network (default: plain and resnet), or of a weight file that does not determine it.",
    depth="Number of weighted layers of a new network, 6n+2 (default: 56).",
    shortcut="Shortcut of a new residual network: A (zero-padding, the default) or B (1×1 projection).",
    dataset="Dataset of a new network (default: digits), or of a weight file that does not record it.",
)
def command(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            help=f"Probe to run: {', '.join(TITLES)} or {ALL}.",
            autocompletion=lambda: [*TITLES, ALL],
        ),
    ],
    subjects: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SUBJECT", show_default=False, help="Run directories, folders of runs, or weight files."
        ),
    ] = None,
    which: Annotated[
        Which | None,
        typer.Option(show_default=False, help="Weights of the runs to measure (default: chosen by the probe)."),
    ] = None,
    given: dict[str, Any],
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=_MAX_SEED, help="Seed of the probe's random draws and, for a new network, of its weights."
        ),
    ] = 0,
    data_dir: DataDir = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=10,
            max=_MAX_IMAGES,
            show_default=False,
            help="Number of images per split to measure on (default: chosen by the probe).",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, max=_MAX_IMAGES, help="Number of images per batch.")] = 250,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            show_default=False,
            help="Change a setting of the probe. Can be given several times.",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again even if the result is already stored.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = "table",
    plot: Annotated[
        Path | None, typer.Option(show_default=False, help="Draw the result into this .png, .svg or .pdf file.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    check_name(name)
    _check_options(name, plot, format_, settings)
    from resnet_cli.measure import ProbeOptions, run_probe

    output = Output(json=json or format_ == "json", quiet=quiet)
    device = given.pop("device", "auto")
    networks = saved_networks(subjects, which, given, output) if subjects else _new(which, given, seed, output)
    options = ProbeOptions(which, images, batch_size, seed, tuple(settings or ()), device, data_dir, again)
    if name not in WITHOUT_TORCH:
        output.loading_torch()
    documents = []
    for one in TITLES if name == ALL else [name]:
        with output.progress() as progress:
            try:
                result = run_probe(one, networks, options, progress=progress, note=output.note)
            except NotApplicableError as error:
                _skip(name, error, output)
                continue
        for reason in result.refused:
            output.note(f"skipped {one} of {reason}")
        documents.append(_document(one, result))
        if plot:
            _draw(one, result.frame, plot)
            output.note(f"wrote {plot}")
        if output.json:
            continue
        if format_ == "csv":
            output.raw(result.frame.assign(label=result.frame["label"].map(csv_text)).to_csv(index=False))
        else:
            if len(documents) > 1:
                output.raw("")
            output.result({}, _page(one, result.frame))  # long work shows each table as soon as it is known
        if len(result.combined):
            output.note(f"{one}: --json also compares the networks with each other")
    if output.json:
        output.result({"probes": documents}, None)


def _new(which: Which | None, given: dict[str, Any], seed: int, output: Output) -> "list[Subject]":
    networks = new_networks(which, given, range(seed, seed + 1))
    names, dataset = " and ".join(network.label for network in networks), networks[0].config.dataset
    output.note(f"no SUBJECT given: measuring new, untrained networks ({names}, {dataset}, seed {seed})")
    return networks


def _skip(name: str, error: NotApplicableError, output: Output) -> None:
    """Report that a probe applies to no network, which is an error unless a study or `all` includes the probe."""
    if study := channel():
        study.send(Warned(f"skipped: {error}"))
    elif name != ALL:
        raise error
    output.note(f"skipped: {error}")


def _check_options(name: str, plot: Path | None, format_: Format, settings: list[str] | None) -> None:
    if plot and plot.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {plot}: unsupported format", hint="use .png, .svg or .pdf")
    for option, value in (("--plot", plot), ("--format csv", format_ == "csv"), ("--set", settings)):
        if value and name == ALL:
            raise UsageError(f"{option} needs one probe, not {ALL}", hint="name the probe")


def _view(name: str) -> Any:
    import importlib

    return importlib.import_module(f"resnet_cli.analysis.figures.probes.{name.replace('-', '_')}")


def _draw(name: str, frame: "pd.DataFrame", path: Path) -> None:
    from resnet_cli.analysis.figures.style import save

    save(_view(name).draw(frame), path)


def _document(name: str, result: "ProbeResult") -> dict[str, Any]:
    identity = ["label", "network", "which", "dataset", "seed"]
    return {
        "name": name,
        "title": TITLES[name],
        "networks": [
            {**rows[identity].iloc[0].to_dict(), "rows": rows.drop(columns=identity).to_dict("records")}
            for _, rows in result.frame.groupby("label", sort=False)
        ],
        "comparisons": result.combined.to_dict("records"),
        "refused": result.refused,
        "files": [str(path) for path in result.stored],
    }


def _page(name: str, frame: "pd.DataFrame") -> ReportView:
    from resnet_cli.analysis.figures.probes.summary import text_table
    from resnet_cli.analysis.tables import Report

    table = text_table(f"{name}: {TITLES[name]}", _view(name).table(frame))
    return ReportView(Report((table,), ()))
