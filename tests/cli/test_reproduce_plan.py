"""`resnet reproduce` shows its plan first, records it in study.toml, and continues a recorded study."""

import json

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
    assert "planned 1 seeds, not 2" in capsys.readouterr().err
    assert reproduce("--looks", "5") == ExitCode.DONE
    assert "keeps its plan: 1 seeds and 1 looks" in capsys.readouterr().err


def test_the_folder_of_a_study_is_all_that_is_needed_to_continue_it(reproduce, launched, tmp_path):
    reproduce("--depths", "8,14", "--seeds", "0-1", "--archs", "plain", "--epochs", "3", "--probes", "bn")
    first = list(launched)
    launched.clear()
    assert run(["reproduce", str(tmp_path / "study")]) == ExitCode.DONE
    assert launched == first == [*(f"plain-{depth}-seed{seed}" for seed in (0, 1) for depth in (8, 14)), "bn"]
    assert read_study_file(tmp_path / "study").grid.options == {"epochs": 3}


def test_a_continued_study_can_grow_and_its_file_records_all_of_it(reproduce, launched, tmp_path):
    reproduce("--depths", "8", "--archs", "plain", "--epochs", "3")
    launched.clear()
    assert run(["reproduce", str(tmp_path / "study"), "--seeds", "3,4"]) == ExitCode.DONE
    assert launched == ["plain-8-seed3", "plain-8-seed4"]
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


def test_the_commands_of_missing_runs_are_printed_one_per_line_and_nothing_is_written(
    reproduce, launched, tmp_path, capsys
):
    options = ["--depths", "8", "--lr", "0.02", "--data-dir", "my data", "--save-every", "5min", "--print-commands"]
    assert reproduce(*options) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        f"resnet train --recipe demo --arch {arch} --depth 8 --lr 0.02 --data-dir 'my data' "
        f"--out {tmp_path}/study/runs/{arch}-8-seed0 --save-every 5min"
        for arch in ("plain", "resnet")
    ]
    assert launched == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "one"], "--seeds must be a list of whole numbers (got one)"),
        (["--seeds", "4-2"], "--seeds 4-2 is not a range; use --seeds 0,1,2"),
        (["--seeds", "0-99999999"], "--seeds 0-99999999 is not a range"),
        (["--depths", "20,55"], "--depths 20,55: depth 55 is not 6n+2 between 8 and 1202; use --depths 20,56"),
        (["--seeds", "0,-1"], "--seeds 0,-1: seed must be between 0 and"),
        (["--recipe", "none"], "unknown recipe 'none'"),
        (["--archs", "plain,wide"], "--archs must be plain, resnet or both (got wide)"),
        (["--arm", "cold"], "unknown --arm cold; use warmup"),
        (["--arm", "warmup"], "--arm warmup: plain-20 of recipe demo has 24 warm-up steps already"),
        (["--probes", "palpation"], "must be a probe (got 'palpation')"),
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
