"""Runs can be stopped anywhere and resumed bit-identically, and never write to a directory by mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from resnet_cli.config import RunOptions, SaveEvery
from resnet_cli.data import load_source
from resnet_cli.errors import (
    ConfigError,
    DivergedError,
    InputError,
    InterruptedByUserError,
    ResnetError,
    RunFileError,
    StoppedError,
    UsageError,
)
from resnet_cli.recipes import make_config
from resnet_cli.rundir import EpochMetrics, RunDir
from resnet_cli.session import Reporter, default_out, train
from resnet_cli.util.checksum import read_metadata
from resnet_cli.util.spinning import SPIN_COUNT
from resnet_cli.weights import read_weights

# what depends on the clock or the process, not on the numbers
CLOCK_COLUMNS = ["images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes"]


def config_for(**overrides):
    values = {"arch": "resnet", "depth": 8, "limit_train": 300, "limit_test": 60, "epochs": 3, "device": "cpu"}
    return make_config(
        "demo", **{**values, "clean_train_every": 2, "gradflow_every": 1, "augment": "crop", **overrides}
    )


class StopAt(Reporter):
    """Sends this process a signal at the given event, counted over training and evaluation."""

    def __init__(self, tick, number=signal.SIGTERM):
        self.left, self.number = tick, number

    def tick(self, tick):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def stop(config, out, tick):
    """Stop a run by a signal at the given event; it saves that step."""
    with pytest.raises(StoppedError, match="SIGTERM") as caught:
        train(config, out, reporter=StopAt(tick))
    assert f"at step {saved_step(out)} of" in str(caught.value)


def saved_step(out):
    """The step of the checkpoint."""
    return json.loads(read_metadata(RunDir(out).checkpoint_path.read_bytes())["state"])["step"]


def reporting(**methods):
    """A reporter that calls the given functions."""
    reporter = Reporter()
    vars(reporter).update(methods)
    return reporter


def power_cut(*_):
    raise RuntimeError("power cut")


def assert_same_numbers(first, second):
    """Check that everything but the clock is equal to the bit."""
    for read in (RunDir.read_metrics, RunDir.read_gradflow):
        a, b = (read(run).drop(columns=CLOCK_COLUMNS, errors="ignore") for run in (first, second))
        assert a.equals(b)
    for path in ("last_weights_path", "best_weights_path", "checkpoint_path"):
        a, b = (load_file(getattr(run, path)) for run in (first, second))
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a), path
    a, b = first.read_predictions(), second.read_predictions()
    assert np.array_equal(a.logits, b.logits)
    assert np.array_equal(a.labels, b.labels)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Uninterrupted runs, one per architecture."""
    folder = tmp_path_factory.mktemp("straight")
    return {arch: train(config_for(arch=arch), folder / arch).run for arch in ("plain", "resnet")}


# An epoch is 3 steps and 3 evaluated batches, or 1 without the clean training error.
@pytest.mark.parametrize("tick", [1, 2, 3, 4, 5, 8, 9, 13])
def test_a_run_stopped_at_any_point_and_resumed_equals_an_uninterrupted_one(tmp_path, straight, tick):
    for arch in ("plain", "resnet"):
        config, out = config_for(arch=arch), tmp_path / arch
        stop(config, out, tick)
        assert RunDir(out).status() == "incomplete"
        result = train(config, out)
        assert not result.was_complete
        assert_same_numbers(result.run, straight[arch])


def test_a_run_stopped_again_and_again_equals_an_uninterrupted_one(tmp_path, straight):
    config, stops = config_for(), 0
    while True:
        try:
            # an evaluation that was stopped starts again: three batches and a step get past it
            result = train(config, tmp_path / "run", reporter=StopAt(4))
        except StoppedError:
            stops += 1
        else:
            break
    assert stops >= 3
    assert_same_numbers(result.run, straight["resnet"])


