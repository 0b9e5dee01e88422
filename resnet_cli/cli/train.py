"""`resnet train`: train one network into one run directory."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.config import FIELDS, RunConfig, RunOptions, SaveEvery
from resnet_cli.errors import UsageError
from resnet_cli.recipes import RECIPE_NAMES, RECIPES, Recipe, make_config
from resnet_cli.rundir import RunDir, RunRecord


def _recipe_help(recipe: Recipe) -> str:
    source = f"Source: {recipe.source}. Expected: {recipe.expected}. Cost: {recipe.cost}."
    differences = f" Differences: {recipe.differences}." if recipe.differences else ""
    return f"{recipe.name}: {recipe.summary}. {source}{differences}"


# One string per paragraph: in this markup mode a line break in the source is a line break on the screen.
HELP = "\n\n".join(
    (
        "Train one network and write its run directory.",
        "Running the same command again resumes an incomplete run and leaves a complete one unchanged. "
        "The recipe supplies the value of every option that you omit.",
        "Examples:",
        "  resnet train --recipe demo --arch plain --depth 56",
        "  resnet train --arch resnet --depth 56 --device cuda",
        "  resnet train --arch plain --depth 20 --dataset imagefolder --data-dir DIR --epochs 5",
        "  resnet train --recipe he2015 --arch resnet --depth 110 --out runs/he-110",
        "  resnet train --from runs/he-110 --out runs/he-110-again",
        "Recipes:",
        *map(_recipe_help, RECIPES.values()),
    )
)

_RUN_PANEL = "Run directory"


@config_options(
    *FIELDS,
    recipe=f"Recipe that supplies the defaults: {RECIPE_NAMES} (default: report2025).",
    arch="Architecture: plain or residual (required).",
    depth="Number of weighted layers, 6n+2: 8, 14, 20, …, 1202 (required).",
)
def command(
    *,
    given: dict[str, Any],
    from_run: Annotated[Path | None, typer.Option(
        "--from", metavar="RUN", show_default=False,
        help="Repeat RUN with its recorded configuration; cannot be combined with --arch, --depth or any other "
        "option that changes the configuration.",
    )] = None,
    data_dir: DataDir = None,
    cuda_graph: Annotated[bool, typer.Option(
        "--cuda-graph/--no-cuda-graph", rich_help_panel="Machine",
        help="On an NVIDIA GPU, launch each step as one CUDA graph. Results are unchanged.",
    )] = False,
    out: Annotated[Path | None, typer.Option(
        show_default=False, rich_help_panel=_RUN_PANEL,
        help="Run directory (default: runs/ and a name derived from the configuration).",
    )] = None,
    save_every: Annotated[str, typer.Option(
        rich_help_panel=_RUN_PANEL, metavar="N[epochs|steps|min]", help="Checkpoint interval."
    )] = "1epoch",
    overwrite: Annotated[bool, typer.Option(
        "--overwrite", rich_help_panel=_RUN_PANEL, help="Start from scratch; removes only files that this tool wrote."
    )] = False,
    accept_changes: Annotated[bool, typer.Option(
        "--accept-changes", rich_help_panel=_RUN_PANEL,
        help="Resume even if this machine cannot reproduce the original device, precision or compile settings.",
    )] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    options = RunOptions(
        data_dir=str(data_dir) if data_dir else None, save_every=SaveEvery.parse(save_every), cuda_graph=cuda_graph
    )
    how: dict[str, Any] = {"overwrite": overwrite, "accept_changes": accept_changes}
    if from_run is None:
        config = _config(given)
    else:
        record = _record(from_run, given)
        config = record.config
        how["decisions"] = None if accept_changes else record.decisions
        how["recorded_data"] = record.dataset
        out = out or from_run.parent / f"{from_run.name}-repeat"
    _run(config, out, options, how=how, output=Output(json=json, quiet=quiet, is_saved=True))


def _config(given: dict[str, Any]) -> RunConfig:
    for name in ("arch", "depth"):
        if name not in given:
            raise UsageError(
                f"missing option --{name}", hint="for example: resnet train --arch resnet --depth 20, or --from RUN"
            )
    return make_config(**given)


def _record(path: Path, given: dict[str, Any]) -> RunRecord:
    """Read the record of the run at `path`; raise `UsageError` if options of a configuration were given too."""
    if given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise UsageError(f"{option} cannot be combined with --from (already set by {path})", hint="omit one of them")
    return RunDir(path).read_record()


def _run(config: RunConfig, out: Path | None, options: RunOptions, *, how: dict[str, Any], output: Output) -> None:
    from resnet_cli.cli.train_progress import TrainReporter
    from resnet_cli.cli.views import summary_table
    from resnet_cli.session import train

    with TrainReporter(output) as reporter:
        result = train(config, out, options=options, reporter=reporter, **how)
    if result.was_complete:
        output.note(f"{result.run.path} is already complete; use --overwrite to train it again")
    document = {
        "path": str(result.run.path), "status": "complete", "was_complete": result.was_complete,
        "run": result.record, "summary": result.summary,
    }  # fmt: skip
    output.result(document, summary_table(result.record, result.summary, result.run.path))
