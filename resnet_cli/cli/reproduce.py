"""`resnet reproduce`: the whole study, from training to Table 1 and the figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet, Recipe, config_options
from resnet_cli.cli.output import Output
from resnet_cli.cli.views import ReportView
from resnet_cli.config import RunConfig
from resnet_cli.errors import ConfigError, UsageError, as_arguments

HELP = """Train plain and residual networks of two depths, then write Table 1 and the figures.

Complete runs are kept and incomplete runs are resumed.
You can run the same command again after an interruption, or with more seeds.
The folder given by --out contains runs/, figures/, table1.md and study.toml.

Examples:

  resnet reproduce --recipe demo

  resnet reproduce --recipe demo --seeds 0,1,2 --out degradation

  resnet reproduce --recipe demo --seeds 0,1,2 --planned-seeds 10 --looks 3

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
    planned_seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            show_default=False,
            help="Seeds per network in the finished study, recorded before training (default: the number of --seeds).",
        ),
    ] = None,
    looks: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            metavar="N",
            help="How often claims will be judged while seeds are added, recorded before training: "
            "resnet compare --claims is stricter for several looks.",
        ),
    ] = 1,
    given: dict[str, Any],
    data_dir: DataDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    from resnet_cli.recipes import make_config

    output = Output(json=json, quiet=quiet, is_saved=True)
    try:
        configs = [
            make_config(recipe, arch=arch, depth=depth, seed=seed, **given)
            for seed in _numbers("--seeds", seeds)
            for depth in _numbers("--depths", depths)
            for arch in ("plain", "resnet")
        ]
    except ConfigError as error:
        for option, text, example in (("--depth", depths, "20,56"), ("--seed", seeds, "0,1,2")):
            if error.message.startswith(f"{option} "):
                problem = f"{option}s {text}: {as_arguments(error.message)}"
                raise UsageError(problem, hint=f"use {option}s {example}") from error
        raise
    _reproduce(configs, out or Path("reproduction") / recipe, data_dir, planned_seeds, looks, output)


def _record_plan(folder: Path, num_seeds: int, planned_seeds: int | None, looks: int, output: Output) -> None:
    """Write the plan of a new study; warn if an existing one is exceeded."""
    from resnet_cli.analysis.claims.plan import FILE_NAME, StudyPlan, read_plan, write_plan

    plan = read_plan(folder)
    if plan is None:
        write_plan(folder, StudyPlan(planned_seeds or num_seeds, looks))
    elif num_seeds > plan.seeds:
        output.warn(
            f"{folder / FILE_NAME} planned {plan.seeds} seeds, not {num_seeds}: seeds that are added after a look at "
            "the results need --looks for resnet compare --claims"
        )


def _reproduce(
    configs: list[RunConfig], folder: Path, data_dir: Path | None, planned_seeds: int | None, looks: int, output: Output
) -> None:
    from resnet_cli.analysis.figures import describe_skipped
    from resnet_cli.analysis.tables import layout
    from resnet_cli.launch import Job
    from resnet_cli.study import plan, run_study, write_results

    jobs = plan(configs, folder / "runs")
    _record_plan(folder, len({config.seed for config in configs}), planned_seeds, looks, output)
    todo = [job for job in jobs if job.state in ("todo", "resume")]
    output.note(f"{len(jobs)} runs in {folder / 'runs'}: {len(jobs) - len(todo)} complete, {len(todo)} to train")

    def announce(job: Job) -> None:
        state = {"done": ": complete", "diverged": ": diverged"}.get(job.state, "")
        output.note(f"[{jobs.index(job) + 1}/{len(jobs)}] {job.name}{state}")

    for job in run_study(jobs, data_dir=data_dir, quiet=output.quiet, on_start=announce):
        if job.state == "diverged":
            output.warn(f"{job.name} diverged; it is listed, but excluded from all averages")
    output.note("writing the table and the figures")
    results = write_results(folder, warn=output.warn)
    if results.skipped_figures:
        output.note(describe_skipped(results.skipped_figures))
    files = {"table": str(results.table), "figures": [str(path) for path in results.figures]}
    output.result({**results.document, **files}, ReportView(layout(results.document)))
    output.note(f"wrote {results.table} and {len(results.figures)} figures in {folder / 'figures'}")


def _numbers(option: str, text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} must be a list of whole numbers (got {text})", hint=f"use {option} 0,1,2") from None
    return list(dict.fromkeys(values))