def test_a_run_without_momentum_can_be_stopped_and_resumed(tmp_path):
    config = config_for(momentum=0.0)
    whole = train(config, tmp_path / "whole").run
    stop(config, tmp_path / "halves", 2)
    assert_same_numbers(train(config, tmp_path / "halves").run, whole)


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_a_compiled_run_stopped_and_resumed_equals_an_uninterrupted_one(tmp_path, arch):
    config = config_for(arch=arch, compile="on", epochs=2, depth=8, limit_train=200)
    whole = train(config, tmp_path / "whole").run
    stop(config, tmp_path / "halves", 1)
    assert_same_numbers(train(config, tmp_path / "halves").run, whole)


def test_a_run_killed_between_two_checkpoints_resumes_from_the_last_one(tmp_path, straight):
    config, options, seen = config_for(), RunOptions(save_every=SaveEvery(2, "steps")), []
    crashing = reporting(tick=lambda tick: tick.step == 8 and power_cut())
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, tmp_path / "run", options=options, reporter=crashing)
    result = train(config, tmp_path / "run", options=options, reporter=reporting(tick=seen.append))
    assert (seen[0].phase, seen[0].step) == ("evaluate", 6)  # step 6, the last of its epoch, was saved
    assert_same_numbers(result.run, straight["resnet"])


def test_a_run_without_a_checkpoint_starts_again_without_duplicate_rows(tmp_path, straight):
    config, never = config_for(), RunOptions(save_every=SaveEvery(1000, "minutes"))
    crashing = reporting(epoch=lambda metrics: metrics.epoch == 2 and power_cut())
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, tmp_path / "run", options=never, reporter=crashing)
    assert RunDir(tmp_path / "run").read_metrics()["epoch"].tolist() == [1, 2]
    notes = []
    assert_same_numbers(train(config, tmp_path / "run", reporter=reporting(note=notes.append)).run, straight["resnet"])
    assert notes[0] == f"no checkpoint was saved in {tmp_path / 'run'}: training starts from the beginning"


@pytest.mark.parametrize("lost", ["checkpoints", "checkpoints weights"])
def test_a_run_that_lost_its_checkpoint_is_refused_before_its_rows_are_dropped(tmp_path, lost):
    stop(config_for(), tmp_path / "run", 8)
    stop(config_for(), tmp_path / "run", 2)
    for name in lost.split():
        shutil.rmtree(tmp_path / "run" / name)
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    with pytest.raises(RunFileError, match=r"resume\.safetensors is missing, .*; restore it, or use overwrite"):
        train(config_for(), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before
    train(config_for(), tmp_path / "run", overwrite=True)


def test_folders_that_are_missing_before_the_first_checkpoint_are_created_again(tmp_path, straight):
    with pytest.raises(RuntimeError, match="power cut"):
        train(config_for(), tmp_path / "run", reporter=reporting(tick=power_cut))
    (tmp_path / "run" / "checkpoints").rmdir()
    (tmp_path / "run" / "weights").rmdir()
    assert_same_numbers(train(config_for(), tmp_path / "run").run, straight["resnet"])


@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_whose_lock_was_removed_stops_before_its_next_write_and_can_be_resumed(tmp_path, straight, replaced):
    run = RunDir(tmp_path / "run")

    def lose_the_lock(tick):
        if tick.step == 4 and run.lock_path.exists():
            run.lock_path.unlink()
            if replaced:
                run.lock_path.touch()

    with pytest.raises(ResnetError, match=r"\.lock was removed or replaced, so another .*the same command again"):
        train(config_for(), run.path, reporter=reporting(tick=lose_the_lock))
    assert run.read_metrics()["epoch"].tolist() == [1]
    assert run.status() == "incomplete"
    assert_same_numbers(train(config_for(), run.path).run, straight["resnet"])


def test_a_run_that_lost_its_lock_before_it_began_leaves_the_files_of_the_other_process(tmp_path, monkeypatch):
    run = RunDir(tmp_path / "run")

    def locked_by_another(*_, **__):
        run.lock_path.unlink()
        run.lock_path.touch()
        raise ResnetError("the run could not start")

    monkeypatch.setattr("resnet_cli.session.loop.Session", locked_by_another)
    with pytest.raises(ResnetError, match="could not start"):
        train(config_for(), run.path)
    assert run.lock_path.exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["weights", "checkpoints"])
