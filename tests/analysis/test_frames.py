"""Reading run directories as a study and its frames."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from resnet_cli.analysis.frames import (
    CONFIG_COLUMNS,
    RUN_COLUMNS,
    epochs_frame,
    load_epochs,
    load_runs,
    load_study,
    runs_frame,
)
from resnet_cli.config import FIELDS
from resnet_cli.errors import RunFileError
from resnet_cli.rundir import METRICS_COLUMNS


def _skipped(study):
    return {os.path.basename(skipped.path): (skipped.status, skipped.reason) for skipped in study.skipped}


def test_the_runs_frame_has_one_row_per_complete_run_with_last_and_best_results(make_run, tmp_path):
    make_run(tmp_path / "a", arch="plain", depth=56, seed=3, accuracy=86.0, train_error=7.0, epochs=4)
    frame = load_runs([tmp_path])
    assert tuple(frame.columns) == RUN_COLUMNS
    assert len(frame) == 1
    row = frame.iloc[0]
    assert (row.network, row.depth, row.shortcut, row.seed) == ("plain-56", 56, "none", 3)
    assert (row.dataset, row.dataset_name, row.recipe) == ("CIFAR-10", "cifar10", "report2025")
    assert row.parameters == 853_018
    assert row.test_accuracy_pct == 86.0
    assert row.train_clean_error_pct == 7.0
    assert row.best_test_accuracy_pct == pytest.approx(86.1)  # the epoch before the last
    assert (row.epochs, row.best_epoch, row.best_chosen_on) == (4, 3, "test")
    assert (row.device, row.precision, row.torch) == ("cpu", "fp32", "2.10.0")
    assert row.train_seconds == 120.0


def test_the_runs_frame_has_every_field_of_the_configuration(make_run, tmp_path):
    make_run(tmp_path / "a", lr=0.05, milestones=(5, 8), deterministic=True)
    make_run(tmp_path / "b", recipe="he2015", seed=2**63 - 1)
    frame = load_runs([tmp_path])
    assert set(CONFIG_COLUMNS) == set(FIELDS)
    assert set(CONFIG_COLUMNS.values()) <= set(frame.columns)
    a, b = (frame.iloc[i] for i in range(2))
    assert (a.lr, a.batch_size, a.milestones, a.deterministic, a.config_epochs) == (0.05, 128, "5,8", True, 200)
    assert (b.steps, b.val_size, b.seed) == (64_000, 5000, 2**63 - 1)
    assert (a.device, a.config_device, a.epochs) == ("cpu", "auto", 3)
    assert frame[["steps", "config_epochs"]].isna().to_numpy().tolist() == [[True, False], [False, True]]


def test_values_that_were_not_recorded_are_missing_in_columns_of_their_type(make_run, tmp_path):
    run = make_run(tmp_path / "a", environment={"torch": None})
    run.record_path.write_text(run.record_path.read_text().replace('"precision": {', '"something": {'))
    frame = load_runs([tmp_path])
    assert frame.val_error_pct.dtype == "float64"
    assert frame[["val_error_pct", "torch", "precision"]].isna().all(axis=None)


def test_frames_of_a_study_without_complete_runs_are_empty_but_have_all_columns(make_run, tmp_path):
    make_run(tmp_path / "a", status="incomplete")
    study = load_study([tmp_path], with_metrics=True)
    assert list(runs_frame(study).columns) == list(RUN_COLUMNS)
    assert list(epochs_frame(study).columns)[-len(METRICS_COLUMNS) :] == list(METRICS_COLUMNS)
    assert len(runs_frame(study)) == len(epochs_frame(study)) == 0


def test_the_epochs_frame_has_one_row_per_run_and_epoch(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0, epochs=3, accuracy=91.0)
    make_run(tmp_path / "b", seed=1, epochs=5, accuracy=92.0)
    frame = load_epochs([tmp_path])
    assert frame.groupby("seed").epoch.apply(list).to_dict() == {0: [1, 2, 3], 1: [1, 2, 3, 4, 5]}
    last = frame.groupby("seed").test_accuracy_pct.last()
    assert last.to_dict() == {0: 91.0, 1: 92.0}
    assert set(frame.network) == {"resnet-20"}


def test_the_epochs_frame_reads_missing_metrics_and_an_error_names_a_damaged_file(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    study = load_study([tmp_path])
    assert study.metrics == {}
    assert len(epochs_frame(study)) == 3
    run.metrics_path.write_text("nonsense\n")
    with pytest.raises(RunFileError, match=r"metrics\.csv"):
        epochs_frame(study)


def test_a_run_with_unreadable_metrics_is_skipped_only_if_metrics_are_loaded(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    run.metrics_path.unlink()
    assert len(load_study([tmp_path]).runs) == 1
    study = load_study([tmp_path], with_metrics=True)
    assert study.runs == []
    assert _skipped(study) == {"a": ("unreadable", "metrics.csv is missing")}


def test_incomplete_diverged_and_running_runs_are_skipped_with_a_reason(make_run, tmp_path):
    make_run(tmp_path / "incomplete", status="incomplete")
    make_run(tmp_path / "diverged", status="diverged", seed=1)
    locked = make_run(tmp_path / "running", status="incomplete", seed=2)
    code = f"from resnet_cli.rundir import RunDir; l = RunDir({str(locked.path)!r}).lock(); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        skipped = _skipped(load_study([tmp_path]))
        process.communicate(b"\n")
    assert skipped["incomplete"][0] == "incomplete"
    assert "resume" in skipped["incomplete"][1]
    assert skipped["diverged"] == ("diverged", "the loss was not finite in epoch 2, step 392, at lr 0.1")
    assert skipped["running"][0] == "running"


@pytest.mark.parametrize(
    ("name", "status"), [("run.json", "complete"), ("summary.json", "complete"), ("diverged.json", "diverged")]
)
def test_a_run_with_a_damaged_file_is_unreadable_and_the_others_are_read(make_run, tmp_path, name, status):
    make_run(tmp_path / "good")
    bad = make_run(tmp_path / "bad", seed=1, status=status)
    (bad.path / name).write_bytes(b'{"schema_version": 1, "run')
    study = load_study([tmp_path])
    assert [run.dir.path.name for run in study.runs] == ["good"]
    skipped_status, reason = _skipped(study)["bad"]
    assert skipped_status == "unreadable"
    assert reason.startswith(f"{name} cannot be read")
    assert "\n" not in reason


@pytest.mark.parametrize(("name", "status"), [("summary.json", "complete"), ("diverged.json", "diverged")])
def test_a_run_with_the_result_of_another_run_is_unreadable(make_run, tmp_path, name, status):
    one, other = (make_run(tmp_path / folder, seed=seed, status=status) for seed, folder in enumerate(("one", "other")))
    shutil.copy(other.path / name, one.path / name)
    skipped = _skipped(load_study([tmp_path]))
    assert skipped["one"] == ("unreadable", f"{name} belongs to a different run than run.json")


def test_a_copy_and_a_bit_identical_repetition_of_a_run_are_not_counted(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    shutil.copytree(run.path, tmp_path / "b")
    make_run(tmp_path / "c", accuracy=90.0)  # as on a GPU, where a seed can give different results
    make_run(tmp_path / "d")
    study = load_study([tmp_path])
    assert [run.dir.path.name for run in study.runs] == ["a", "c"]
    assert _skipped(study) == dict.fromkeys("bd", ("duplicate", f"same run as {run.path}"))


def test_runs_without_losses_are_not_treated_as_repetitions(make_run, tmp_path):
    for name in "ab":
        run = make_run(tmp_path / name)
        text = run.summary_path.read_text()
        run.summary_path.write_text(re.sub(r'"test_loss": [^,]+', '"test_loss": null', text))
    assert len(load_study([tmp_path]).runs) == 2


def test_the_same_folder_given_twice_is_read_once(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    study = load_study([tmp_path, run.path])
    assert (len(study.runs), study.skipped) == (1, [])


def test_runs_are_grouped_by_data_and_recipe_but_not_by_seed_or_network(make_run, tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, arch="plain", depth=56)
    make_run(tmp_path / "c", lr=0.05)
    make_run(tmp_path / "d", dataset="imagefolder")
    make_run(tmp_path / "e", limit_train=1000)
    groups = load_study([tmp_path]).groups()
    found = {group.label: len(runs) for group, runs in groups.items()}
    assert found == {
        "CIFAR-10, report2025": 2,
        "CIFAR-10, report2025 lr=0.05": 1,
        "CIFAR-10, report2025 limit_train=1000": 1,
        "CIFAR-10 (JPEG), report2025": 1,
    }
    assert list(groups) == sorted(groups)


def test_loading_frames_warns_about_every_skipped_run(make_run, tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", status="diverged")
    for load in (load_runs, load_epochs):
        with pytest.warns(UserWarning, match=r"skipped .*b \(diverged\)") as caught:
            frame = load([tmp_path])
        assert caught[0].filename == __file__
        assert set(frame.network) == {"resnet-20"}


def test_frames_are_public_and_load_without_torch(make_run, tmp_path):
    make_run(tmp_path / "a")
    code = f"import sys, resnet_cli as r; print(len(r.load_runs([{str(tmp_path)!r}])), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
