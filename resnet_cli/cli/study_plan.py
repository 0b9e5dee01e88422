"""The plan of a study on the terminal: which runs are missing, and what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from resnet_cli.cli.output import Output
from resnet_cli.study_file import Grid

if TYPE_CHECKING:
    from rich.console import Group

    from resnet_cli.study import Job
    from resnet_cli.study.estimate import Estimate


class How(msgspec.Struct, frozen=True):
    """Where and how to train the runs of a study; results do not depend on it, except for rounding."""

    folder: Path
    data_dir: Path | None
    num_jobs: int | None
    save_every: str | None
    cuda_graph: bool

    @property
    def options(self) -> list[str]:
        """More options of `resnet train`."""
        interval = ["--save-every", self.save_every] if self.save_every else []
        return [*interval, *(["--cuda-graph"] if self.cuda_graph else [])]


def show_plan(
    jobs: "Sequence[Job]", grid: Grid, how: How, output: Output, *, is_result: bool = False
) -> tuple[int, dict[str, float]]:
    """Show the plan; return the number of runs at a time and the expected seconds of each missing run by name."""
    from resnet_cli.study import choose_num_jobs
    from resnet_cli.study.estimate import estimate_runs, part_left

    missing = [job for job in jobs if job.state not in ("done", "diverged")]
    estimates: dict[str, Estimate] = {}
    if missing and not (output.quiet and not is_result):
        output.note("measuring a few training steps to estimate time and memory")
        estimates = estimate_runs(missing)
    memory = max((one.memory_bytes or 0 for one in estimates.values()), default=0)
    device = missing[0].config.device if missing else "cpu"
    num_jobs = how.num_jobs or choose_num_jobs(len(missing), device=device, memory_bytes=memory)
    seconds = {
        job.name: part_left(job) * (estimates[job.config.network].seconds if estimates else job.config.depth)
        for job in missing
    }
    total = sum(seconds.values()) if estimates else None
    width = (output.stdout if is_result else output.stderr).width
    view = _plan_view(jobs, estimates, seconds, num_jobs if missing else 0, width)
    if not is_result:
        if not output.quiet:
            output.stderr.print(view)
        return num_jobs, seconds
    rows = [
        {
            "name": job.name, "network": job.config.network, "seed": job.config.seed, "path": str(job.out),
            "state": job.state, "seconds": seconds.get(job.name) if estimates else None,
            "memory_bytes": estimates[job.config.network].memory_bytes if job.config.network in estimates else None,
        }
        for job in jobs
    ]  # fmt: skip
    document = {"folder": str(how.folder), "runs": rows, "probes": grid.probes, "num_jobs": num_jobs, "seconds": total}
    output.result(document, view)
    return num_jobs, seconds


def _plan_view(
    jobs: "Sequence[Job]", estimates: "Mapping[str, Estimate]", seconds: Mapping[str, float], num_jobs: int, width: int
) -> "Group":
    """One row per network and arm: how many runs are in which state, and what one of them costs."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from resnet_cli.util.text import duration

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
    lines = [f"{len(jobs)} run{'s' * (len(jobs) != 1)}, {len(seconds)} to train"]
    if num_jobs:
        lines[0] += f", {num_jobs} at a time"
    if estimates:
        lines[0] += f"; one after another they would take about {duration(sum(seconds.values()))}"
    return Group(table, *map(Text, lines))