def test_nothing_is_written_or_removed_through_a_link_in_place_of_a_folder(tmp_path, name, overwrite):
    with pytest.raises(StoppedError):
        train(config_for(), tmp_path / "run", reporter=StopAt(2))
    elsewhere = (tmp_path / "run" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "run" / name).symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    with pytest.raises(UsageError, match=rf"run/{name} is a link; replace it with a folder"):
        train(config_for(), tmp_path / "run", overwrite=overwrite)
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_a_data_folder_whose_name_is_not_utf_8_is_trained_on_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/d\xff")
    for split in ("train", "test"):
        for label, name in enumerate(("a", os.fsdecode(b"b\xfe"))):
            os.makedirs(f"{folder}/{split}/{name}")
            Image.new("RGB", (32, 32), (80 * label, 0, 0)).save(f"{folder}/{split}/{name}/0.png")
    sizes = {"limit_train": None, "limit_test": None, "batch_size": 2, "epochs": 1}
    result = train(config_for(dataset="imagefolder", **sizes), tmp_path / "run", options=RunOptions(data_dir=folder))
    record = result.run.read_record()
    assert (record.dataset.display_name, record.dataset.classes) == ("d\\udcff", ("a", "b\\udcfe"))
    assert record.dataset.location == f"{tmp_path}/d\\udcff"
    assert read_weights(result.run.last_weights_path).config == record.config


def test_checkpoints_can_be_saved_every_few_epochs(tmp_path):
    run, saved = RunDir(tmp_path / "run"), []

    def note_saved_epochs(_):
        state = read_metadata(run.checkpoint_path.read_bytes())["state"] if run.checkpoint_path.exists() else "{}"
        saved.append(json.loads(state).get("epochs_done"))

    options = RunOptions(save_every=SaveEvery(2, "epochs"))
    train(config_for(epochs=5), run.path, options=options, reporter=reporting(epoch=note_saved_epochs))
    assert saved == [None, 2, 2, 4, 5]


def test_the_minutes_between_checkpoints_are_counted_from_the_last_one(tmp_path, monkeypatch):
    run, saved = RunDir(tmp_path / "run"), []
    monkeypatch.setattr("resnet_cli.session.loop.time", SimpleNamespace(monotonic=lambda: 40.0 * len(saved)))

    def note_saved_step(_):
        state = read_metadata(run.checkpoint_path.read_bytes())["state"] if run.checkpoint_path.exists() else "{}"
        saved.append(json.loads(state).get("step"))

    options = RunOptions(save_every=SaveEvery(1, "minutes"))
    train(config_for(limit_train=500, epochs=1), run.path, options=options, reporter=reporting(tick=note_saved_step))
    assert saved[:4] == [None, None, 2, 2]


def test_ctrl_c_during_training_gives_exit_code_130(tmp_path):
    with pytest.raises(InterruptedByUserError, match=r"stopped by SIGINT at step 1 of 9.*again to resume") as caught:
        train(config_for(), tmp_path / "run", reporter=StopAt(1, signal.SIGINT))
    assert caught.value.exit_code == 130


def test_a_signal_while_an_epoch_is_reported_stops_the_run_only_after_a_save(tmp_path, straight):
    run, config = RunDir(tmp_path / "run"), config_for()
    inopportune = reporting(epoch=lambda metrics: metrics.epoch == 1 and os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match="at step 4 of 9; checkpoint saved"):
        train(config, run.path, options=RunOptions(save_every=SaveEvery(100, "epochs")), reporter=inopportune)
    assert saved_step(run.path) == 4
    train(config, run.path)
    assert_same_numbers(run, straight["resnet"])


