"""Kill -9 and impatient signals at any moment: nothing is unreadable, nothing saved is lost, the end is the same."""

import os
import re
import signal
import time

import pytest
import sameness
from killing import kill_often
from zygote import wait_until

from resnet_cli.rundir import RunDir

PREEMPTION_SECONDS = 30  # between SLURM's SIGTERM and its SIGKILL (KillWait in slurm.conf)


def finish(subject, zygote, out):
    """Run the command again, to its end, and compare; returns the run."""
    code, output = zygote.run(*subject.command(out))
    assert code == 0, output
    run = RunDir(out)
    assert sameness.parts(run) == subject.straight
    assert sameness.leftovers(run) == []
    return run


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(subject, zygote):
    # benchmarks/stress_kill.py does the same a hundred times
    found = kill_often(subject, zygote, kills=8, most_seconds=1.2, seed=0)
    assert found["kills"] == 8
    assert found["runs compared"] >= 1


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_preempted_run_saves_its_last_step_long_before_it_is_killed(subject, zygote, epochs):
    out = subject.new_out()
    pid = zygote.start(*subject.command(out))
    metrics = RunDir(out).metrics_path
    wait_until(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > epochs)
    os.kill(pid, signal.SIGTERM)
    asked = time.monotonic()
    assert zygote.wait(pid, PREEMPTION_SECONDS) == 75
    assert time.monotonic() - asked < PREEMPTION_SECONDS / 3
    (step,) = re.findall(r"error: stopped by SIGTERM at step (\d+) of 18; .* is saved", zygote.output(pid))
    assert sameness.step_of(RunDir(out)) == int(step)
    run = finish(subject, zygote, out)
    assert [attempt.step for attempt in run.read_attempts()] == [0, int(step)]


@pytest.mark.parametrize("stalled_in", ["slow save", "slow evaluation"])
def test_a_preempted_run_that_is_too_slow_to_save_is_killed_and_loses_only_what_came_after_the_last_save(
    subject, zygote, stalled_in
):
    out = subject.new_out()
    pid = zygote.start(*subject.command(out), prepare=stalled_in)
    wait_until(lambda: zygote.is_stalled(pid))
    saved = sameness.step_of(RunDir(out))
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)  # in place of the scheduler's half minute
    assert zygote.kill(pid)
    assert sameness.step_of(RunDir(out)) == saved > 0
    run = finish(subject, zygote, out)
    assert [attempt.step for attempt in run.read_attempts()] == [0, saved]


@pytest.mark.parametrize(
    ("stalled_in", "number", "code"),
    [
        ("slow save", signal.SIGTERM, -signal.SIGTERM),
        ("slow save", signal.SIGINT, 130),
        ("slow save", signal.SIGUSR1, -signal.SIGUSR1),
        ("slow evaluation", signal.SIGTERM, -signal.SIGTERM),
        ("slow evaluation", signal.SIGINT, 130),
    ],
)
def test_a_second_signal_ends_a_process_that_is_slow_at_once_and_the_run_goes_on(
    subject, zygote, stalled_in, number, code
):
    out = subject.new_out()
    pid = zygote.start(*subject.command(out), prepare=stalled_in)
    wait_until(lambda: zygote.is_stalled(pid))
    os.kill(pid, number)
    time.sleep(0.3)  # two signals of a kind that wait together are one
    os.kill(pid, 0)  # the first one let it go on
    saved = sameness.step_of(RunDir(out))
    os.kill(pid, number)
    assert zygote.wait(pid, 5) == code
    assert "Traceback" not in zygote.output(pid)
    assert sameness.step_of(RunDir(out)) == saved > 0
    run = finish(subject, zygote, out)
    assert [attempt.step for attempt in run.read_attempts()] == [0, saved]
