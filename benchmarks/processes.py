"""Commands in fresh processes, with their time and peak memory."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESNET = (sys.executable, "-m", "resnet_cli")

_RSS_UNIT = 1 if platform.system() == "Darwin" else 1024  # bytes, getrusage(2)


class Finished(NamedTuple):
    """A process that ended with exit code 0."""

    seconds: float
    peak_bytes: int
    """Peak resident memory. On Linux at least that of the calling process, which counts until exec."""
    stdout: bytes


def run(*command: str) -> Finished:
    """Run `command` with this source tree; raises `CalledProcessError` if it fails."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=_environment(), stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            sys.stderr.buffer.write(stderr.read())
            raise subprocess.CalledProcessError(process.returncode, command)
        return Finished(seconds, usage.ru_maxrss * _RSS_UNIT, stdout.read())


def _environment() -> dict[str, str]:
    # without this variable bytecode is cached, as it is for an installed package
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}
