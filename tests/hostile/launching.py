"""Start `resnet` in processes that can be killed: as a new interpreter, or forked from one that has imported PyTorch.

A forked command starts in milliseconds instead of seconds. The server it is forked from computes nothing and runs one
thread, so that forking is safe.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import child

ROOT = Path(child.__file__).parents[2]
# one thread, and the package under test even where it is not installed
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(child.__file__).parent)]),
}  # fmt: skip


class CommandLine(subprocess.Popen):
    """`python -m resnet_cli ARGS`, with its output in `path`."""

    def __init__(self, args, path):
        self.path = path
        with path.open("wb") as file:
            super().__init__([sys.executable, "-m", "resnet_cli", *args], stdout=file, stderr=file, env=ENVIRONMENT)

    def output(self):
        """What the process printed on stdout and stderr."""
        return self.path.read_text()


class Forked:
    """The same command in a forked process. `prepare` names one of `child.PREPARATIONS`; `environment` is added."""

    output = CommandLine.output

    def __init__(self, args, path, prepare=None, environment=None):
        self.path, self.marker = path, path.with_suffix(".stalled")
        path.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["child"])
        with patch.dict(os.environ, ENVIRONMENT):
            multiprocessing.forkserver.ensure_running()
        work = (args, path, self.marker, prepare, environment or {})
        self._process = context.Process(target=child.run_command, args=work, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def wait(self, timeout=60.0):
        """The exit code, negative for the signal that ended the process."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"process {self.pid} did not end within {timeout} s: {self.output()}")
        return self._process.exitcode

    def ends_within(self, seconds):
        """Whether the process ends in that time."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def kill(self):
        """Send SIGKILL."""
        self._process.kill()

    def send_signal(self, number):
        """Send a signal, unless the process has ended."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def wait_for_stall(self):
        """Wait until the process is where its preparation stalls it."""
        wait_until(self.marker.exists)
        return self

    def wait_for_signal(self):
        """Wait until a stalled process has handled a stop signal."""
        wait_until(self.marker.with_suffix(".signalled").exists)

    def let_go(self):
        """Let a stalled process continue."""
        self.marker.unlink()


class Launcher:
    """Starts commands and ends them when it is closed.

    Args:
        folder: receives the output of the commands, in one file each.
        kind: `Forked` or `CommandLine`.
    """

    def __init__(self, folder, kind=Forked):
        self.folder, self.kind, self.started = folder, kind, []

    def start(self, *args, **fields):
        """Start `resnet ARGS`."""
        path = self.folder / f"{self.kind.__name__}-{len(self.started)}.txt"
        self.started.append(self.kind([str(arg) for arg in args], path, **fields))
        return self.started[-1]

    def run(self, *args, **fields):
        """Run `resnet ARGS` to its end; returns exit code and output."""
        process = self.start(*args, **fields)
        return process.wait(120), process.output()

    def succeed(self, *args):
        """Run `resnet ARGS` to its end, which must be exit code 0; returns its output."""
        code, output = self.run(*args)
        assert code == 0, output
        return output

    def fail(self, code, *args, **fields):
        """Run `resnet ARGS` to its end, which must be exit code `code` and one error line; returns the line."""
        found, output = self.run(*args, **fields)
        assert found == code, output
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert line == output.splitlines()[-1]
        return line

    def close(self):
        """Kill the commands that are still running."""
        for process in self.started:
            process.kill()
            process.wait()


def was_killed(process):
    """Kill a process; returns False when it had ended by itself."""
    process.kill()
    return process.wait() == -signal.SIGKILL


def wait_until(condition, seconds=60.0):
    """Wait until `condition()` is true and return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.002)
    return found
