"""Launch of one job of a study as a local process."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.errors import DivergedError, ExitCode, InterruptedByUserError, ResnetError, StoppedError
from resnet_cli.recipes import train_arguments
from resnet_cli.util.progress import StudyPosition
from resnet_cli.util.signals import PARENT_PIPE_VARIABLE, SignalForwarder

RESUME_HINT = "run the same command again to resume"

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


def launch(
    job: Job,
    signals: SignalForwarder,
    *,
    data_dir: Path | None = None,
    quiet: bool = False,
    position: StudyPosition | None = None,
) -> None:
    """Run `resnet train` for a job in a child process, which shows its progress on stderr.

    The child starts or resumes the run, or only verifies the configuration of a complete one. It never executes code
    from the current folder, receives the stop signals of this process, and stops when this process ends.

    Args:
        job: the run; its state is not used.
        signals: the active forwarder of this process.
        data_dir: folder of the dataset, as in `--data-dir`.
        quiet: hide progress.
        position: position of the job in its study, whose total the child shows (None: it shows its own).

    Raises:
        DivergedError: the run diverged.
        StoppedError: a signal stopped the run, which can be resumed.
        ResnetError: the run failed otherwise; the child has printed the reason.
    """
    arguments = train_arguments(job.config, data_dir=str(data_dir) if data_dir else None)
    command = [sys.executable, "-m", "resnet_cli", *arguments, "--out", str(job.out), *(["--quiet"] if quiet else [])]
    reading, writing = os.pipe()
    try:
        signals.child = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(reading,),
            process_group=0,  # the terminal sends Ctrl-C to this process alone, which passes it on
            env={
                **_safe_environment(), PARENT_PIPE_VARIABLE: str(reading),
                **(position.to_environment() if position else {}),
            },
        )  # fmt: skip
        os.close(reading)
        if signals.signal_name:  # it arrived before there was a child to receive it
            signals.child.send_signal(signal.Signals[signals.signal_name])
        code = signals.child.wait()
    finally:
        signals.child = None
        os.close(writing)
    if code == ExitCode.DONE:
        return
    if code == ExitCode.DIVERGED:
        raise DivergedError(f"{job.name} diverged")
    if code in (ExitCode.CTRL_C, -signal.SIGINT):
        raise InterruptedByUserError(f"stopped in {job.name}", hint=RESUME_HINT)
    if code in (ExitCode.STOPPED, -signal.SIGTERM, -signal.SIGUSR1):
        raise StoppedError(f"stopped in {job.name}", hint=RESUME_HINT)
    ending = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
    error = ResnetError(f"{job.name} {ending}", hint=RESUME_HINT if code < 0 else None)
    if code == ExitCode.USAGE:
        error.exit_code = ExitCode.USAGE
    raise error


def _safe_environment() -> dict[str, str]:
    """Environment in which Python imports nothing from the current folder, but the same `resnet_cli` as here."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    root = str(Path(__file__).resolve().parents[1])
    if not sys.flags.safe_path and sys.path[0] == root:  # started as `python -m resnet_cli` in a source tree
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment
