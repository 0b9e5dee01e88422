"""`resnet reproduce` shows its plan first, records it in study.toml, and continues a recorded study."""

import contextlib
import json
import os
import signal

import pytest

from resnet_cli.cli.app import run
from resnet_cli.errors import ExitCode
from resnet_cli.launch import Ending
from resnet_cli.study import StudyResults
from resnet_cli.study.estimate import Estimate
from resnet_cli.study_file import StudyPlan, read_study_file


@pytest.fixture
def launched(monkeypatch):
    """Train and measure nothing; returns the names of the runs and probes that would have been."""
    names = []

    def run_study(jobs, **_):
        jobs = list(jobs)
        names.extend(job.out.name for job in jobs if job.state not in ("done", "diverged"))
        return [Ending("done", 0)] * len(jobs)

    def measure_probes(probes, *_, **__):
        names.extend(probes)
        return dict.fromkeys(probes, Ending("done", 0))

    document = dict.fromkeys(("networks", "gaps", "depth_gaps", "amplification", "skipped", "notes"), ())
    monkeypatch.setattr("resnet_cli.study.run_study", run_study)
    monkeypatch.setattr("resnet_cli.study.measure_probes", measure_probes)
    monkeypatch.setattr("resnet_cli.study.estimate._measure", lambda configs: [Estimate(60.0, 10**9)] * len(configs))
    results = StudyResults(document, None, "table", "report.html", [], [])
    monkeypatch.setattr("resnet_cli.study.write_results", lambda *_, **__: results)
    return names


@pytest.fixture
def reproduce(launched, tmp_path):
    """A function that runs the command on the folder `study`."""
    return lambda *options: run(["reproduce", "--out", str(tmp_path / "study"), *options])


def test_the_plan_is_the_number_of_seeds_and_one_look_unless_given(reproduce, tmp_path):
    assert reproduce("--seeds", "0,1,2") == ExitCode.DONE
    assert read_study_file(tmp_path / "study").plan == StudyPlan(seeds=3, looks=1)


def test_a_plan_for_more_seeds_and_several_looks_is_kept_when_seeds_are_added(reproduce, tmp_path, capsys):
    assert reproduce("--seeds", "0-2", "--planned-seeds", "10", "--looks", "3") == ExitCode.DONE
    assert reproduce("--seeds", "0-4") == ExitCode.DONE
    assert read_study_file(tmp_path / "study").plan == StudyPlan(seeds=10, looks=3)
    assert "warning" not in capsys.readouterr().err


def test_more_seeds_or_looks_than_planned_give_a_warning(reproduce, capsys):
    reproduce("--seeds", "0")
    assert reproduce("--seeds", "0,1") == ExitCode.DONE
    assert "the planned number of seeds is 1, not 2" in capsys.readouterr().err
    assert reproduce("--looks", "5") == ExitCode.DONE
    assert "keeps its plan: --planned-seeds 1 --looks 1" in capsys.readouterr().err


def test_the_folder_of_a_study_is_all_that_is_needed_to_continue_it(reproduce, launched, tmp_path):
    reproduce("--depths", "8,14", "--seeds", "0-1", "--archs", "plain", "--epochs", "3", "--probes", "bn")
    first = list(launched)
    launched.clear()
    assert run(["reproduce", str(tmp_path / "study")]) == ExitCode.DONE
    assert launched == first == [*(f"plain-{depth}-seed{seed}" for seed in (0, 1) for depth in (8, 14)), "bn"]
    assert read_study_file(tmp_path / "study").grid.options == {"epochs": 3}


def test_a_continued_study_finds_its_image_folder(reproduce, launched, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    reproduce("--dataset", "imagefolder", "--data-dir", str(images), "--depths", "8", "--print-commands")
    study, folder = str(tmp_path / "study"), f"--data-dir {images} "
    assert capsys.readouterr().out.count(folder) == 2
    assert run(["reproduce", study, "--print-commands"]) == ExitCode.DONE
    assert capsys.readouterr().out.count(folder) == 2
    images.rename(tmp_path / "moved")
    assert run(["reproduce", study, "--print-commands"]) == ExitCode.DONE
    assert "--data-dir" not in capsys.readouterr().out
    assert run(["reproduce", study, "--data-dir", str(tmp_path / "moved"), "--print-commands"]) == ExitCode.DONE
    assert capsys.readouterr().out.count(f"--data-dir {tmp_path / 'moved'} ") == 2
    assert read_study_file(tmp_path / "study").data_dir == str(tmp_path / "moved")


def test_a_folder_that_images_could_be_downloaded_to_is_neither_recorded_nor_taken_from_the_file(
    reproduce, tmp_path, capsys
):
    reproduce("--dataset", "cifar10", "--data-dir", str(tmp_path), "--depths", "8", "--print-commands")
    assert read_study_file(tmp_path / "study").data_dir is None
    file = tmp_path / "study" / "study.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n{file.read_text()}')
    capsys.readouterr()
    assert reproduce("--dataset", "cifar10", "--depths", "8", "--print-commands") == ExitCode.DONE
    assert "--data-dir" not in capsys.readouterr().out


def test_a_continued_study_can_grow_and_its_file_records_all_of_it(reproduce, launched, tmp_path):
    reproduce("--depths", "8", "--archs", "plain", "--epochs", "3")
    launched.clear()
    assert run(["reproduce", str(tmp_path / "study"), "--seeds", "3,4"]) == ExitCode.DONE
    assert launched == ["plain-8-seed3", "plain-8-seed4", "bn"]
    assert read_study_file(tmp_path / "study").grid.seeds == (0, 3, 4)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--epochs", "4"], "--epochs (3, not 4)"),
        ([], "--epochs (3, not the recipe's value)"),
        (["--epochs", "3", "--recipe", "overnight"], "--recipe (demo, not overnight)"),
        (["--epochs", "3", "--lr", "0.5"], "--lr (the recipe's value, not 0.5)"),
    ],
)
def test_a_study_with_other_settings_is_refused(reproduce, launched, capsys, options, difference):
    reproduce("--depths", "8", "--epochs", "3")
    launched.clear()
    assert reproduce(*options) == ExitCode.USAGE
    assert f"contains a study with a different {difference}" in capsys.readouterr().err
    assert launched == []


