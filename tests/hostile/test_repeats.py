"""Repeated runs have equal checksums; a resumed run keeps its decisions, and reports changes of the machine."""

import json

import pytest
import sameness
import torch
from launching import was_killed

from resnet_cli.rundir import RunDir
from resnet_cli.util.text import json_text

TRAIN = ["train", "--recipe", "demo", "--depth", 8, "--device", "cpu", "--limit-train", 200, "--limit-test", 40]
NUM_RUNS = 5
MISSING_DEVICE = "cuda" if torch.backends.mps.is_available() else "mps"  # no machine has both


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_five_runs_of_one_seed_and_a_repetition_from_a_record_have_one_checksum(zygote, tmp_path, arch):
    # benchmarks/reproducibility.py does the same in fresh processes, and with torch.compile
    command = [*TRAIN, "--arch", arch, "--epochs", 2, "--augment", "crop-flip", "--gradflow-every", 1]
    outs = [tmp_path / str(number) for number in range(NUM_RUNS)]
    for out in outs:
        zygote.succeed(*command, "--out", out)
    zygote.succeed("train", "--from", outs[0], "--out", tmp_path / "copy")
    checksums = {sameness.together(RunDir(out)) for out in [*outs, tmp_path / "copy"]}
    assert len(checksums) == 1
    first, copy = RunDir(outs[0]).read_record(), RunDir(tmp_path / "copy").read_record()
    assert (copy.config, copy.decisions) == (first.config, first.decisions)
    assert copy.run_id != first.run_id

    zygote.succeed(*command, "--seed", 1, "--out", tmp_path / "other")
    assert sameness.together(RunDir(tmp_path / "other")) not in checksums


@pytest.fixture
def stopped(zygote, tmp_path):
    """A command whose run was killed in its second epoch, with that run."""
    command = [*TRAIN, "--arch", "plain", "--epochs", 3, "--save-every", "1steps", "--out", tmp_path / "run"]
    assert was_killed(zygote.start(*command, prepare="slow evaluation").wait_for_stall())
    return command, RunDir(tmp_path / "run")


def rewrite(run, change):
    record = json.loads(run.record_path.read_text())
    change(record)
    run.record_path.write_text(json_text(record))


def test_a_run_from_another_device_is_resumed_only_with_accept_changes(zygote, stopped):
    command, run = stopped
    rewrite(run, lambda record: record["decisions"]["device"].update(value=MISSING_DEVICE))
    before = sameness.step_of(run)
    line = zygote.fail(2, *command)
    assert f"cannot reproduce the original settings: --device {MISSING_DEVICE}" in line
    assert "--accept-changes" in line
    assert sameness.step_of(run) == before
    assert len(run.read_attempts()) == 1

    output = zygote.succeed(*command, "--accept-changes")
    assert f"results may differ from those of an uninterrupted run: device {MISSING_DEVICE} → cpu" in output
    assert [attempt.decisions["device"].value for attempt in run.read_attempts()] == ["cpu", "cpu"]
    assert run.status() == "complete"


def test_a_run_resumed_with_another_version_reports_it(zygote, stopped):
    command, run = stopped
    rewrite(run, lambda record: record["environment"].update(torch="2.0.0"))
    output = zygote.succeed(*command)
    assert "results may differ from those of an uninterrupted run: torch 2.0.0 → " in output


def test_a_resumed_run_keeps_its_number_of_threads(zygote, stopped):
    command, run = stopped
    rewrite(run, lambda record: record["decisions"]["threads"].update(value="2"))
    rewrite(run, lambda record: record["environment"].update(num_threads=2))
    output = zygote.succeed(*command)  # of one thread, were it a new run
    assert "may differ" not in output
    assert run.read_attempts()[1].environment["num_threads"] == 2


def test_a_repetition_that_this_machine_cannot_reproduce_needs_accept_changes(zygote, stopped, tmp_path):
    _, run = stopped
    rewrite(run, lambda record: record["decisions"]["device"].update(value=MISSING_DEVICE))
    copy = ["train", "--from", run.path, "--out", tmp_path / "copy"]
    assert f"--device {MISSING_DEVICE}" in zygote.fail(2, *copy)
    assert not (tmp_path / "copy").exists()
    zygote.succeed(*copy, "--accept-changes")
