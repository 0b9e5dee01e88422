"""The run directory: files are read back as they were written; status, lock, truncation and clearing."""

import datetime
import fcntl
import hashlib
import json
import os
import threading

import filelock
import msgspec
import numpy as np
import pandas as pd
import pytest
from msgspec.structs import asdict, replace

from resnet_cli.errors import ResnetError, RunFileError, UsageError
from resnet_cli.rundir import (
    METRICS_COLUMNS,
    SCHEMA_VERSION,
    GradflowRow,
    Predictions,
    RunDir,
    now,
)


@pytest.fixture
def unfinished(make_run, tmp_path):
    """A run of which two of four epochs are done."""
    return make_run(tmp_path / "unfinished", arch="plain", depth=8, epochs=4, status="incomplete", gradflow=True)


def files_of(run):
    """Every file with its content, except the lock."""
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path != run.lock_path
    }


def test_the_sizes_of_all_files_are_listed_without_following_links(unfinished, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "big").write_bytes(b"x" * 1000)
    (unfinished.path / "weights" / "last.safetensors").write_bytes(b"12345")
    for name in ("link", "weights/link"):
        (unfinished.path / name).symlink_to(tmp_path / "elsewhere")
    sizes = unfinished.file_sizes()
    assert list(sizes) == ["gradflow.csv", "metrics.csv", "run.json", "weights/last.safetensors"]
    assert sizes["weights/last.safetensors"] == 5
    assert RunDir(tmp_path / "missing").file_sizes() == {}


class TestRoundTrip:
    def test_run_json_is_read_as_it_was_written(self, run, tmp_path):
        record = run.read_record()
        copy = RunDir(tmp_path / "copy")
        copy.path.mkdir()
        copy.create(record)
        assert copy.read_record() == record
        document = json.loads(copy.record_path.read_bytes())
        assert document["schema_version"] == SCHEMA_VERSION
        assert document["config"]["depth"] == record.config.depth == 8
        assert document["dataset"]["num_test"] == record.dataset.num_test == 40
        assert document["decisions"]["device"] == {"value": "cpu", "reason": "for the test"}

    def test_a_new_run_directory_has_its_folders_and_csv_files_without_rows(self, unfinished, tmp_path):
        new = RunDir(tmp_path / "new")
        new.create(unfinished.read_record())
        assert new.read_metrics().empty
        assert new.read_gradflow().empty
        assert new.last_weights_path.parent.is_dir()
        assert new.checkpoint_path.parent.is_dir()

    def test_summary_json_is_read_as_it_was_written(self, run):
        summary = run.read_summary()
        run.write_summary(summary, "# page\n")
        assert run.read_summary() == summary
        assert run.readme_path.read_text() == "# page\n"
        assert json.loads(run.summary_path.read_bytes())["last"] == msgspec.to_builtins(run.read_epochs()[-1])

    def test_summary_json_is_written_after_the_page(self, run, monkeypatch):
        names = []
        monkeypatch.setattr("resnet_cli.rundir.directory.write_atomic", lambda path, _: names.append(path.name))
        run.write_summary(run.read_summary(), "# page\n")
        assert names == ["README.md", "summary.json"]

    def test_diverged_json_is_read_as_it_was_written(self, make_run, tmp_path):
        diverged = make_run(tmp_path / "diverged", epochs=4, status="diverged")
        divergence = diverged.read_divergence()
        assert (divergence.epoch, divergence.step, divergence.lr) == (3, 2 * 391 + 1, 0.1)
        diverged.write_divergence(divergence)
        assert diverged.read_divergence() == divergence

    def test_the_frame_of_metrics_has_one_numeric_row_per_epoch(self, run):
        frame = run.read_metrics()
        assert tuple(frame.columns) == METRICS_COLUMNS
        assert frame["epoch"].tolist() == [1, 2, 3]
        assert frame["epoch"].dtype == frame["step"].dtype == np.int64
        assert all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)
        assert frame.iloc[-1].dropna().to_dict() == {
            name: value for name, value in asdict(run.read_summary().last).items() if value is not None
        }

    @pytest.mark.parametrize("value", [0.1 + 0.2, 1e-300, 2.0**70, 0.1, 2 / 3, float("inf")])
    def test_a_loss_in_metrics_csv_keeps_every_digit(self, run, value):
        row = replace(run.read_epochs()[-1], epoch=4, step=4 * 391, train_loss=value)
        run.append_metrics(row)
        assert run.read_epochs()[-1] == row

    @pytest.mark.parametrize("missing", [None, float("nan")])
    def test_a_missing_value_is_an_empty_cell_in_metrics_csv(self, run, missing):
        run.append_metrics(replace(run.read_epochs()[-1], epoch=4, step=4 * 391, val_loss=missing))
        cells = run.metrics_path.read_text().splitlines()[-1].split(",")
        assert cells[METRICS_COLUMNS.index("val_loss")] == ""
        assert run.read_metrics()["val_loss"].isna().all()
        assert run.read_epochs()[-1].val_loss is None

    def test_whole_numbers_in_metrics_csv_are_read_as_integers(self, run):
        first = run.read_epochs()[0]
        assert type(first.step) is type(first.peak_memory_bytes) is int

    def test_the_frame_of_gradient_norms_has_one_row_per_layer_and_epoch(self, run):
        frame = run.read_gradflow()
        assert tuple(frame.columns) == GradflowRow.__struct_fields__
        assert len(frame) == 4 * 8
        assert frame["layer"].iloc[[0, -1]].tolist() == ["conv1", "fc"]
        assert frame["layer_index"].tolist() == list(range(1, 9)) * 4

    @pytest.mark.parametrize("name", ["007", "nan", "NA"])
    def test_a_layer_name_that_looks_like_a_number_is_read_as_text(self, run, name):
        fields = run.read_gradflow().to_dict("records")[-1]
        run.append_gradflow([GradflowRow(**{**fields, "layer": name})])
        assert run.read_gradflow()["layer"].iloc[-1] == name

    def test_predictions_are_read_as_they_were_written(self, run):
        labels, logits = np.array([0, 2, 1]), np.array([[0.5, -1, 3], [1e-30, 2, 0], [7, 8, 9]], np.float32)
        run.write_predictions(Predictions(labels=labels, logits=logits))
        read = run.read_predictions()
        np.testing.assert_array_equal(read.labels, labels)
        np.testing.assert_array_equal(read.logits, logits)
        assert (read.labels.dtype, read.logits.dtype) == (np.int64, np.float32)

    def test_attempts_are_read_in_the_order_in_which_they_began(self, run, attempt):
        assert run.read_attempts() == [attempt(0)]
        run.append_attempt(attempt(391))
        assert run.read_attempts() == [attempt(0), attempt(391)]
        run.attempts_path.unlink()
        assert run.read_attempts() == []

    def test_a_torn_line_in_attempts_jsonl_is_skipped_and_replaced(self, run, attempt):
        whole = run.attempts_path.read_bytes()
        run.attempts_path.write_bytes(whole + whole[:50])
        assert run.read_attempts() == [attempt(0)]
        run.append_attempt(attempt(391))
        assert run.read_attempts() == [attempt(0), attempt(391)]

    def test_a_binary_file_of_a_run_is_replaced_and_leaves_no_temporary_file(self, run):
        run.write_bytes(run.last_weights_path, b"one")
        run.write_bytes(run.last_weights_path, b"two")
        assert run.last_weights_path.read_bytes() == b"two"
        assert os.listdir(run.last_weights_path.parent) == ["last.safetensors"]

    def test_reading_a_run_directory_changes_no_file(self, run):
        before = files_of(run)
        run.status()
        for name in ("record", "summary", "metrics", "gradflow", "predictions", "attempts"):
            getattr(run, f"read_{name}")()
        assert files_of(run) == before