def test_a_run_stopped_with_weights_that_are_not_finite_says_that_it_kept_the_last_checkpoint(tmp_path, monkeypatch):
    run, steps = RunDir(tmp_path / "run"), RunOptions(save_every=SaveEvery(1, "steps"))
    monkeypatch.setattr("resnet_cli.engine.core.Engine.is_finite", lambda engine: engine.step < 2)
    with pytest.raises(StoppedError, match="at step 2 of 9; weights not finite, last checkpoint kept in "):
        train(config_for(), run.path, options=steps, reporter=StopAt(2))
    assert saved_step(run.path) == 1


def test_a_signal_at_the_very_end_lets_the_run_finish(tmp_path, straight):
    late = reporting(epoch=lambda metrics: metrics.epoch == 3 and os.kill(os.getpid(), signal.SIGTERM))
    result = train(config_for(), tmp_path / "run", reporter=late)
    assert result.run.status() == "complete"
    assert_same_numbers(result.run, straight["resnet"])


def test_training_a_finished_run_changes_no_file(tmp_path, straight):
    run = straight["plain"]
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    result = train(config_for(arch="plain"), run.path)
    assert result.was_complete
    assert result.summary == run.read_summary()
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_the_summary_of_another_run_is_not_taken_for_the_result(tmp_path, straight):
    shutil.copytree(straight["plain"].path, tmp_path / "run")
    shutil.copy(straight["resnet"].summary_path, tmp_path / "run")
    with pytest.raises(RunFileError, match=r"summary\.json belongs to a different run"):
        train(config_for(arch="plain"), tmp_path / "run")


def test_a_directory_of_another_configuration_is_refused_and_the_fields_that_differ_are_named(straight):
    with pytest.raises(UsageError, match=r"seed: 0 → 5.*overwrite"):
        train(config_for(arch="plain", seed=5), straight["plain"].path)


def test_overwrite_starts_afresh_and_keeps_what_the_tool_did_not_write(tmp_path):
    train(config_for(epochs=1), tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    result = train(config_for(epochs=2), tmp_path / "run", overwrite=True)
    assert result.run.read_metrics()["epoch"].tolist() == [1, 2]
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_folder_with_other_files_is_never_used_for_a_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        train(config_for(), tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        train(config_for(), tmp_path / "file")


def test_unreadable_data_leave_no_run_folder_behind(tmp_path):
    with pytest.raises((InputError, ConfigError)):
        train(config_for(dataset="imagefolder"), tmp_path / "run", options=RunOptions(data_dir=str(tmp_path / "no")))
    assert not (tmp_path / "run").exists()


def test_an_unsupported_device_is_refused_before_any_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("resnet_cli.session.start.open_data", power_cut)
    with pytest.raises(UsageError, match="device mps is not available"):
        train(config_for(device="mps"), tmp_path / "run")


def test_a_run_whose_settings_cannot_be_reproduced_is_refused_before_any_data_are_read(tmp_path, monkeypatch):
    config = config_for()
    stop(config, tmp_path / "run", 2)
    run = RunDir(tmp_path / "run")
    record = json.loads(run.record_path.read_text())
    record["decisions"]["device"]["value"] = "mps"
    run.record_path.write_text(json.dumps(record))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr("resnet_cli.session.start.open_data", power_cut)
        with pytest.raises(UsageError, match=r"numbers would change.*mps.*accept.changes"):
            train(config, run.path)
    assert train(config, run.path, accept_changes=True).run.status() == "complete"


@pytest.mark.parametrize(("batch_size", "num_warnings"), [(199, 0), (200, 1), (500, 1)])
def test_a_batch_of_all_training_images_gives_a_warning(tmp_path, batch_size, num_warnings):
    warnings = []
    config = config_for(epochs=1, limit_train=200, gradflow_every=0, batch_size=batch_size, warmup_steps=0)
    train(config, tmp_path / "run", reporter=reporting(warn=warnings.append))
    assert warnings == num_warnings * [
        f"each epoch is a single step: --batch-size {batch_size} takes all 200 training images at once"
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"warmup_steps": 1, "milestones": ()}, []),
        ({"sync_bn": True}, ["--sync-bn has no effect on a single process; torchrun starts several"]),
        ({"warmup_steps": 2}, ["--warmup-steps 2 covers all 2 steps of the run, which never reaches --lr"]),
        ({"milestones": (1, 80)}, ["--milestones 1,80 has no effect: the run ends after 1 epoch"]),
        (
            {"epochs": None, "steps": 2, "milestones": (1, 5)},
            ["--milestones 5 has no effect: the run ends after 2 steps"],
        ),
    ],
)
def test_a_setting_without_the_usual_effect_gives_one_warning(tmp_path, changes, expected):
    warnings = []
    short = {"epochs": 1, "limit_train": 100, "batch_size": 50, "warmup_steps": 0, "gradflow_every": 0}
    train(config_for(**{**short, **changes}), tmp_path / "run", reporter=reporting(warn=warnings.append))
    assert warnings == expected