def test_a_stop_signal_while_the_results_are_written_has_the_exit_code_of_a_stop(reproduce, monkeypatch, capsys):
    monkeypatch.setattr("resnet_cli.study.write_results", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert reproduce("--depths", "8") == ExitCode.STOPPED
    assert capsys.readouterr().err.splitlines()[-1] == "stopped by SIGTERM; run the same command again to resume"


def test_a_stop_signal_during_the_measurement_of_a_dry_run_kills_the_measuring_process(tmp_path, monkeypatch):
    (tmp_path / "python").write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 0.5\nkill -TERM $PPID\nexec sleep 100\n"
    )
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert run(["reproduce", "--out", str(tmp_path / "study"), "--depths", "8", "--dry-run"]) == ExitCode.STOPPED
    with contextlib.suppress(ChildProcessError):  # no longer there, not even as a zombie
        _, status = os.waitpid(int((tmp_path / "pid").read_text()), 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert not (tmp_path / "study").exists()


def endings(monkeypatch, *values):
    """Let the runs of a study end like this."""
    monkeypatch.setattr("resnet_cli.study.run_study", lambda *_, **__: list(values))


@pytest.mark.parametrize(
    ("values", "code", "error"),
    [
        ([Ending("diverged", 4)] * 2, 4, "2 of 2 runs diverged: plain-8, seed 0; resnet-8, seed 0"),
        (
            [Ending("failed", 1, "disk full; free some space"), Ending("diverged", 4)], 1,
            "plain-8, seed 0 failed: disk full; free some space",
        ),
        (
            [Ending("failed", 1, "exit code 1")] * 2, 1,
            "plain-8, seed 0 and 1 other run failed: exit code 1; run the same command again to resume",
        ),
    ],
)  # fmt: skip
def test_a_study_without_a_complete_run_is_one_document_with_the_reasons(
    reproduce, monkeypatch, capsys, values, code, error
):
    endings(monkeypatch, *values)
    assert reproduce("--depths", "8", "--json") == code
    captured = capsys.readouterr()
    assert [(run["state"], run["reason"]) for run in json.loads(captured.out)["runs"]] == [
        (value.state, value.reason) for value in values
    ]
    assert captured.err.splitlines()[-1] == f"error: {error}"


def test_a_probe_that_fails_is_reported_after_the_results(reproduce, monkeypatch, capsys):
    failed = {"bn": Ending("failed", 1, "exit code 1")}
    monkeypatch.setattr("resnet_cli.study.measure_probes", lambda *_, **__: failed)
    assert reproduce("--depths", "8", "--probes", "bn", "--json") == ExitCode.FAILED
    captured = capsys.readouterr()
    assert json.loads(captured.out)["probes"] == {"bn": "failed"}
    assert captured.err.splitlines()[-1].startswith("error: probe bn failed: exit code 1; run the same command again")


def test_a_probe_in_a_study_file_that_does_not_exist_is_refused_before_training(reproduce, launched, tmp_path, capsys):
    reproduce("--depths", "8", "--probes", "bn")
    launched.clear()
    path = tmp_path / "study" / "study.toml"
    path.write_text(path.read_text().replace('"bn"', '"palpation"'))
    assert run(["reproduce", str(tmp_path / "study")]) == ExitCode.USAGE
    assert "must be a probe (got 'palpation')" in capsys.readouterr().err
    assert launched == []


def test_a_depth_in_a_study_file_that_is_not_valid_is_an_error_with_its_path(reproduce, tmp_path, capsys):
    reproduce("--depths", "8")
    path = tmp_path / "study" / "study.toml"
    path.write_text(path.read_text().replace("depths = [8]", "depths = [9]"))
    assert run(["reproduce", str(tmp_path / "study")]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert f"error: {path}: depth 9 is not 6n+2" in error


@pytest.mark.parametrize(
    ("columns", "header"), [("40", "network          done  to resume  to do"), ("60", "time per run")]
)
def test_the_plan_fits_into_narrow_terminals(reproduce, monkeypatch, capsys, columns, header):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("resnet_cli.cli.output._PIPE_WIDTH", int(columns))
    assert reproduce("--arm", "warmup", "--warmup-steps", "0", "--dry-run") == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert header in lines[0]
    assert all(len(line) <= int(columns) and "…" not in line for line in lines)


def test_a_file_in_the_place_of_the_folder_is_wrong_usage(reproduce, tmp_path, capsys):
    (tmp_path / "study").write_text("mine")
    assert reproduce() == ExitCode.USAGE
    assert capsys.readouterr().err == f"error: {tmp_path / 'study'} is not a folder; choose another --out\n"


def test_a_folder_that_is_not_a_study_cannot_be_continued(launched, tmp_path, capsys):
    assert run(["reproduce", str(tmp_path)]) == ExitCode.USAGE
    assert "is not a study: it has no study.toml with a grid; use --out" in capsys.readouterr().err


def test_a_dry_run_shows_the_plan_with_its_cost_and_writes_nothing(reproduce, launched, tmp_path, capsys, make_run):
    assert reproduce("--seeds", "0-1", "--jobs", "2", "--dry-run") == ExitCode.DONE
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()][1][:4] == ["plain-20", "0", "0", "2"]
    assert "8 runs, 8 to train, 2 at a time; one after another they would take about 8 min" in shown
    assert "1.0 GB" in shown
    assert launched == []
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_as_json_lists_every_run(reproduce, capsys):
    assert reproduce("--depths", "8", "--dry-run", "--json") == ExitCode.DONE
    document = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["state"], row["seconds"]) for row in document["runs"]] == [
        ("plain-8, seed 0", "todo", 60.0), ("resnet-8, seed 0", "todo", 60.0),
    ]  # fmt: skip
    assert document["seconds"] == 120