class TestStatus:
    @pytest.mark.parametrize("status", ["complete", "diverged", "incomplete"])
    def test_the_status_of_a_run_follows_from_its_files(self, make_run, tmp_path, status):
        assert make_run(tmp_path / "run", epochs=4, status=status).status() == status

    def test_a_folder_without_run_json_has_the_status_empty(self, tmp_path):
        assert RunDir(tmp_path).status() == "empty"
        assert RunDir(tmp_path / "missing").status() == "empty"
        assert not RunDir(tmp_path).exists()

    def test_a_run_has_the_status_running_while_it_is_locked(self, unfinished):
        for _ in range(2):
            with unfinished.lock():
                assert unfinished.status() == "running"
            assert unfinished.status() == "incomplete"

    def test_a_complete_run_has_the_status_complete_even_while_it_is_locked(self, run):
        with run.lock():
            assert run.status() == "complete"

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("run.json"), None])
    def test_a_run_without_a_regular_lock_file_is_not_running_and_stays_unchanged(self, unfinished, make):
        if make:
            make(unfinished.lock_path)
        before = files_of(unfinished)
        assert unfinished.status() == "incomplete"
        assert files_of(unfinished) == before

    def test_readers_of_the_status_do_not_take_each_other_for_a_training_process(self, unfinished):
        with unfinished.lock():
            pass
        with open(unfinished.lock_path) as other:
            fcntl.flock(other, fcntl.LOCK_SH)  # a reader in the middle of its probe
            assert unfinished.status() == "incomplete"

    def test_the_status_needs_no_write_permission(self, unfinished, monkeypatch):
        with unfinished.lock():
            opened = []
            open_ = os.open
            monkeypatch.setattr(
                os, "open", lambda path, flags, *mode: opened.append(flags) or open_(path, flags, *mode)
            )
            assert unfinished.status() == "running"
        assert {flags & os.O_ACCMODE for flags in opened} == {os.O_RDONLY}


