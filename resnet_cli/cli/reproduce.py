"""`resnet reproduce`: the whole study, from nothing to Table 1 and the figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet, Recipe, config_options
from resnet_cli.cli.output import Output
from resnet_cli.config import RunConfig
from resnet_cli.errors import DivergedError, UsageError

HELP = """Train plain and residual networks of two depths, then write Table 1 and the figures.

Runs that are there already are kept and unfinished ones resumed, so the same command can be given again
after an interruption, or with more seeds. The runs go to DIR/runs, the figures to DIR/figures,
the table to DIR/table1.md.

Examples:

  resnet reproduce --recipe demo

  resnet reproduce --recipe demo --seeds 0,1,2 --out degradation

  resnet reproduce --recipe report2025 --seeds 0,1,2 --device cuda
"""


@config_options(
    *("limit_train", "limit_test", "device", "precision"),
    dataset="Dataset to train on (default: from the recipe).",
    epochs="Training length in epochs (default: from the recipe).",
)
def command(
    *,
    recipe: Recipe = "demo",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study (default: reproduction/RECIPE).", show_default=False)
    ] = None,
    depths: Annotated[str, typer.Option(metavar="N,N,…", help="Depths to train, each 6n+2.")] = "20,56",
    seeds: Annotated[str, typer.Option(metavar="N,N,…", help="Seeds to train each network with.")] = "0",
    given: dict[str, Any],
    data_dir: DataDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from resnet_cli.recipes import make_config

    output = Output(json=json, quiet=quiet)
    configs = [
        make_config(recipe, arch=arch, depth=depth, seed=seed, **given)
        for seed in _numbers("--seeds", seeds)
        for depth in _numbers("--depths", depths)
        for arch in ("plain", "resnet")
    ]
    _reproduce(configs, out or Path("reproduction") / recipe, data_dir, output)


def _reproduce(configs: list[RunConfig], folder: Path, data_dir: Path | None, output: Output) -> None:
    from resnet_cli.analysis import tables
    from resnet_cli.cli.compare import ReportView
    from resnet_cli.study import launch, plan, status_of

    jobs = plan(configs, folder / "runs", status_of)
    todo = [job for job in jobs if job.state in ("todo", "resume")]
    output.note(f"{len(jobs)} runs in {folder / 'runs'}: {len(jobs) - len(todo)} done, {len(todo)} to train")
    # finished ones too: the child checks that what lies there is what was asked for
    for number, job in enumerate(jobs, start=1):
        output.note(f"[{number}/{len(jobs)}] {job.config.network}, seed {job.config.seed}")
        try:
            launch(job, data_dir=data_dir, quiet=output.quiet)
        except DivergedError as error:
            output.warn(f"{error}; it is listed as such and left out of the means")
    document, figures = _write(folder, output)
    output.result(document, ReportView(tables.layout(document)))
    output.note(f"wrote {folder / 'table1.md'} and {len(figures)} figures in {folder / 'figures'}")


def _write(folder: Path, output: Output) -> tuple[dict[str, Any], list[Path]]:
    """Write the table and the figures of all runs in the study; returns the document and the figures' paths."""
    from resnet_cli.analysis import tables
    from resnet_cli.analysis.figures import draw_or_explain
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.cli.plot import write_figures
    from resnet_cli.util.files import write_atomic

    study = load_study([folder / "runs"], with_metrics=True)
    document = tables.study_document(study)
    write_atomic(folder / "table1.md", tables.render_document(document, "markdown").encode())
    drawn, not_drawn = draw_or_explain(study)
    for figure in not_drawn:
        output.note(f"{figure.kind} is not drawn: {figure.reason}")
    paths = write_figures(drawn, folder / "figures", ".png", list(study.groups()), output)
    return {**document, "table": str(folder / "table1.md"), "figures": [str(path) for path in paths]}, paths


def _numbers(option: str, text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of whole numbers", hint=f"use {option} 0,1,2") from None
    return list(dict.fromkeys(values))
