"""Expected time and memory of the runs of a study."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from resnet_cli.config import RunConfig
from resnet_cli.errors import RunFileError
from resnet_cli.launch import safe_environment
from resnet_cli.launch.channel import VARIABLE
from resnet_cli.rundir import RunDir
from resnet_cli.study.jobs import Job

_MAX_DEPTH = 110  # deeper networks are extrapolated, since a step of them takes many seconds
_TIMEOUT_SECONDS = 120


class Estimate(NamedTuple):
    """Expected cost of one run."""

    seconds: float
    memory_bytes: int | None
    """Peak memory; None: unknown."""


def estimate_runs(jobs: Sequence[Job]) -> dict[str, Estimate]:
    """Estimate the cost of the runs of a study, one at a time and not compiled, by network.

    The networks with the smallest and the largest depth are timed for a few steps in a child process. In between, time
    and memory are interpolated linearly in the depth, as benchmarks/scaling.py justifies.

    Returns:
        An estimate for each network of the jobs; empty if nothing could be measured.
    """
    configs = {job.config.network: job.config for job in jobs}
    if not configs:
        return {}
    by_depth = sorted(configs.values(), key=lambda config: (config.depth > _MAX_DEPTH, config.depth, config.arch))
    shallow = by_depth[0]
    deep = max((config for config in by_depth if config.depth <= _MAX_DEPTH), key=lambda c: c.depth, default=shallow)
    measured = _measure([shallow] if deep.depth == shallow.depth else [shallow, deep])
    if not measured:
        return {}
    first, last = measured[0], measured[-1]
    return {
        name: _between(config.depth, (shallow.depth, first), (deep.depth, last)) for name, config in configs.items()
    }


def _between(depth: int, first: tuple[int, Estimate], last: tuple[int, Estimate]) -> Estimate:
    (low, cheap), (high, dear) = first, last
    if low == high:
        scale = depth / low
        return Estimate(cheap.seconds * scale, cheap.memory_bytes)
    part = (depth - low) / (high - low)
    memory = None
    if cheap.memory_bytes is not None and dear.memory_bytes is not None:
        memory = round(cheap.memory_bytes + part * (dear.memory_bytes - cheap.memory_bytes))
    return Estimate(cheap.seconds + part * (dear.seconds - cheap.seconds), memory)


def _measure(configs: Sequence[RunConfig]) -> list[Estimate]:
    command = [sys.executable, "-m", "resnet_cli.study.timing"]
    configs = [msgspec.structs.replace(config, compile="off") for config in configs]
    try:
        ours, theirs = socket.socketpair()  # closed when this process ends, which stops the child
        with ours, theirs:
            ended = subprocess.run(  # noqa: S603
                command, input=msgspec.json.encode(configs), capture_output=True, check=True, timeout=_TIMEOUT_SECONDS,
                env={**safe_environment(), VARIABLE: str(theirs.fileno())}, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        return [Estimate(**values) for values in json.loads(ended.stdout)]
    except (OSError, ValueError, TypeError, subprocess.SubprocessError):
        return []


def part_left(job: Job) -> float:
    """Part of a run (0 to 1) that is still to train, by its complete epochs."""
    if job.state in ("done", "diverged"):
        return 0.0
    if job.state == "todo":
        return 1.0
    try:
        last = RunDir(job.out).read_last_epoch()
    except RunFileError:
        return 1.0
    if last is None:
        return 1.0
    done = last.epoch / job.config.epochs if job.config.epochs else last.step / (job.config.steps or last.step)
    return max(0.0, 1 - done)
