"""The runs of the study stage, several at a time, until the time is over."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpu import children

MAX_FAILURES = 3
"""Runs that may fail before no other run is started."""
_POLL_SECONDS = 0.2
# exit codes of `resnet`, docs/options.md
_DONE, _DIVERGED, _STOPPED = 0, 4, 75


class Run(NamedTuple):
    """One run of the study."""

    name: str
    """Name of its directory."""
    arguments: tuple[str, ...]
    """Arguments of `resnet train`."""


_TINY = ("--epochs", "40", "--milestones", "none", "--limit-train", "40", "--limit-test", "20", "--batch-size", "20")


def planned_runs(*, tiny: bool) -> list[Run]:
    """All runs of the study, in the order in which they are trained."""
    small, large, deepest = (8, 8, 14) if tiny else (20, 56, 110)
    table1 = [(arch, depth) for depth in (small, large) for arch in ("plain", "resnet")]
    warmup = ("--warmup-steps", "2" if tiny else "400")
    runs = []

    def add(prefix: str, recipe: str, arch: str, depth: int, seed: int, *options: str) -> None:
        network = ("--recipe", recipe, "--arch", arch, "--depth", str(depth), "--seed", str(seed))
        tiny_options = _TINY if tiny else ()
        runs.append(Run(f"{prefix}-{arch}-{depth}-seed{seed}", (*network, *options, *tiny_options)))

    for seed in range(3):
        for arch, depth in dict.fromkeys(table1):
            add("report2025", "report2025", arch, depth, seed)
    for seed in range(3):
        for depth in dict.fromkeys((small, large)):
            add("warmup", "report2025", "plain", depth, seed, *warmup)
    for seed in range(3):
        for arch, depth in dict.fromkeys(table1):
            add("he2015", "he2015", arch, depth, seed, *(["--val-size", "10"] if tiny else []))
    for arch in ("resnet", "plain"):
        add("report2025", "report2025", arch, deepest, 0)
        add("warmup", "report2025", arch, deepest, 0, *warmup)
    return runs


def state_of(path: Path) -> str:
    """`complete`, `diverged`, `started` or `planned`, as its files show."""
    if (path / "summary.json").exists():
        return "complete"
    if (path / "diverged.json").exists():
        return "diverged"
    return "started" if (path / "checkpoints").exists() else "planned"


class StudyTime(NamedTuple):
    """Times of the study stage, in seconds."""

    start: float
    """No run is started with less than this time left."""
    stop: float
    """Time that a run may take to save."""


FULL = StudyTime(start=45.0, stop=15.0)
TINY = StudyTime(start=2.0, stop=12.0)


class Study:
    """The runs of a study in `folder`, trained by `resnet train` in processes that share the device.

    Args:
        folder: folder of the run directories.
        options: options of every run: data, device and so on.
        environment: environment variables of the processes.
        logs: folder of their logs.
        concurrency: number of runs that share the device.
        times: see `StudyTime`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        options: list[str],
        environment: dict[str, str],
        logs: Path,
        concurrency: int,
        times: StudyTime,
    ) -> None:
        self._folder, self._options, self._logs = folder, options, logs
        self._concurrency, self._times = concurrency, times
        threads = max((os.cpu_count() or 1) // concurrency, 1)
        self._environment = {**environment, "OMP_NUM_THREADS": str(threads)}
        self._active: dict[str, subprocess.Popen[str]] = {}
        self.failures: dict[str, str] = {}
        """Reason of each run that failed, by name."""

    def train(self, runs: list[Run], seconds_left: Callable[[], float], on_progress: Callable[[bool], None]) -> None:
        """Train runs until all have ended or the time is over; then stop the active ones, which save.

        Args:
            runs: in order; started runs are continued before planned ones begin.
            seconds_left: time until the processes must have ended; 0 as soon as the slot is to stop.
            on_progress: called several times per second, with whether a run has just ended.
        """
        states = {run: state_of(self._folder / run.name) for run in runs}
        waiting = [run for run in runs if states[run] == "started"] + [run for run in runs if states[run] == "planned"]
        try:
            while (waiting or self._active) and seconds_left() > self._times.stop:
                while waiting and self._may_start(seconds_left()):
                    self._start(waiting.pop(0))
                if not self._active:
                    break
                on_progress(self._collect())
                time.sleep(_POLL_SECONDS)
        finally:
            active = list(self._active.values())
            self._collect()
            children.stop(active, self._times.stop)
            self._active.clear()

    def _may_start(self, seconds_left: float) -> bool:
        has_room = len(self._active) < self._concurrency and len(self.failures) < MAX_FAILURES
        return has_room and seconds_left > self._times.start + self._times.stop

    def _start(self, run: Run) -> None:
        out = self._folder / run.name
        command = ["-m", "resnet_cli", "train", *run.arguments, *self._options, "--out", str(out), "--json"]
        # by time, since epochs take about a second
        command += ["--save-every", "1min"]
        self._active[run.name] = children.start(
            command, environment=self._environment, log=self._log(run.name), stdout=subprocess.DEVNULL
        )

    def _log(self, name: str) -> Path:
        return self._logs / f"run-{name}.txt"

    def _collect(self) -> bool:
        """Note the runs that have ended; returns whether there were any."""
        ended = [name for name, process in self._active.items() if process.poll() is not None]
        for name in ended:
            code = self._active.pop(name).returncode
            if code not in (_DONE, _DIVERGED, _STOPPED):
                self.failures[name] = children.last_line(self._log(name)) or f"exit code {code}"
        return bool(ended)
