"""Launch of one job of a study as a local process."""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.errors import DivergedError, ExitCode, InterruptedByUserError, ResnetError, StoppedError
from resnet_cli.recipes import train_arguments

State = Literal["done", "diverged", "resume", "todo"]


class Job(NamedTuple):
    """One run of a study."""

    config: RunConfig
    out: Path
    """Its run directory."""
    state: State

    @property
    def name(self) -> str:
        """Network and seed, for messages: `plain-56, seed 0`."""
        return f"{self.config.network}, seed {self.config.seed}"


def launch(job: Job, *, data_dir: Path | None = None, quiet: bool = False) -> None:
    """Run `resnet train` for a job in a child process, which shows its progress on stderr.

    The child starts or resumes the run, or only verifies the configuration of a complete one.

    Args:
        job: the run; its state is not used.
        data_dir: folder of the dataset, as in `--data-dir`.
        quiet: hide progress.

    Raises:
        DivergedError: the run diverged.
        StoppedError: a signal stopped the run, which can be resumed.
        ResnetError: the run failed otherwise; the child has printed the reason.
    """
    arguments = train_arguments(job.config, data_dir=str(data_dir) if data_dir else None)
    command = [sys.executable, "-m", "resnet_cli", *arguments, "--out", str(job.out)]
    if quiet:
        command.append("--quiet")
    code = _wait(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))  # noqa: S603
    if code == ExitCode.DONE:
        return
    if code == ExitCode.DIVERGED:
        raise DivergedError(f"{job.name} diverged")
    if code in (ExitCode.CTRL_C, -2):
        raise InterruptedByUserError(f"{job.name} was interrupted", hint="run the same command again to resume")
    if code in (ExitCode.STOPPED, -10, -15):
        raise StoppedError(f"{job.name} was stopped", hint="run the same command again to resume")
    error = ResnetError(f"{job.name} failed with exit code {code}")
    if code == ExitCode.USAGE:
        error.exit_code = ExitCode.USAGE
    raise error


def _wait(process: "subprocess.Popen[bytes]") -> int:
    while True:
        # Ctrl-C also reaches the child, which saves and exits; its exit code is what counts.
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
