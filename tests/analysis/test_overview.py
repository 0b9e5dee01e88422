"""One row per run directory, whatever its state."""

import pytest

from resnet_cli.analysis.overview import OVERVIEW_COLUMNS, num_epochs, overview_row, read_state, recipe_changes
from resnet_cli.config import FIELDS
from resnet_cli.recipes import make_config


def row_of(run):
    return overview_row(read_state(run))


def test_a_complete_run_has_its_configuration_results_and_size(make_run, tmp_path):
    run = make_run(tmp_path / "a", arch="plain", depth=56, seed=3, lr=0.05, accuracy=86.0, train_error=7.0, epochs=4)
    row = row_of(run)
    assert tuple(row) == tuple(OVERVIEW_COLUMNS)
    assert (row["path"], row["status"], row["reason"]) == (str(run.path), "complete", None)
    assert (row["network"], row["recipe"], row["changes"], row["dataset"]) == (
        "plain-56", "report2025", "lr=0.05", "cifar10",
    )  # fmt: skip
    assert (row["seed"], row["lr"], row["batch_size"], row["milestones"]) == (3, 0.05, 128, (80, 120))
    assert (row["epoch"], row["num_epochs"]) == (4, 200)
    assert (row["test_accuracy_pct"], row["train_clean_error_pct"]) == (86.0, 7.0)
    assert (row["best_test_accuracy_pct"], row["best_chosen_on"]) == (pytest.approx(86.1), "test")
    assert row["train_seconds"] == 120.0
    assert row["device"] == "cpu"  # decided, not auto
    assert row["size_bytes"] == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())


def test_an_unfinished_run_has_the_results_of_its_last_epoch_but_no_totals(make_run, tmp_path):
    run = make_run(tmp_path / "a", status="incomplete", epochs=8)
    row, last = row_of(run), run.read_epochs()[-1]
    assert (row["status"], row["epoch"], row["test_error_pct"]) == ("incomplete", 4, last.test_error_pct)
    assert row["train_seconds"] is row["best_epoch"] is row["finished_at"] is None


def test_a_run_without_an_epoch_has_no_results(make_run, tmp_path):
    run = make_run(tmp_path / "a", status="incomplete")
    run.metrics_path.write_bytes(run.metrics_path.read_bytes().splitlines(keepends=True)[0] + b"1,2")
    row = row_of(run)
    assert (row["status"], row["epoch"], row["test_accuracy_pct"], row["reason"]) == ("incomplete", None, None, None)


def test_a_diverged_run_has_the_reason(make_run, tmp_path):
    row = row_of(make_run(tmp_path / "a", status="diverged"))
    assert (row["status"], row["epoch"]) == ("diverged", 1)
    assert row["reason"] == "the loss was not finite in epoch 2, step 392, at lr 0.1"


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [("run.json", "unreadable", "run.json cannot be read: "), ("summary.json", "unreadable", "summary.json cannot")],
)
def test_a_damaged_run_is_unreadable_with_a_one_line_reason(make_run, tmp_path, name, status, reason):
    run = make_run(tmp_path / "a")
    (run.path / name).write_bytes(b"{\n")
    row = row_of(run)
    assert (row["status"], row["network"], row["size_bytes"] > 0) == (status, None, True)
    assert row["reason"].startswith(reason)
    assert row["reason"].isprintable()


def test_an_unfinished_run_with_damaged_metrics_keeps_its_status_and_has_the_reason(make_run, tmp_path):
    run = make_run(tmp_path / "a", status="incomplete")
    run.metrics_path.write_text("nonsense\n")
    row = row_of(run)
    assert (row["status"], row["network"], row["epoch"]) == ("incomplete", "resnet-20", None)
    assert row["reason"].startswith("metrics.csv does not have the columns")


def test_a_run_that_counts_steps_has_a_length_in_epochs(make_run, tmp_path):
    run = make_run(tmp_path / "a", recipe="he2015")
    assert num_epochs(run.read_record()) == 182  # 64,000 steps of 352 per epoch, 45,000 images in batches of 128


def test_every_field_of_the_configuration_is_a_column():
    assert set(FIELDS) <= set(OVERVIEW_COLUMNS)
    assert (OVERVIEW_COLUMNS["lr"], OVERVIEW_COLUMNS["epochs"], OVERVIEW_COLUMNS["milestones"]) == (float, float, str)


@pytest.mark.parametrize(
    ("recipe", "settings", "changes"),
    [
        ("report2025", {}, ""),
        ("report2025", {"seed": 5, "device": "cpu", "gradflow_every": 1}, ""),
        ("report2025", {"lr": 0.05, "milestones": ()}, "lr=0.05 milestones=none"),
        ("demo", {"dataset": "cifar10", "lr": 0.5}, "dataset=cifar10 lr=0.5"),
    ],
)
def test_changes_are_the_settings_that_differ_from_the_recipe(recipe, settings, changes):
    assert recipe_changes(make_config(recipe, arch="plain", depth=20, **settings)) == changes
