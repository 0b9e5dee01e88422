"""The plan of a study on the terminal: which runs are missing, and what they cost."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from resnet_cli.cli.output import Output
from resnet_cli.study_file import Grid

if TYPE_CHECKING:
    from rich.console import Group

    from resnet_cli.launch.ray_cluster import RayCluster
    from resnet_cli.study import Job
    from resnet_cli.study.estimate import Estimate


ExecutorName = Literal["local", "ray"]


class How(msgspec.Struct, frozen=True):
    """Where and how to train the runs of a study; results do not depend on it, except for rounding."""

    folder: Path
    data_dir: Path | None
    num_jobs: int | None
    save_every: str | None
    cuda_graph: bool
    executor: ExecutorName = "local"
    ray_address: str | None = None

    def open_executor(
        self, jobs: "Sequence[Job]", output: Output
    ) -> "contextlib.AbstractContextManager[RayCluster | None]":
        """The context of the cluster that trains `jobs`; of None on this machine, or if they are all complete."""
        if self.executor == "local" or not missing_jobs(jobs):
            return contextlib.nullcontext()
        from resnet_cli.launch.ray_cluster import RayCluster

        cluster = RayCluster(self.ray_address)
        output.note("connecting to Ray")
        return cluster

    @property
    def options(self) -> list[str]:
        """More options of `resnet train`."""
        interval = ["--save-every", self.save_every] if self.save_every else []
        return [*interval, *(["--cuda-graph"] if self.cuda_graph else [])]


class Expected(NamedTuple):
    """What a study still has to train, and what that is expected to cost."""

    jobs: "Sequence[Job]"
    estimates: "Mapping[str, Estimate]"
    """By network; empty if nothing was measured."""
    work: Mapping[str, float]
    """Work that is left of each missing run, by name: seconds, or without estimates any unit."""
    num_jobs: int
    """Number of runs to train at the same time."""


def missing_jobs(jobs: "Sequence[Job]") -> "list[Job]":
    """The runs that are still to train."""
    return [job for job in jobs if job.state not in ("done", "diverged")]


def expect(
    jobs: "Sequence[Job]", how: How, output: Output, executor: "RayCluster | None" = None, *, is_shown: bool
) -> Expected:
    """Measure what the missing runs of a study cost, if the plan `is_shown`, and choose how many to train at a time."""
    from resnet_cli.study import choose_num_jobs
    from resnet_cli.study.estimate import estimate_runs, part_left

    missing = missing_jobs(jobs)
    estimates: Mapping[str, Estimate] = {}
    if missing and is_shown:
        output.note("measuring a few training steps to estimate time and memory")
        estimates = estimate_runs(missing)
    memory = max((one.memory_bytes or 0 for one in estimates.values()), default=0)
    device = missing[0].config.device if missing else "cpu"
    if how.num_jobs:
        num_jobs = how.num_jobs
    elif executor:
        num_jobs = executor.choose_num_jobs(len(missing), device=device)
    else:
        num_jobs = choose_num_jobs(len(missing), device=device, memory_bytes=memory)
    work = {
        job.name: part_left(job) * (estimates[job.config.network].seconds if estimates else job.config.depth)
        for job in missing
    }
    return Expected(jobs, estimates, work, num_jobs)


def plan_document(expected: Expected, grid: Grid, how: How) -> dict[str, Any]:
    """The plan as JSON: one row per run."""
    estimates, work = expected.estimates, expected.work
    rows = [
        {
            "name": job.name, "network": job.config.network, "seed": job.config.seed, "path": str(job.out),
            "state": job.state, "seconds": work.get(job.name) if estimates else None,
            "memory_bytes": estimates[job.config.network].memory_bytes if job.config.network in estimates else None,
        }
        for job in expected.jobs
    ]  # fmt: skip
    total = sum(work.values()) if estimates else None
    return {
        "folder": str(how.folder), "runs": rows, "probes": grid.probes, "num_jobs": expected.num_jobs, "seconds": total
    }  # fmt: skip


def plan_view(expected: Expected, width: int) -> "Group":
    """One row per network and arm: how many runs are in which state, and, where `width` permits, what one costs."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from resnet_cli.util.text import duration

    jobs, estimates, work, num_jobs = expected
    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    costs = [header for header, least in (("time per run", 56), ("memory", 72)) if width >= least]
    for header in ("done", "to resume", "to do", *costs):
        table.add_column(header, justify="right", no_wrap=True)
    for name in dict.fromkeys(job.name.rpartition(",")[0] for job in jobs):
        rows = [job for job in jobs if job.name.rpartition(",")[0] == name]
        states = [job.state for job in rows]
        ended = f"{states.count('done')}" + (f" + {count} diverged" if (count := states.count("diverged")) else "")
        estimate = estimates.get(rows[0].config.network)
        cost = [
            f"about {duration(estimate.seconds)}" if estimate else "—",
            f"{estimate.memory_bytes / 1e9:.1f} GB" if estimate and estimate.memory_bytes else "—",
        ]
        num_started = states.count("resume") + states.count("running")
        table.add_row(name, ended, str(num_started), str(states.count("todo")), *cost[: len(costs)])
    line = f"{len(jobs)} run{'s' * (len(jobs) != 1)}, {len(work)} to train"
    if work:
        line += f", {num_jobs} at a time"
    if estimates:
        line += f"; one after another they would take about {duration(sum(work.values()))}"
    return Group(table, Text(line))