class TestLock:
    def test_a_locked_run_cannot_be_locked_again_and_the_error_names_the_holder(self, unfinished):
        with unfinished.lock(), pytest.raises(UsageError) as caught:
            unfinished.lock()
        said = caught.value.as_options()
        assert said.startswith(f"{unfinished.path} is being trained by another process (pid {os.getpid()}, host ")
        assert said.endswith("); wait for it or choose another --out")

    @pytest.mark.parametrize("note", [None, b"", b"[]", b"\xff", b'{"pid":'])
    def test_the_error_for_a_locked_run_names_no_holder_if_its_note_is_unreadable(self, unfinished, monkeypatch, note):
        def held(lock, *_, **__):
            raise filelock.Timeout(lock.lock_file)

        if note is not None:
            unfinished.holder_path.write_bytes(note)
        monkeypatch.setattr(filelock.FileLock, "acquire", held)
        with pytest.raises(UsageError, match="is being trained by another process; wait"):
            unfinished.lock()

    def test_a_run_can_be_locked_while_another_process_reads_its_status(self, unfinished):
        with open(unfinished.lock_path, "w") as reader:
            fcntl.flock(reader, fcntl.LOCK_SH)
            ending = threading.Timer(0.1, fcntl.flock, (reader, fcntl.LOCK_UN))
            ending.start()
            with unfinished.lock() as lock:
                assert lock.is_locked
            ending.join()

    def test_a_link_in_place_of_the_lock_file_is_not_followed(self, unfinished, tmp_path):
        other = tmp_path / "other"
        other.write_bytes(b"mine")
        unfinished.lock_path.symlink_to(other)
        with pytest.raises(OSError, match="symbolic links"):
            unfinished.lock()
        assert other.read_bytes() == b"mine"

    @pytest.mark.parametrize("write", [
        lambda run: run.append_metrics(run.read_epochs()[-1]),
        lambda run: run.write_bytes(run.checkpoint_path, b"c"),
        lambda run: run.write_bytes(run.last_weights_path, b"w"),
        lambda run: run.restore_tables(None),
        lambda run: run.clear(),
    ])  # fmt: skip
    @pytest.mark.parametrize("lose", [os.unlink, lambda path: path.rename(path.with_name("other")) and path.touch()])
    def test_nothing_is_written_after_the_lock_file_was_removed_or_replaced(self, unfinished, write, lose):
        with unfinished.lock():
            assert unfinished.has_lock()
            lose(unfinished.lock_path)
            assert not unfinished.has_lock()
            before = files_of(unfinished)
            with pytest.raises(ResnetError, match=r"\.lock was removed or replaced"):
                write(unfinished)
        assert files_of(unfinished) == before

    def test_rows_are_not_appended_through_a_link(self, unfinished, tmp_path):
        row, other = unfinished.read_epochs()[-1], tmp_path / "other"
        other.write_bytes(unfinished.metrics_path.read_bytes())
        before = other.read_bytes()
        unfinished.metrics_path.unlink()
        unfinished.metrics_path.symlink_to(other)
        with pytest.raises(OSError, match="not a regular file"):
            unfinished.append_metrics(row)
        assert other.read_bytes() == before

    def test_locking_a_new_run_creates_its_folder(self, tmp_path):
        with RunDir(tmp_path / "a" / "b").lock():
            assert (tmp_path / "a" / "b").is_dir()


