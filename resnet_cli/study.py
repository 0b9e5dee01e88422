"""A whole study: plan the grid, train missing runs, write Table 1 and the figures.

From Python::

    from pathlib import Path
    from resnet_cli import make_config
    from resnet_cli.study import plan, run_study, write_results

    folder = Path("study")
    grid = [make_config("demo", arch=arch, depth=depth) for depth in (20, 56) for arch in ("plain", "resnet")]
    run_study(plan(grid, folder / "runs"))
    write_results(folder).document["networks"]
"""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.errors import DivergedError, InterruptedByUserError, StoppedError
from resnet_cli.launch import RESUME_HINT, Job, State, launch
from resnet_cli.rundir import RunDir
from resnet_cli.util.progress import StudyPosition
from resnet_cli.util.signals import SignalForwarder

if TYPE_CHECKING:
    from resnet_cli.analysis.figures import SkippedFigure


class StudyResults(NamedTuple):
    """Files of a study, and the comparison in them."""

    document: dict[str, Any]
    """See `resnet_cli.analysis.tables.study_document`."""
    table: Path
    figures: list[Path]
    skipped_figures: "list[SkippedFigure]"


def plan(configs: Iterable[RunConfig], folder: Path) -> list[Job]:
    """Plan one job per configuration, with a run directory in `folder`; writes nothing."""
    states: dict[str, State] = {"complete": "done", "diverged": "diverged", "empty": "todo"}
    jobs = []
    for config in configs:
        out = folder / f"{config.network}-seed{config.seed}"
        jobs.append(Job(config, out, states.get(RunDir(out).status(), "resume")))
    return jobs


def run_study(
    jobs: Iterable[Job],
    *,
    data_dir: Path | None = None,
    quiet: bool = False,
    on_start: Callable[[Job], None] = lambda _: None,
) -> list[Job]:
    """Train or resume every job in turn; a diverged run does not stop the others.

    Complete runs are launched too: `resnet train` verifies that their configuration has not changed.

    Args:
        jobs: from `plan`.
        data_dir: folder of the dataset; None: the default location.
        quiet: hide the progress of training.
        on_start: called with each job before it starts.

    Returns:
        The jobs with their new state, `done` or `diverged`.

    Raises:
        StoppedError: a signal stopped a run; the same call resumes it.
        ResnetError: a run failed for a reason other than divergence.
    """
    jobs = list(jobs)
    finished: list[Job] = []
    with SignalForwarder() as signals:
        for index, job in enumerate(jobs):
            if signals.signal_name:  # between two jobs
                stopped = InterruptedByUserError if signals.signal_name == "SIGINT" else StoppedError
                raise stopped(f"stopped by {signals.signal_name} before {job.name}", hint=RESUME_HINT)
            on_start(job)
            try:
                is_silent = quiet or job.state == "done"
                launch(job, signals, data_dir=data_dir, quiet=is_silent, position=_position(index, jobs))
                finished.append(job._replace(state="done"))
            except DivergedError:
                finished.append(job._replace(state="diverged"))
    return finished


def _position(index: int, jobs: list[Job]) -> StudyPosition:
    """The position of a job whose predecessors have ended; the cost of a step is proportional to the depth."""
    work = [job.config.depth * (job.config.epochs or job.config.steps or 0) for job in jobs]
    ended = [i < index or job.state in ("done", "diverged") for i, job in enumerate(jobs)]
    done = sum(amount for i, amount in enumerate(work) if ended[i] and i != index)
    return StudyPosition(index + 1, len(jobs), done / sum(work), work[index] / sum(work))


def write_results(folder: Path, *, warn: Callable[[str], None] = warnings.warn) -> StudyResults:
    """Write `table1.md` and `figures/` in `folder` from all complete runs in `folder/runs`.

    `warn` is called with one line for each problem with a figure.

    Raises:
        InputError: there is no complete run.
        OSError: a file cannot be written.
    """
    from resnet_cli.analysis import figures, tables
    from resnet_cli.analysis.figures.files import write_figures
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.util.files import write_output

    study = load_study([folder / "runs"], with_metrics=True)
    study.require_runs()
    document = tables.study_document(study)
    table = folder / "table1.md"
    write_output(table, tables.render(document, "markdown").encode())
    drawn, skipped = figures.draw(study)
    paths = write_figures(drawn, folder / "figures", ".png", figures.figure_groups(study), warn=warn)
    return StudyResults(document, table, paths, skipped)
