"""SIGKILL and repeated signals at any moment: every file is readable, no saved step is lost, the result is the same."""

import os
import re
import signal

import pytest
import sameness
from killing import kill_often
from launching import was_killed

from resnet_cli.rundir import RunDir

PREEMPTION_SECONDS = 30  # between SLURM's SIGTERM and its SIGKILL (KillWait in slurm.conf)


def test_a_run_killed_again_and_again_ends_as_an_uninterrupted_one(subject, zygote):
    # benchmarks/stress_kill.py does the same a hundred times
    found = kill_often(subject, zygote, kills=8, most_seconds=0.8, seed=0)
    assert found["kills"] == 8
    assert found["runs compared"] >= 1


@pytest.mark.parametrize(
    ("signalled_in", "number"),
    [("slow step", signal.SIGTERM), ("slow step", signal.SIGUSR1), ("slow evaluation", signal.SIGTERM)],
)
def test_a_preempted_run_saves_its_last_step_long_before_the_scheduler_kills_it(subject, zygote, signalled_in, number):
    run = RunDir(subject.new_out())
    process = zygote.start(*subject.command(run.path), prepare=signalled_in).wait_for_stall()
    os.kill(process.pid, number)
    process.wait_for_signal()
    process.let_go()
    assert process.wait(PREEMPTION_SECONDS / 3) == 75
    last_line = process.output().splitlines()[-1]
    (step,) = re.findall(rf"^stopped by {number.name} at step (\d+) of 18; checkpoint saved in ", last_line)
    assert "Traceback" not in process.output()
    assert sameness.step_of(run) == int(step)
    subject.finish(zygote, run)
    assert [attempt.step for attempt in run.read_attempts()] == [0, int(step)]


@pytest.mark.parametrize("stalled_in", ["slow save", "slow evaluation"])
def test_a_preempted_run_that_is_too_slow_to_save_loses_only_work_since_its_last_save(subject, zygote, stalled_in):
    run = RunDir(subject.new_out())
    process = zygote.start(*subject.command(run.path), prepare=stalled_in).wait_for_stall()
    saved = sameness.step_of(run)
    os.kill(process.pid, signal.SIGTERM)
    process.wait_for_signal()
    assert was_killed(process)
    assert sameness.step_of(run) == saved > 0
    subject.finish(zygote, run)
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
def test_a_second_signal_ends_a_slow_process_at_once_and_the_run_can_be_resumed(
    subject, zygote, stalled_in, number, code
):
    run = RunDir(subject.new_out())
    process = zygote.start(*subject.command(run.path), prepare=stalled_in).wait_for_stall()
    os.kill(process.pid, number)
    process.wait_for_signal()  # two pending signals of one kind are delivered as one
    saved = sameness.step_of(run)
    os.kill(process.pid, number)
    assert process.wait() == code
    assert "Traceback" not in process.output()
    assert sameness.step_of(run) == saved > 0
    subject.finish(zygote, run)
    assert [attempt.step for attempt in run.read_attempts()] == [0, saved]