class TestRestoringTables:
    def test_restoring_the_tables_of_a_checkpoint_removes_what_was_written_after_it(self, run):
        states, before = run.table_states(), [run.metrics_path.read_bytes(), run.gradflow_path.read_bytes()]
        run.append_metrics(run.read_epochs()[-1])
        run.append_gradflow([])
        run.gradflow_path.write_bytes(before[1] + b"4,1,conv")
        run.restore_tables(states)
        assert [run.metrics_path.read_bytes(), run.gradflow_path.read_bytes()] == before

    def test_restoring_the_tables_of_a_run_without_a_checkpoint_removes_all_rows(self, run):
        run.gradflow_path.unlink()
        run.restore_tables(None)
        assert run.read_metrics().empty
        assert run.read_gradflow().empty

    def test_restoring_does_not_rewrite_tables_that_end_where_the_checkpoint_does(self, run, monkeypatch):
        states = run.table_states()
        monkeypatch.setattr("resnet_cli.rundir.directory.write_atomic", lambda path, _: pytest.fail(str(path)))
        run.restore_tables(states)

    @pytest.mark.parametrize(
        "change", [lambda data: b"", lambda data: data[:-1], lambda data: data.replace(b"\n2,782,", b"\n2,783,")],
        ids=["empty", "cut", "changed step"],
    )  # fmt: skip
    @pytest.mark.parametrize("name", ["metrics_path", "gradflow_path"])
    def test_a_table_that_does_not_begin_as_it_did_at_the_checkpoint_is_refused(self, run, name, change):
        states, path = run.table_states(), getattr(run, name)
        changed = change(path.read_bytes())
        if changed == path.read_bytes():
            pytest.skip("gradflow.csv has no steps")
        path.write_bytes(changed)
        with pytest.raises(RunFileError, match=f"{path} was changed since the checkpoint was saved"):
            run.restore_tables(states)
        assert path.read_bytes() == changed

    def test_a_table_that_is_missing_although_there_is_a_checkpoint_is_refused(self, run):
        states = run.table_states()
        run.metrics_path.unlink()
        with pytest.raises(RunFileError, match=f"{run.metrics_path} is missing"):
            run.restore_tables(states)


class TestBinding:
    @pytest.fixture
    def bound(self, run):
        """The run with the hashes of its files in its summary."""
        run.write_summary(msgspec.structs.replace(run.read_summary(), files=run.hash_results()), "")
        return run

    def test_the_hashes_of_a_result_are_those_of_its_files(self, bound):
        files = bound.read_summary().files
        assert set(files) == {"metrics.csv", "gradflow.csv", "predictions.npz"}
        assert files["metrics.csv"] == hashlib.sha256(bound.metrics_path.read_bytes()).hexdigest()

    @pytest.mark.parametrize("name", ["metrics", "gradflow", "predictions"])
    def test_a_file_of_another_run_is_refused(self, bound, make_run, tmp_path, name):
        other = make_run(tmp_path / "other", arch="plain", depth=8, seed=1, limit_test=40, gradflow=True)
        path = getattr(bound, f"{name}_path")
        read = getattr(bound, f"read_{name}")
        read(summary=bound.read_summary())
        path.write_bytes(getattr(other, f"{name}_path").read_bytes() + b"\n" * (name == "gradflow"))
        with pytest.raises(RunFileError, match=f"{path} is not the file that this run wrote"):
            read(summary=bound.read_summary())


class TestClearing:
    def test_clearing_a_run_removes_the_files_of_the_tool_and_no_others(self, run):
        run.write_bytes(run.last_weights_path, b"w")
        run.write_bytes(run.best_weights_path, b"w")
        run.write_bytes(run.checkpoint_path, b"c")
        run.diverged_path.write_bytes(b"{}")
        theirs = {
            "notes.md": b"mine", "weights/mine.safetensors": b"mine", "checkpoints/epoch-3.bak": b"mine",
            "probes/landscape.csv": b"mine", ".notes.tmp": b"mine", "weights/.swap.tmp": b"mine",
        }  # fmt: skip
        for name, content in theirs.items():
            (run.path / name).parent.mkdir(exist_ok=True)
            (run.path / name).write_bytes(content)
        run.clear()
        assert files_of(run) == theirs
        assert run.status() == "empty"

    def test_clearing_a_run_removes_temporary_files_of_interrupted_writes(self, run, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            patch.setattr(os, "unlink", lambda _: None)
            for path in (run.summary_path, run.last_weights_path, run.checkpoint_path):
                with pytest.raises(KeyboardInterrupt):
                    run.write_bytes(path, b"half")
        assert sum("tmp" in name for name in files_of(run)) == 3
        run.remove_leftovers()
        assert not any("tmp" in name for name in files_of(run))
        assert run.status() == "complete"

    def test_a_half_cleared_run_does_not_look_complete(self, run):
        run.metrics_path.unlink()
        run.metrics_path.mkdir()  # cannot be unlinked: clearing stops there
        with pytest.raises(OSError, match=r"metrics\.csv"):
            run.clear()
        assert run.status() == "incomplete"

    def test_clearing_an_empty_folder_is_not_an_error(self, tmp_path):
        (tmp_path / "notes.md").write_text("mine")
        RunDir(tmp_path).clear()
        assert os.listdir(tmp_path) == ["notes.md"]


def test_the_current_time_is_written_in_utc_to_the_second():
    written = datetime.datetime.fromisoformat(now())
    assert written.utcoffset() == datetime.timedelta(0)
    assert abs((datetime.datetime.now(datetime.UTC) - written).total_seconds()) < 60
    assert len(now()) == len("2026-01-02T03:04:05+00:00")
