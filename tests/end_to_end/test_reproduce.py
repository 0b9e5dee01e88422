"""The whole study in one command: train missing runs, then write Table 1, verdicts, figures and report."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import train
from resnet_cli.study.estimate import Estimate

DATA = ["--limit-train", "200", "--limit-test", "50", "--device", "cpu", "--epochs", "2"]
SMALL = ["--depths", "8,14", *DATA, "--jobs", "2"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of four small networks, with what the command wrote to stdout and to stderr.

    The smaller two are trained before it, since a child process takes seconds to start.
    """
    folder = tmp_path_factory.mktemp("study") / "out"
    for arch in ("plain", "resnet"):
        config = make_config("demo", arch=arch, depth=8, limit_train=200, limit_test=50, device="cpu", epochs=2)
        train(config, folder / "runs" / f"{arch}-8-seed0")
    command = ["reproduce", "--recipe", "demo", "--out", str(folder), *SMALL, "--probes", "calibration", "--json"]
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnet_cli.study.estimate._measure", lambda configs: [Estimate(60.0, 10**9)] * len(configs))
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        assert resnet(command) == 0
    return folder, json.loads(stdout.getvalue()), stderr.getvalue()


@pytest.fixture
def without_figures(monkeypatch):
    """Draw no figures, which take most of the time."""
    for module in ("figures", "report.drawings"):
        monkeypatch.setattr(f"resnet_cli.analysis.{module}.draw", lambda *_, **__: ([], []))


def test_reproduce_writes_four_runs_a_table_and_figures(study):
    folder, document, _ = study
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
    assert [row["network"] for row in document["networks"]] == ["plain-8", "resnet-8", "plain-14", "resnet-14"]
    assert len(document["figures"]) == 9
    assert [run["state"] for run in document["runs"]] == ["done"] * 4
    assert document["probes"] == {"calibration": "done"}
    assert all((path / "probes").is_dir() for path in (folder / "runs").iterdir())
    assert {row["claim"] for row in document["claims"]} >= {"degradation", "gap"}
    assert "degradation" in (folder / "report.html").read_text()


def test_reproduce_shows_its_plan_and_one_line_per_epoch_of_every_run_that_it_trains(study):
    _, _, log = study
    lines = log.splitlines()
    assert any(line.startswith("4 runs, 2 to train, 2 at a time") for line in lines)
    for name, epochs in {"plain-8": 0, "resnet-8": 0, "plain-14": 2, "resnet-14": 2}.items():
        assert sum(line.startswith(f"{name}, seed 0: epoch ") for line in lines) == epochs


def test_repeating_the_command_of_a_finished_study_trains_and_measures_nothing(study, without_figures, capfd):
    folder, _, _ = study
    kept = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*") if path.is_file()}
    assert resnet(["reproduce", str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    captured = capfd.readouterr()
    assert "4 runs, 0 to train" in captured.err
    assert "Results: digits" in captured.out
    assert resnet(["compare", str(folder / "runs"), "--claims"]) == 0
    assert captured.out.endswith(capfd.readouterr().out)


def test_a_study_with_a_failed_run_has_the_results_of_the_others_and_is_to_be_continued(
    study, without_figures, tmp_path, capfd
):
    folder = tmp_path / "study"
    shutil.copytree(study[0] / "runs" / "plain-8-seed0", folder / "runs" / "plain-8-seed0")
    command = [
        "reproduce",
        "--out",
        str(folder),
        *DATA,
        "--archs",
        "plain",
        "--depths",
        "8",
        "--seeds",
        "0-1",
        "--quiet",
    ]
    not_ours = folder / "runs" / "plain-8-seed1" / "mine"
    not_ours.mkdir(parents=True)
    assert resnet(command) == 2
    captured = capfd.readouterr()
    assert "warning: plain-8, seed 1 failed: --out" in captured.err
    assert captured.err.splitlines()[-1].startswith("error: plain-8, seed 1 failed: --out")
    assert (folder / "report.html").exists()
    assert "plain-8 " in captured.out
    not_ours.rmdir()
    assert resnet([*command, "--print-commands"]) == 0
    (missing,) = capfd.readouterr().out.splitlines()
    assert missing.endswith("plain-8-seed1")


def test_ctrl_c_during_reproduce_saves_the_run_in_progress(tmp_path):
    folder = tmp_path / "study"
    command = [
        sys.executable, "-m", "resnet_cli", "reproduce", "--out", folder, "--depths", "8", "--limit-train", "300",
        "--limit-test", "50", "--device", "cpu", "--epochs", "400", "--archs", "plain", "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    metrics = folder / "runs" / "plain-8-seed0" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "stopped by SIGINT; run the same command again to resume"
    assert RunDir(folder / "runs" / "plain-8-seed0").checkpoint_path.is_file()
