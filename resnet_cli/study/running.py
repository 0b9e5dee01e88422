"""Training and measuring of what is missing in a study."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.errors import ExitCode
from resnet_cli.launch import Ending, Observer, Task, gpu_ids, num_cores, run_tasks, slots
from resnet_cli.probes.registry import ALL, OF_INITIAL_WEIGHTS, TITLES, check_name
from resnet_cli.rundir import RunDir, find_runs
from resnet_cli.rundir.probe_files import ProbeFiles
from resnet_cli.study.jobs import Job
from resnet_cli.util.resources import available_memory_bytes
from resnet_cli.version import __version__

if TYPE_CHECKING:
    from resnet_cli.launch.ray_cluster import RayCluster

_MEMORY_SHARE = 0.8
"""Part of the available memory that parallel runs may take."""


def choose_num_jobs(num_tasks: int, *, device: str = "auto", memory_bytes: int | None = None) -> int:
    """Choose how many runs to train at the same time: one per GPU, or one per CPU core if memory suffices.

    Args:
        num_tasks: number of runs to train.
        device: `device` of their configurations.
        memory_bytes: expected memory of one of them on a CPU; None: unknown.
    """
    if gpus := _gpus(device):
        return max(1, min(len(gpus), num_tasks))
    most = min(num_cores(), num_tasks)
    available = available_memory_bytes()
    if memory_bytes and available:
        most = min(most, int(_MEMORY_SHARE * available) // memory_bytes)
    return max(1, most)


def _gpus(device: str) -> list[str]:
    return gpu_ids() if device in ("auto", "cuda") else []


def run_study(
    jobs: Iterable[Job],
    *,
    data_dir: Path | None = None,
    num_jobs: int = 1,
    options: Sequence[str] = (),
    observer: Observer | None = None,
    executor: "RayCluster | None" = None,
) -> list[Ending]:
    """Train or resume every job that is not done; one that fails or diverges does not stop the others.

    Args:
        jobs: from `plan`.
        data_dir: folder of the dataset; None: the default location.
        num_jobs: number of runs that are trained at the same time; they share the CPU cores, or the GPUs.
        options: more options of `resnet train`.
        observer: receives progress (None: nothing is reported).
        executor: where to train (None: in child processes on this machine).

    Returns:
        How each job ended, in their order; runs that were done before are `done`, diverged ones `diverged`.

    Raises:
        StoppedError: a signal stopped the study; the same call resumes it.
        ResnetError: the connection to the cluster was lost; the same call resumes the study.
    """
    jobs = list(jobs)
    missing = [job for job in jobs if job.state not in ("done", "diverged")]
    tasks = [job.task(*options, data_dir=data_dir) for job in missing]
    run = executor.run_tasks if executor and tasks else _run_tasks
    endings = run(tasks, num_jobs, missing[0].config.device if missing else "cpu", observer or Observer())
    ended = {job.out: ending for job, ending in zip(missing, endings, strict=True)}
    before = {"done": Ending("done", ExitCode.DONE), "diverged": Ending("diverged", ExitCode.DIVERGED)}
    return [ended.get(job.out) or before[job.state] for job in jobs]


def _run_tasks(tasks: Sequence[Task], num_jobs: int, device: str, observer: Observer) -> list[Ending]:
    """Run the tasks; the machine is divided among those that can run at the same time."""
    return run_tasks(tasks, slots(min(num_jobs, len(tasks)), _gpus(device)), observer)


def measure_probes(
    names: Sequence[str],
    runs: Path,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    num_jobs: int = 1,
    observer: Observer | None = None,
) -> dict[str, Ending]:
    """Measure probes on all complete runs in a folder; what is stored already is not measured again.

    No process is started for a probe whose rows every run has.

    Args:
        names: probes from `resnet_cli.probes.registry`; `all` stands for all of them.
        runs: folder of the run directories.
        data_dir: folder of the dataset; None: the one that the run used.
        device: device to measure on.
        num_jobs: number of probes that are measured at the same time.
        observer: receives progress (None: nothing is reported).

    Returns:
        How each probe ended.

    Raises:
        UsageError: an unknown name.
        StoppedError: a signal stopped the measurements; the same call resumes them.
    """
    chosen = probe_names(names)
    complete = [run for run in find_runs([runs]) if run.status() == "complete"]
    missing = [name for name in chosen if not all(_is_measured(run, name) for run in complete)]
    folder = ["--data-dir", str(data_dir)] if data_dir else []
    tasks = [
        Task(f"probe {name}", ["probe", name, str(runs), "--device", device, *folder, "--quiet"]) for name in missing
    ]
    endings = _run_tasks(tasks, num_jobs, device, observer or Observer())
    measured = dict(zip(missing, endings, strict=True))
    return {name: measured.get(name, Ending("done", ExitCode.DONE)) for name in chosen}


def _is_measured(run: RunDir, name: str) -> bool:
    which = "init" if name in OF_INITIAL_WEIGHTS else "last"
    return ProbeFiles(run, name, which).is_current(__version__)


def probe_names(names: Iterable[str]) -> list[str]:
    """Replace `all` by the names of all probes; raise `UsageError` for an unknown name."""
    names = list(names)
    for name in names:
        check_name(name, "--probes")
    return [name for name in TITLES if name in names or ALL in names]
