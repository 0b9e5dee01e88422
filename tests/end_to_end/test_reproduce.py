"""The whole study in one command: train missing runs, then write Table 1 and the figures."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.errors import DivergedError, ResnetError
from resnet_cli.launch import Job, launch
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.util.signals import SignalForwarder

SMALL = ["--depths", "8,14", "--limit-train", "200", "--limit-test", "50", "--device", "cpu"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of four small networks, with the output of the command."""
    folder = tmp_path_factory.mktemp("study") / "out"
    command = [sys.executable, "-m", "resnet_cli", "reproduce", "--recipe", "demo", "--out", folder, *SMALL]
    done = subprocess.run([*command, "--epochs", "2", "--json"], capture_output=True, text=True, check=True)
    return folder, done


def test_reproduce_writes_four_runs_a_table_and_figures(study):
    folder, done = study
    assert sorted(path.name for path in (folder / "runs").iterdir()) == [
        "plain-14-seed0", "plain-8-seed0", "resnet-14-seed0", "resnet-8-seed0",
    ]  # fmt: skip
    assert all(RunDir(path).status() == "complete" for path in (folder / "runs").iterdir())
    table = (folder / "table1.md").read_text()
    assert all(name in table for name in ("plain-8", "resnet-8", "plain-14", "resnet-14"))
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures == {
        "curves", "convergence-8", "accuracy-14", "dynamics-14", "confusion-8", "confusion-14", "degradation",
        "gradients-8", "gradients-14",
    }  # fmt: skip
    document = json.loads(done.stdout)
    assert [row["network"] for row in document["networks"]] == ["plain-8", "resnet-8", "plain-14", "resnet-14"]
    assert len(document["figures"]) == 9


def test_reproduce_prints_one_line_per_epoch_if_stderr_is_not_a_terminal(study):
    _, done = study
    assert sum(line.startswith("epoch ") for line in done.stderr.splitlines()) == 8


def test_repeating_the_command_of_a_finished_study_trains_nothing(study, capfd):
    folder, _ = study
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("metrics.csv")}
    assert resnet(["reproduce", "--recipe", "demo", "--out", str(folder), *SMALL, "--epochs", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    captured = capfd.readouterr()
    assert "4 complete, 0 to train" in captured.err
    assert "[2/4] resnet-8, seed 0: complete" in captured.err
    assert "--overwrite" not in captured.err  # which is not an option of reproduce
    assert "Results: digits" in captured.out


def test_repeating_a_study_with_other_settings_is_wrong_usage(study, capfd):
    folder, _ = study
    assert resnet(["reproduce", "--recipe", "demo", "--out", str(folder), *SMALL, "--epochs", "3"]) == 2
    error = capfd.readouterr().err
    assert "epochs: 2 → 3" in error


def test_reproduce_reports_a_diverged_run_and_trains_the_others(tmp_path, capfd, monkeypatch):
    def launch_all_but_plain(job, *signals, **options):
        if job.config.arch == "plain":
            raise DivergedError("plain-8, seed 0 diverged")
        launch(job, *signals, **options)

    monkeypatch.setattr("resnet_cli.study.launch", launch_all_but_plain)
    arguments = ["--depths", "8", "--limit-train", "200", "--limit-test", "50", "--device", "cpu", "--epochs", "1"]
    assert resnet(["reproduce", "--out", str(tmp_path / "study"), *arguments]) == 0
    captured = capfd.readouterr()
    assert "warning: plain-8, seed 0 diverged" in captured.err
    assert "resnet-8" in captured.out


def job_for(path, **overrides):
    values = {"arch": "plain", "depth": 8, "limit_train": 200, "limit_test": 50, "epochs": 1, "device": "cpu"}
    return Job(make_config("demo", **{**values, **overrides}), path, "todo")


def test_divergence_in_the_child_process_is_reported(tmp_path):
    with pytest.raises(DivergedError, match="plain-20, seed 0 diverged"):
        launch(job_for(tmp_path / "run", depth=20, lr=1e6, epochs=20), SignalForwarder(), quiet=True)


def test_unusable_input_in_the_child_process_keeps_its_exit_code(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(ResnetError) as caught:
        launch(job_for(tmp_path / "run"), SignalForwarder(), quiet=True)
    assert caught.value.exit_code == 2


def test_ctrl_c_during_reproduce_saves_the_run_in_progress(tmp_path):
    folder = tmp_path / "study"
    command = [
        sys.executable, "-m", "resnet_cli", "reproduce", "--out", folder, "--depths", "8", "--limit-train", "300",
        "--limit-test", "50", "--device", "cpu", "--epochs", "400",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    metrics = folder / "runs" / "plain-8-seed0" / "metrics.csv"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "stopped in plain-8, seed 0; run the same command again to resume"
    assert RunDir(folder / "runs" / "plain-8-seed0").checkpoint_path.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "one"], "--seeds must be a list of whole numbers (got one)"),
        (["--depths", "20,55"], "--depths 20,55: depth 55 is not 6n+2 between 8 and 1202; use --depths 20,56"),
        (["--seeds", "0,-1"], "--seeds 0,-1: seed must be between 0 and"),
        (["--recipe", "none"], "unknown recipe 'none'"),
    ],
)
def test_wrong_usage_of_reproduce_is_one_line_and_trains_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert resnet(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