def test_an_image_folder_that_cannot_be_cached_gives_a_warning(tmp_path, monkeypatch):
    for split in ("train", "test"):
        for i, cls in enumerate(("cat", "dog")):
            path = tmp_path / "images" / split / cls / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((32, 32, 3), 100 * i, np.uint8)).save(path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    warnings = []
    train(
        config_for(dataset="imagefolder", epochs=1, limit_train=None, limit_test=None, gradflow_every=0, batch_size=2),
        tmp_path / "run",
        options=RunOptions(data_dir=str(tmp_path / "images")),
        reporter=reporting(warn=warnings.append),
    )
    assert "the images will be decoded again next time" in warnings[0]


def test_a_run_is_resumed_only_with_the_data_it_began_with(tmp_path, monkeypatch):
    config = config_for()
    stop(config, tmp_path / "run", 2)
    other = load_source("digits", None)
    other = msgspec.structs.replace(other, test=other.train)
    monkeypatch.setattr("resnet_cli.data.digits.load_digits", lambda: other)
    with pytest.raises(InputError, match="fingerprint"):
        train(config, tmp_path / "run")


def digits_in_memory():
    source = load_source("digits", None)
    return ((source.train.pixels, source.train.labels), (source.test.pixels, source.test.labels))


def test_images_in_memory_give_the_same_run_as_the_dataset_that_they_are_from(tmp_path, straight):
    result = train(config_for(), tmp_path / "run", dataset=digits_in_memory())
    assert (result.record.config.dataset, result.record.dataset.name) == ("arrays", "arrays")
    assert result.record.dataset.fingerprint == straight["resnet"].read_record().dataset.fingerprint
    assert_same_numbers(result.run, straight["resnet"])


def test_a_run_on_images_in_memory_is_resumed_and_repeated_only_with_the_same_images(tmp_path):
    config, images, out = config_for(epochs=1), digits_in_memory(), tmp_path / "run"
    with pytest.raises(StoppedError):
        train(config, out, dataset=images, reporter=StopAt(2))
    (pixels, labels), test = images
    other = ((255 - pixels, labels), test)
    with pytest.raises(InputError, match=r"was trained on other data.*pass the original images"):
        train(config, out, dataset=other)
    assert not train(config, out, dataset=images).was_complete
    assert train(config, out, dataset=images).was_complete
    with pytest.raises(InputError, match="was trained on other data"):
        train(config, out, dataset=other)
    with pytest.raises(ConfigError, match=r"passed from Python and are not stored.*dataset=\(train, test\)"):
        train(RunDir(out).read_record().config, tmp_path / "another")


def test_a_diverged_run_keeps_its_last_finite_checkpoint_and_is_refused_when_repeated(tmp_path):
    config = config_for(lr=0.1, warmup_steps=1000, warmup_lr=1e6, arch="plain", depth=20, epochs=20)
    with pytest.raises(DivergedError, match="not finite at step") as first:
        train(config, tmp_path / "run", options=RunOptions(save_every=SaveEvery(1, "steps")))
    run = RunDir(tmp_path / "run")
    assert run.status() == "diverged"
    where = run.read_divergence()
    assert f"at step {where.step} (epoch {where.epoch}, lr 1e+06)" in str(first.value)
    assert (where.epoch, where.lr) == (where.step // 3 + 1, 1e6)
    assert all(np.isfinite(value).all() for value in load_file(run.checkpoint_path).values())
    with pytest.raises(DivergedError, match="overwrite"):
        train(config, tmp_path / "run")


def test_the_summary_of_a_resumed_run_covers_the_epochs_before(tmp_path):
    config = config_for()
    stop(config, tmp_path / "run", 9)
    result = train(config, tmp_path / "run")
    rows = result.run.read_epochs()
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert result.run.read_attempts()[1].step > 3
    assert result.summary.last == rows[-1]
    assert result.summary.best == min(rows, key=lambda row: row.test_error_pct)
    assert result.summary.best_chosen_on == "test"
    assert result.summary.train_seconds == sum(row.train_seconds for row in rows)
    assert result.summary.eval_seconds == sum(row.eval_seconds for row in rows)
    assert result.summary.peak_memory_bytes == max(row.peak_memory_bytes for row in rows)


@pytest.mark.parametrize("change", ["missing", "cut", "edited"])
def test_a_run_whose_metrics_are_not_those_of_its_checkpoint_is_not_resumed(tmp_path, change):
    config, path = config_for(), tmp_path / "run" / "metrics.csv"
    stop(config, tmp_path / "run", 9)
    rows = path.read_bytes().splitlines(keepends=True)
    changes = {"missing": None, "cut": rows[:1], "edited": [rows[0], rows[1].replace(b"1,3,", b"1,4,")]}
    if changes[change] is None:
        path.unlink()
    else:
        path.write_bytes(b"".join(changes[change]))
    reason = "is missing" if change == "missing" else "was changed since the checkpoint was saved"
    with pytest.raises(RunFileError, match=rf"metrics\.csv {reason}"):
        train(config, tmp_path / "run")


def test_results_deleted_between_the_last_checkpoint_and_the_summary_are_written_again(tmp_path, straight):
    config, out = config_for(), RunDir(tmp_path / "run")
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, out.path, reporter=reporting(epoch=lambda metrics: metrics.epoch == 3 and power_cut()))
    out.predictions_path.unlink()
    out.last_weights_path.unlink()
    assert_same_numbers(train(config, out.path).run, straight["resnet"])
    assert set(out.read_summary().files) == {
        "metrics.csv", "gradflow.csv", "predictions.npz", "weights/last.safetensors", "weights/best.safetensors"
    }  # fmt: skip


def test_best_weights_deleted_during_training_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(EpochMetrics, "selection_error_pct", lambda _: 50.0)  # the first epoch is the best
    out, notes = RunDir(tmp_path / "run"), []
    stop(config_for(), out.path, 9)
    out.best_weights_path.unlink()
    result = train(config_for(), out.path, reporter=reporting(note=notes.append))
    assert any(str(out.best_weights_path) in note and "cannot be restored" in note for note in notes)
    assert "weights/best.safetensors" not in result.summary.files


def test_better_weights_are_written_only_with_the_checkpoint_that_contains_their_epoch(tmp_path, straight):
    out = RunDir(tmp_path / "run")
    options = RunOptions(save_every=SaveEvery(100, "epochs"))
    crashing = reporting(tick=lambda tick: tick.step == 8 and power_cut())
    with pytest.raises(RuntimeError, match="power cut"):
        train(config_for(), out.path, options=options, reporter=crashing)
    assert len(out.read_epochs()) >= 2
    assert not out.best_weights_path.exists()
    assert_same_numbers(train(config_for(), out.path).run, straight["resnet"])


def test_weights_of_an_epoch_after_the_checkpoint_are_never_taken_for_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(EpochMetrics, "selection_error_pct", lambda _: 50.0)  # the first epoch stays the best
    out, notes = RunDir(tmp_path / "run"), []
    stop(config_for(), out.path, 9)
    out.best_weights_path.write_bytes(out.last_weights_path.read_bytes())
    result = train(config_for(), out.path, reporter=reporting(note=notes.append))
    assert any("was lost during training and cannot be restored" in note for note in notes)
    assert "weights/best.safetensors" not in result.summary.files


def test_the_first_of_epochs_with_equal_errors_is_the_best_even_after_resuming(tmp_path, monkeypatch):
    monkeypatch.setattr(EpochMetrics, "selection_error_pct", lambda _: 50.0)
    stop(config_for(), tmp_path / "run", 9)
    result = train(config_for(), tmp_path / "run")
    assert result.summary.best.epoch == 1
    best, last = (load_file(path) for path in (result.run.best_weights_path, result.run.last_weights_path))
    assert not np.array_equal(best["fc.weight"], last["fc.weight"])


def test_the_best_epoch_of_a_run_with_a_validation_split_is_chosen_on_it(tmp_path):
    result = train(config_for(val_size=60), tmp_path / "run")
    assert result.summary.best_chosen_on == "val"
    assert result.summary.best == min(result.run.read_epochs(), key=lambda row: row.val_error_pct)
    assert (result.record.dataset.num_train, result.record.dataset.num_val) == (240, 60)


def test_run_json_contains_network_data_decisions_and_environment(straight):
    record = straight["resnet"].read_record()
    assert record.model.parameters == 75_290
    assert (record.dataset.num_train, record.dataset.num_test) == (300, 60)
    assert record.decisions["device"].value == "cpu"
    assert record.decisions["precision"].value == "fp32"
    assert all(decision.reason for decision in record.decisions.values())
    assert record.environment["torch"]


def test_the_default_run_directory_differs_between_configurations():
    plain = make_config("report2025", arch="plain", depth=20)
    assert str(default_out(plain)) == "runs/cifar10-report2025-plain-20-seed0"
    projection = make_config("demo", arch="resnet", depth=8, shortcut="B", seed=3)
    assert str(default_out(projection)) == "runs/digits-demo-resnet-8-B-seed3"
    places = {
        default_out(make_config("report2025", arch="plain", depth=20, **changed))
        for changed in ({}, {"lr": 0.2}, {"seed": 1}, {"compile": "on"}, {"gradflow_every": 1}, {"limit_test": 500})
    }
    assert len(places) == 6


COMMAND = [
    sys.executable, "-m", "resnet_cli", "train", "--recipe", "demo", "--arch", "plain", "--depth", "8",
    "--device", "cpu", "--limit-train", "300", "--limit-test", "60", "--epochs", "400", "--save-every", "2steps",
]  # fmt: skip


def wait_for_epoch(out, epoch, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (out / "metrics.csv").exists() and (out / "metrics.csv").read_bytes().count(b"\n") > epoch:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get there")


class Interrupted(NamedTuple):
    """A training command that Ctrl-C stopped."""

    run: RunDir
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("interrupted") / "run"
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    process = subprocess.Popen(
        [*COMMAND, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    wait_for_epoch(out, 1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return Interrupted(RunDir(out), process.returncode, stdout, stderr)


def test_ctrl_c_saves_and_ends_with_one_line_and_its_code(interrupted):
    # tests/hostile/test_kills.py has the other signals
    assert interrupted.code == 130
    assert interrupted.stdout == ""
    assert interrupted.stderr.splitlines()[-1].startswith("stopped by SIGINT at step")
    assert "Traceback" not in interrupted.stderr
    assert interrupted.run.checkpoint_path.is_file()


def test_a_run_records_how_long_its_threads_spin(interrupted):
    assert interrupted.run.read_record().decisions["spinning"].value == f"at most {SPIN_COUNT} times"
