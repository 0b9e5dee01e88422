"""A whole study: plan the grid, train what is missing, one `resnet train` a run."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.errors import DivergedError, ExitCode, InterruptedByUserError, ResnetError, StoppedError
from resnet_cli.recipes import train_arguments
from resnet_cli.rundir import RunDir

State = Literal["done", "diverged", "resume", "todo"]


class Job(NamedTuple):
    """One run of a study."""

    config: RunConfig
    out: Path
    state: State


def plan(configs: Iterable[RunConfig], folder: Path, status: Callable[[Path], str]) -> list[Job]:
    """One job a configuration, in `folder`, with what is left to do; touches no files.

    Args:
        configs: the grid.
        folder: where the run directories lie.
        status: the status of a run directory, as `RunDir(path).status()`.
    """
    states: dict[str, State] = {"complete": "done", "diverged": "diverged", "empty": "todo"}
    jobs = []
    for config in configs:
        out = folder / f"{config.network}-seed{config.seed}"
        jobs.append(Job(config, out, states.get(status(out), "resume")))
    return jobs


def status_of(path: Path) -> str:
    """Status of the run directory at `path`."""
    return RunDir(path).status()


def launch(job: Job, *, data_dir: Path | None = None, save_every: str | None = None, quiet: bool = False) -> None:
    """Run a job as its own process, whose progress goes to this one's stderr.

    The child decides by itself whether it starts, resumes, or has nothing to do.

    Raises:
        DivergedError: the run diverged.
        StoppedError: a signal stopped it; it can be resumed.
        ResnetError: it failed otherwise; it has said why.
    """
    arguments = train_arguments(job.config, data_dir=str(data_dir) if data_dir else None)
    command = [sys.executable, "-m", "resnet_cli", *arguments, "--out", str(job.out)]
    if save_every:
        command += ["--save-every", save_every]
    if quiet:
        command.append("--quiet")
    code = _wait(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))  # noqa: S603
    if code == ExitCode.DONE:
        return
    name = f"{job.config.network}, seed {job.config.seed}"
    if code == ExitCode.DIVERGED:
        raise DivergedError(f"{name} diverged")
    if code in (ExitCode.CTRL_C, -2):
        raise InterruptedByUserError(f"{name} was interrupted", hint="the same command resumes it")
    if code in (ExitCode.STOPPED, -10, -15):
        raise StoppedError(f"{name} was stopped", hint="the same command resumes it")
    raise _failure(code, f"{name} failed with exit code {code}")


def _failure(code: int, message: str) -> ResnetError:
    error = ResnetError(message)
    if code == ExitCode.USAGE:
        error.exit_code = ExitCode.USAGE
    return error


def _wait(process: "subprocess.Popen[bytes]") -> int:
    while True:
        # Ctrl-C reaches the child as well; it saves and ends, and its exit code tells the rest
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
