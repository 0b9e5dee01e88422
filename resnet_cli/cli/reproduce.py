"""`resnet reproduce`: the whole study, from the plan to the report."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from resnet_cli.cli.completion import complete_recipes
from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.cli.study_grid import (
    DEFAULTS,
    choose_data_dir,
    choose_grid,
    parse_archs,
    parse_num_jobs,
    parse_numbers,
    record_study,
    split_names,
)
from resnet_cli.cli.study_plan import ExecutorName, How, expect, missing_jobs, plan_document, plan_view
from resnet_cli.cli.views import ClaimsView, ReportView
from resnet_cli.config import FIELDS, SaveEvery
from resnet_cli.errors import ConfigError, DivergedError, ExitCode, InputError, ResnetError, UsageError, as_arguments
from resnet_cli.launch import RESUME_HINT
from resnet_cli.recipes import RECIPE_NAMES, check_recipe
from resnet_cli.study_file import FILE_NAME, Grid, read_study_file
from resnet_cli.util.signals import StopInterrupt
from resnet_cli.util.text import shell_text

if TYPE_CHECKING:
    from resnet_cli.launch import Ending
    from resnet_cli.study import Job, StudyResults

# One string per paragraph: in this markup mode a line break in the source is a line break on the screen.
HELP = "\n\n".join(
    (
        "Run a whole study: train a grid of networks, measure probes on them, and write tables, verdicts, figures and "
        "a report.",
        "The plan is shown first. Complete runs are kept and incomplete runs are resumed, so you can run the same "
        "command again after an interruption or with more seeds. To continue a study with its recorded grid, name its "
        "folder. The data, training and measurement options of resnet train apply to every run.",
        "The folder of the study contains runs/, table1.md (with the verdicts), figures/, report.html, and study.toml, "
        "which records the grid.",
        "A run that fails or diverges does not stop the others; the results are written without it. The exit code is "
        "1 if a run failed, else 4 if a run diverged, else 1 if a probe failed.",
        "Examples:",
        "  resnet reproduce --recipe demo",
        "  resnet reproduce reproduction/demo --seeds 0-4",
        "  resnet reproduce --recipe overnight --seeds 0-2 --arm warmup --probes all",
        "  resnet reproduce --recipe report2025 --seeds 0-2 --jobs 4 --dry-run",
        "  resnet reproduce --recipe he2015 --depths 20,56 --print-commands > jobs.txt",
        "  resnet reproduce --executor ray --ray-address 10.0.0.1:6379",
    )
)

_GIVEN = tuple(name for name in FIELDS if name not in ("recipe", "arch", "depth", "seed"))
_STUDY_PANEL = "Study"


@config_options(*_GIVEN)
def command(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="STUDY", show_default=False, help="Folder of a study to continue."),
    ] = None,
    *,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", show_default=False, autocompletion=complete_recipes, rich_help_panel=_STUDY_PANEL,
            help=f"Recipe that supplies the defaults: {RECIPE_NAMES} (default: demo).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study (default: reproduction/RECIPE).", show_default=False, rich_help_panel=_STUDY_PANEL
        ),
    ] = None,
    archs: Annotated[
        str | None,
        typer.Option(
            metavar="ARCH,…", show_default=False, help="Architectures to train (default: plain,resnet).",
            rich_help_panel=_STUDY_PANEL,
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…", show_default=False, help="Depths to train, each 6n+2 (default: 20,56).",
            rich_help_panel=_STUDY_PANEL,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N-N,N,…", show_default=False, help="Seeds for each network, such as 0-4 or 0,1,2 (default: 0).",
            rich_help_panel=_STUDY_PANEL,
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", show_default=False, rich_help_panel=_STUDY_PANEL,
            help="Also train a variant of the plain networks: warmup (400 steps at a tenth of the learning rate).",
        ),
    ] = None,
    probes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…", show_default=False, rich_help_panel=_STUDY_PANEL,
            help="Probes to measure on all runs: names, all or none (default: bn). See resnet probe --help.",
        ),
    ] = None,
    planned_seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, metavar="N", show_default=False, rich_help_panel=_STUDY_PANEL,
            help="Seeds per network in the finished study, recorded before training (default: the number of --seeds).",
        ),
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, metavar="N", show_default=False, rich_help_panel=_STUDY_PANEL,
            help="Number of times the claims will be judged while seeds are added, recorded before training; each "
            "verdict is stricter if there are several (default: 1).",
        ),
    ] = None,
    jobs: Annotated[
        str,
        typer.Option(
            metavar="auto|N", rich_help_panel="Machine",
            help="Number of runs to train at the same time, which share the CPU cores or the GPUs (auto: one per GPU, "
            "or one per CPU core if memory suffices).",
        ),
    ] = "auto",
    executor: Annotated[
        ExecutorName,
        typer.Option(
            rich_help_panel="Machine",
            help="Where to train: on this machine, or on a Ray cluster, whose nodes need no shared file system.",
        ),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", show_default=False, rich_help_panel="Machine",
            help="Head of the Ray cluster, or ray://HOST:PORT from a machine outside it (default: RAY_ADDRESS, or a "
            "new Ray instance on this machine).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=_STUDY_PANEL, help="Show the plan and stop.")
    ] = False,
    print_commands: Annotated[
        bool,
        typer.Option(
            "--print-commands", rich_help_panel=_STUDY_PANEL,
            help="Record the grid in study.toml, print one resnet train command per missing run, and stop.",
        ),
    ] = False,
    given: dict[str, Any],
    data_dir: DataDir = None,
    save_every: Annotated[
        str | None,
        typer.Option(metavar="N[epochs|steps|min]", show_default=False, help="Checkpoint interval (default: 1epoch)."),
    ] = None,
    cuda_graph: Annotated[
        bool,
        typer.Option(
            "--cuda-graph", rich_help_panel="Machine",
            help="On an NVIDIA GPU, launch each step as one CUDA graph. Results are unchanged.",
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    from resnet_cli.study import grid_configs, plan
    from resnet_cli.study.running import probe_names

    output = Output(json=json, quiet=quiet, is_saved=not (dry_run or print_commands))
    _check_together({"STUDY": study, "--out": out})
    _check_together({"--dry-run": dry_run, "--print-commands": print_commands})
    _check_together({"--executor ray": executor == "ray", "--print-commands": print_commands})
    if ray_address and executor != "ray":
        raise UsageError(f"--ray-address {ray_address} needs a Ray cluster", hint="add --executor ray")
    if save_every:
        save_every = save_every.strip()
        SaveEvery.parse(save_every)
    num_jobs = parse_num_jobs(jobs)
    chosen: dict[str, Any] = {
        "recipe": recipe,
        "archs": parse_archs(archs),
        "depths": parse_numbers("--depths", depths, "20,56"),
        "seeds": parse_numbers("--seeds", seeds, "0,1,2"),
        "arms": tuple(dict.fromkeys(arm)) if arm else None,
        "probes": split_names(probes),
    }
    check_recipe(recipe or DEFAULTS["recipe"])
    folder = study or out or Path("reproduction") / (recipe or DEFAULTS["recipe"])
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{folder} is not a folder", hint="choose another --out")
    earlier = read_study_file(folder)
    grid = choose_grid(
        chosen, msgspec.to_builtins(given), earlier.grid if earlier else None, folder, is_continued=study is not None
    )
    data_dir = choose_data_dir(data_dir, grid, earlier)
    probe_names(grid.probes)
    try:
        planned = plan(grid_configs(grid), folder / "runs")
    except ConfigError as error:
        for option, text, example in (("--depth", depths, "20,56"), ("--seed", seeds, "0,1,2")):
            if error.message.startswith(f"{option} "):
                if text is None:
                    raise InputError(f"{folder / FILE_NAME}: {error}") from error
                problem = f"{option}s {text}: {as_arguments(error.message)}"
                raise UsageError(problem, hint=f"use {option}s {example}") from error
        raise
    how = How(folder, data_dir, num_jobs, save_every, cuda_graph, executor, ray_address)
    if print_commands:
        record_study(folder, earlier, grid, planned_seeds, looks, data_dir, output)
        commands = [
            " ".join(map(shell_text, ["resnet", *job.arguments(data_dir=data_dir), *how.options]))
            for job in missing_jobs(planned)
        ]
        output.result({"commands": commands}, None)
        if commands and not json:
            output.raw("\n".join(commands))
        return
    with StopInterrupt(RESUME_HINT):
        if dry_run:
            with how.open_executor(planned, output) as cluster:
                expected = expect(planned, how, output, cluster, is_shown=True)
            output.result(plan_document(expected, grid, how), plan_view(expected, output.stdout.width))
        else:
            record_study(folder, earlier, grid, planned_seeds, looks, data_dir, output)
            _reproduce(planned, grid, how, output)


def _check_together(options: dict[str, Any]) -> None:
    """Raise `UsageError` if two options that exclude each other are given."""
    if all(options.values()):
        raise UsageError(f"{' and '.join(options)} cannot be combined", hint="omit one of them")


def _reproduce(planned: "list[Job]", grid: Grid, how: How, output: Output) -> None:
    from resnet_cli.analysis.claims import claims_report
    from resnet_cli.analysis.figures import describe_skipped
    from resnet_cli.analysis.tables import layout
    from resnet_cli.cli.study_progress import StudyReporter
    from resnet_cli.study import run_study, write_results

    with how.open_executor(planned, output) as cluster:
        expected = expect(planned, how, output, cluster, is_shown=not output.quiet)
        if not output.quiet:
            output.stderr.print(plan_view(expected, output.stderr.width))
        with StudyReporter(output, expected.work, "runs") as reporter:
            endings = run_study(
                planned, data_dir=how.data_dir, num_jobs=expected.num_jobs, options=how.options, observer=reporter,
                executor=cluster,
            )  # fmt: skip
    runs = [
        {"name": job.name, "path": str(job.out), "state": ending.state, "reason": ending.reason}
        for job, ending in zip(planned, endings, strict=True)
    ]
    if not any(ending.state == "done" for ending in endings):
        output.result({"networks": [], "runs": runs}, None)
        _raise_failures(planned, endings)
    probes = _measure(planned, grid, how, expected.num_jobs, output)
    output.note("writing the table, the figures and the report")
    results = write_results(how.folder, warn=output.warn)
    if results.skipped_figures:
        output.note(describe_skipped(results.skipped_figures))
    document = {**results.document, **_files(results), "claims": results.claims["claims"] if results.claims else []}
    document["runs"] = runs
    document["probes"] = {name: ending.state for name, ending in probes.items()}
    output.result(document, None if output.json else ReportView(layout(results.document)))
    if results.claims and not output.json:
        output.raw("")
        output.stdout.print(ClaimsView(claims_report(results.claims)))
    output.note(
        f"wrote {results.report}, {results.table} and {len(results.figures)} figures in {how.folder / 'figures'}"
    )
    _raise_failures(planned, endings)
    for name, ending in probes.items():
        # an exit code of 2 means that the probe does not apply to these runs, or lacks their weights
        if ending.state != "done" and ending.exit_code != ExitCode.USAGE:
            raise ResnetError(f"probe {name} failed: {ending.reason}", hint=_hint(ending))


def _measure(planned: "list[Job]", grid: Grid, how: How, num_jobs: int, output: Output) -> "dict[str, Ending]":
    """Measure the probes of the grid on this machine, which now has all runs."""
    from resnet_cli.cli.study_progress import StudyReporter
    from resnet_cli.study import choose_num_jobs, measure_probes
    from resnet_cli.study.running import probe_names

    names = probe_names(grid.probes)
    if not names:
        return {}
    device = planned[0].config.device
    if how.executor == "ray":  # this machine may have other devices than the nodes
        device, num_jobs = "auto", choose_num_jobs(len(names))
    with StudyReporter(output, {f"probe {name}": 1.0 for name in names}, "probes") as reporter:
        return measure_probes(
            names, how.folder / "runs", data_dir=how.data_dir, device=device, num_jobs=num_jobs, observer=reporter
        )


def _files(results: "StudyResults") -> dict[str, Any]:
    figures = [str(path) for path in results.figures]
    return {"table": str(results.table), "report": str(results.report), "figures": figures}


def _raise_failures(jobs: "Sequence[Job]", endings: "Sequence[Ending]") -> None:
    """Raise an error that names the runs that are not complete, if there are any."""
    pairs = list(zip(jobs, endings, strict=True))
    failed = [(job, ending) for job, ending in pairs if ending.state in ("failed", "stopped")]
    diverged = [job for job, ending in pairs if ending.state == "diverged"]
    if failed:
        job, ending = failed[0]
        num_others = len(failed) - 1
        others = f" and {num_others} other run{'s' * (num_others > 1)}" if num_others else ""
        error = ResnetError(f"{job.name}{others} failed: {ending.reason}", hint=_hint(ending))
        codes = {ending.exit_code for _, ending in failed}
        if codes in ({ExitCode.USAGE}, {ExitCode.STOPPED}):
            error.exit_code = ExitCode(codes.pop())
        raise error
    if diverged:
        names = "; ".join(job.name for job in diverged)
        raise DivergedError(f"{len(diverged)} of {len(pairs)} runs diverged: {names}")


def _hint(ending: "Ending") -> str | None:
    """What to do about a failure; None if the reason ends with a hint of its own."""
    return None if ";" in ending.reason else RESUME_HINT