def test_the_commands_of_missing_runs_are_printed_one_per_line(reproduce, launched, tmp_path, capsys):
    options = ["--depths", "8", "--lr", "0.02", "--data-dir", "my data", "--save-every", "5min", "--print-commands"]
    assert reproduce(*options) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        f"resnet train --recipe demo --arch {arch} --depth 8 --lr 0.02 --data-dir 'my data' "
        f"--out {tmp_path}/study/runs/{arch}-8-seed0 --save-every 5min"
        for arch in ("plain", "resnet")
    ]
    assert launched == []


def test_printing_commands_records_the_plan_and_the_grid_but_creates_no_runs(reproduce, tmp_path):
    assert reproduce("--depths", "8", "--seeds", "0-1", "--looks", "2", "--print-commands") == ExitCode.DONE
    study = read_study_file(tmp_path / "study")
    assert (study.plan, study.grid.depths) == (StudyPlan(seeds=2, looks=2), (8,))
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["study.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "one"], "--seeds must be a list of whole numbers (got one)"),
        (["--seeds", "4-2"], "--seeds 4-2 is not a range; use --seeds 0,1,2"),
        (["--seeds", "0-99999999"], "--seeds 0-99999999 is not a range"),
        (["--depths", "20,55"], "--depths 20,55: depth 55 is not 6n+2 between 8 and 1202; use --depths 20,56"),
        (["--seeds", "0,-1"], "--seeds 0,-1: seed must be between 0 and"),
        (["--recipe", "none"], "unknown recipe 'none'"),
        (["--archs", "plain,wide"], "--archs must be plain, resnet or both (got plain,wide)"),
        (["--archs", "none"], "--archs must be plain, resnet or both (got none)"),
        (["--seeds", "0-9999,20000"], "--seeds has 10,001 numbers, more than 10,000; use --seeds 0,1,2"),
        (["STUDY", "--out", "study"], "STUDY and --out cannot be combined"),
        (["--dry-run", "--print-commands"], "--dry-run and --print-commands cannot be combined"),
        (["--arm", "cold"], "unknown --arm cold; use warmup"),
        (["--arm", "warmup"], "--arm warmup: plain-20 of recipe demo has 24 warm-up steps already"),
        (["--probes", "palpation"], "--probes must be a probe (got 'palpation')"),
        (["--jobs", "0"], "--jobs must be auto or a number between 1 and 1000 (got 0)"),
        (["--jobs", "many"], "--jobs must be auto or a number"),
        (["--save-every", "now"], "--save-every 'now' is not a valid interval"),
        (["--lr", "-1"], "--lr must be between 0 and 1e6 (got -1.0)"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(launched, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", *arguments]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert launched == []
