"""One run in full, and the differences between runs."""

import json

import pytest

from resnet_cli.analysis.inspection import diff_document, inspect_run
from resnet_cli.errors import RunFileError
from resnet_cli.rundir import RunDir


def test_settings_that_differ_from_the_recipe_have_both_values(make_run, tmp_path):
    shown = inspect_run(make_run(tmp_path / "a", lr=0.05, milestones=(5, 8)))
    assert shown.recipe_differences == {
        "lr": {"value": 0.05, "recipe": 0.1},
        "milestones": {"value": (5, 8), "recipe": (80, 120)},
    }


def test_a_recipe_of_another_version_has_no_values_to_compare_with(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    run.record_path.write_text(run.record_path.read_text().replace('"report2025"', '"future"'))
    assert inspect_run(run).recipe_differences == {}


def test_the_time_left_follows_from_the_latest_epochs_without_the_first(make_run, tmp_path):
    run = make_run(tmp_path / "a", status="incomplete", epochs=8)  # 33 s per epoch
    header, first, *others = run.metrics_path.read_text().splitlines()
    run.metrics_path.write_text("\n".join([header, first.replace("30.0,3.0", "500.0,3.0"), *others]) + "\n")
    shown = inspect_run(run)
    assert (shown.epoch, shown.num_epochs, shown.seconds_per_epoch) == (4, 200, 33.0)
    assert shown.seconds_left == 196 * 33.0


@pytest.mark.parametrize("status", ["complete", "diverged"])
def test_a_run_that_is_over_has_no_time_left_and_cannot_be_resumed(make_run, tmp_path, status):
    shown = inspect_run(make_run(tmp_path / "a", status=status))
    assert shown.seconds_left is None
    assert list(shown.commands) == ["repeat"]


def test_the_commands_that_repeat_and_resume_a_run_quote_its_path(make_run, tmp_path):
    path = tmp_path / "a b"
    shown = inspect_run(make_run(path, status="incomplete"))
    assert shown.commands == {
        "repeat": f"resnet train --from '{path}'",
        "resume": f"resnet train --from '{path}' --out '{path}'",
    }


def test_files_have_their_sizes_and_the_best_epoch_of_an_unfinished_run_is_found(make_run, tmp_path):
    run = make_run(tmp_path / "a", status="incomplete", epochs=8)
    (run.path / "weights" / "last.safetensors").write_bytes(b"12345")
    shown = inspect_run(run)
    assert shown.files["weights/last.safetensors"] == 5
    assert list(shown.files) == sorted(shown.files)
    assert shown.best.test_error_pct == min(row.test_error_pct for row in run.read_epochs())


@pytest.mark.parametrize("name", ["metrics.csv", "attempts.jsonl"])
def test_a_damaged_table_of_a_complete_run_is_a_problem_and_the_rest_is_shown(make_run, tmp_path, name):
    run = make_run(tmp_path / "a")
    (run.path / name).write_text("nonsense\n")
    shown = inspect_run(run)
    assert shown.last.test_accuracy_pct == run.read_summary().last.test_accuracy_pct
    (problem,) = shown.problems
    assert name in problem


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_an_unreadable_run_is_refused_with_the_name_of_the_file(make_run, tmp_path, name):
    run = make_run(tmp_path / "a")
    (run.path / name).write_text("{")
    with pytest.raises(RunFileError, match=name):
        inspect_run(run)
    with pytest.raises(RunFileError, match=name):
        diff_document([run, run])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFileError, match=r"is not a run directory: it has no run\.json"):
        inspect_run(RunDir(tmp_path))


def test_only_values_that_differ_are_listed_for_every_run(make_run, tmp_path):
    runs = [
        make_run(tmp_path / "a", accuracy=91.0),
        make_run(tmp_path / "b", accuracy=91.0, lr=0.05, environment={"torch": "2.11.0", "cuda": "13.0"}),
        make_run(tmp_path / "c", accuracy=91.0, dataset="imagefolder", status="incomplete"),
    ]
    document = diff_document(runs)
    assert document["runs"] == [str(run.path) for run in runs]
    assert document["configuration"] == {"dataset": ["cifar10", "cifar10", "imagefolder"], "lr": [0.1, 0.05, 0.1]}
    assert document["environment"] == {"torch": ["2.10.0", "2.11.0", "2.10.0"], "cuda": [None, "13.0", None]}
    assert document["data"]["display_name"] == ["CIFAR-10", "CIFAR-10", "CIFAR-10 (JPEG)"]
    assert document["results"]["status"] == ["complete", "complete", "incomplete"]
    assert document["results"]["best_test_accuracy_pct"] == [pytest.approx(91.1), pytest.approx(91.1), None]
    assert json.dumps(document)


def test_a_run_does_not_differ_from_itself(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    assert diff_document([run, run]) == {
        "runs": [str(run.path)] * 2, "configuration": {}, "data": {}, "environment": {}, "results": {},
    }  # fmt: skip
