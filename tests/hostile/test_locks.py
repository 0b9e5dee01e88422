"""One run is trained by one process; the others are told by which, and nobody has to clean up after a kill."""

import platform
import threading
import time

import pytest
import sameness
from zygote import wait_until

from resnet_cli.rundir import RunDir


@pytest.fixture
def stalled(subject, zygote):
    """Start a process that stalls in its second epoch; returns its id and the run directory."""
    started = []

    def start(out):
        started.append(zygote.start(*subject.command(out), prepare="slow evaluation"))
        return started[-1]

    yield start
    for pid in started:
        if pid in zygote.children:
            zygote.kill(pid)


def files_of(run):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.path.rglob("*") if path.is_file()}


def test_of_four_processes_that_start_at_once_one_trains_and_the_others_name_it(subject, zygote, stalled):
    out = subject.new_out()
    pids = {stalled(out) for _ in range(4)}
    (holder,) = wait_until(lambda: [pid for pid in pids if zygote.is_stalled(pid)])
    for pid in pids - {holder}:
        assert zygote.wait(pid, 30) == 2
        (line,) = zygote.output(pid).splitlines()
        assert line.startswith(
            f"error: {out} is being trained by another process (pid {holder}, host {platform.node()}"
        )
        assert line.endswith("wait for it or choose another --out")
    assert RunDir(out).status() == "running"

    zygote.kill(holder)
    assert RunDir(out).status() == "incomplete"
    killed = time.monotonic()
    pid = zygote.start(*subject.command(out))
    wait_until(lambda: len(RunDir(out).read_attempts()) == 2, 5)
    assert time.monotonic() - killed < 5
    assert zygote.wait(pid) == 0
    assert sameness.parts(RunDir(out)) == subject.straight


def test_looking_at_a_run_while_it_is_trained_disturbs_nothing(subject, zygote, stalled):
    run = RunDir(subject.new_out())
    pid = stalled(run.path)
    wait_until(lambda: zygote.is_stalled(pid))
    before = files_of(run)
    for command in ("compare", "plot"):
        code, output = zygote.run(command, run.path)
        assert code == 2
        assert "running" in output
    assert files_of(run) == before
    zygote.kill(pid)


def test_a_run_can_start_while_others_look_at_it_all_the_time(subject, zygote):
    run = RunDir(subject.new_out())
    is_over = threading.Event()

    def look():
        while not is_over.wait(0.001):
            run.status()

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        code, output = zygote.run(*subject.command(run.path))
    finally:
        is_over.set()
        for watcher in watchers:
            watcher.join()
    assert code == 0, output
    assert sameness.parts(run) == subject.straight
