"""Child processes with a time limit; each leads its own process group, which ends with it."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpu.results import ROOT

GRACE_SECONDS = 10.0
"""Time between SIGTERM and SIGKILL."""
_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Ending(NamedTuple):
    """How a child process ended."""

    state: str
    """`done`, `failed`, `slow` (over its own limit) or `stopped` (by the caller)."""
    reason: str
    """Last line that it wrote to stderr if it failed, else empty."""
    seconds: float


def start(command: Sequence[str], *, environment: dict[str, str], log: Path, **options: Any) -> subprocess.Popen[str]:
    """Start `command` with this interpreter in a new process group, with stderr appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stderr=stderr, env=environment, text=True,
            cwd=ROOT, start_new_session=True, preexec_fn=_end_with_parent, **options,  # noqa: PLW1509 - no thread is running here
        )  # fmt: skip


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent ends, even by SIGKILL (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(processes: Sequence[subprocess.Popen[str]], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask processes to stop, and end those that have not stopped after `grace_seconds`, with their children."""
    for process in processes:
        if process.poll() is None:
            _signal_group(process, signal.SIGTERM)
    end = time.monotonic() + grace_seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(end - time.monotonic(), 0.0))
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def run(
    command: Sequence[str],
    *,
    environment: dict[str, str],
    log: Path,
    limit_seconds: float,
    is_stopped: Callable[[], bool],
    on_value: Callable[[dict[str, Any]], None],
) -> Ending:
    """Run `command` to its end, or for `limit_seconds`, or until `is_stopped`.

    Args:
        command: script and arguments; each line of its stdout is a JSON object.
        environment: environment variables.
        log: file that its stderr is appended to.
        limit_seconds: time after which it is stopped.
        is_stopped: called ten times per second.
        on_value: called with each object that it prints.
    """
    started = time.monotonic()
    process = start(command, environment=environment, log=log, stdout=subprocess.PIPE)
    reader = threading.Thread(target=_read, args=(process, on_value))
    reader.start()
    state = None
    while process.poll() is None and state is None:
        time.sleep(_POLL_SECONDS)
        if is_stopped():
            state = "stopped"
        elif time.monotonic() - started > limit_seconds:
            state = "slow"
    stop([process])
    reader.join()
    seconds = time.monotonic() - started
    if state is None and process.returncode == 0:
        return Ending("done", "", seconds)
    reason = f"took longer than {limit_seconds:.0f} s" if state == "slow" else ""
    return Ending(state or "failed", reason if state else last_line(log) or f"exit {process.returncode}", seconds)


def _read(process: subprocess.Popen[str], on_value: Callable[[dict[str, Any]], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(json.JSONDecodeError):  # a process that is killed may leave half a line
            if isinstance(value := json.loads(line), dict):
                on_value(value)


def last_line(path: Path) -> str:
    """The last line of a log, shortened to 200 characters; empty for an empty log."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
