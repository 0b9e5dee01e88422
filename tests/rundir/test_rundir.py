"""The run directory: what is written is read back, and whatever lies there is read as such or refused in one line."""

import datetime
import io
import json
import os
import random
import subprocess
import sys
import threading
import zipfile

import filelock
import msgspec
import numpy as np
import pandas as pd
import pytest

from resnet_cli.errors import InputError, RunFileError, RunLockedError
from resnet_cli.rundir import (
    GRADFLOW_COLUMNS,
    METRICS_COLUMNS,
    SCHEMA_VERSION,
    Attempt,
    Decision,
    Predictions,
    RunDir,
    RunRecord,
    Summary,
    find_runs,
    now,
)

READERS = {
    "run.json": RunDir.read_record,
    "summary.json": RunDir.read_summary,
    "metrics.csv": RunDir.read_metrics,
    "gradflow.csv": RunDir.read_gradflow,
    "predictions.npz": RunDir.read_predictions,
    "attempts.jsonl": RunDir.read_attempts,
}
KINDS = {
    "run.json": RunRecord, "summary.json": Summary, "metrics.csv": pd.DataFrame, "gradflow.csv": pd.DataFrame,
    "predictions.npz": Predictions, "attempts.jsonl": list,
}  # fmt: skip


@pytest.fixture
def run(make_run, tmp_path):
    """A complete run of three epochs in one attempt, with gradient norms, on few test images."""
    run = make_run(tmp_path / "run", arch="plain", depth=8, limit_test=40, gradflow=True)
    run.append_attempt(attempt(0))
    return run


@pytest.fixture
def unfinished(make_run, tmp_path):
    """A run of which two of four epochs are done."""
    return make_run(tmp_path / "unfinished", arch="plain", depth=8, epochs=4, status="incomplete", gradflow=True)


@pytest.fixture
def holder():
    """Start a process that holds the lock of a run directory until it is killed; returns the process."""
    code = (
        "import sys\n"
        "from resnet_cli.rundir import RunDir\n"
        "lock = RunDir(sys.argv[1]).lock()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    started = []

    def hold(run):
        process = subprocess.Popen(
            [sys.executable, "-c", code, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def files_of(run):
    """Every file with its content, except the lock."""
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path != run.lock_path
    }


def attempt(step):
    return Attempt(
        started_at="2026-01-02T03:04:05+00:00", argv=("resnet", "train"), tool_version="0.1.0", step=step,
        environment={"torch": "2.10.0", "git_dirty": None}, decisions={"device": Decision("cpu", "no GPU")},
    )  # fmt: skip


def change_json(path, **fields):
    path.write_bytes(msgspec.json.encode({**json.loads(path.read_bytes()), **fields}))


def refusal(read):
    """The message that `read` is refused with: one line."""
    with pytest.raises(RunFileError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestRoundTrip:
    def test_the_record_is_read_as_it_was_written(self, run, tmp_path):
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

    def test_a_new_directory_has_its_folders_and_csv_files_without_rows(self, unfinished, tmp_path):
        new = RunDir(tmp_path / "new")
        new.create(unfinished.read_record())
        assert new.read_metrics().empty
        assert new.read_gradflow().empty
        assert new.last_weights_path.parent.is_dir()
        assert new.checkpoint_path.parent.is_dir()

    def test_the_summary_is_read_as_it_was_written(self, run):
        summary = run.read_summary()
        run.write_summary(summary, "# page\n")
        assert run.read_summary() == summary
        assert run.readme_path.read_text() == "# page\n"
        assert summary.last["epoch"] == 3
        assert summary.last == {
            name: json.loads(run.summary_path.read_bytes())["last"][name] for name in METRICS_COLUMNS
        }

    def test_the_summary_is_written_after_everything_else(self, run, monkeypatch):
        names = []
        monkeypatch.setattr("resnet_cli.rundir.write_atomic", lambda path, _: names.append(path.name))
        run.write_summary(run.read_summary(), "# page\n")
        assert names == ["README.md", "summary.json"]

    def test_a_divergence_is_read_as_it_was_written(self, make_run, tmp_path):
        diverged = make_run(tmp_path / "diverged", epochs=4, status="diverged")
        divergence = diverged.read_divergence()
        assert (divergence.epoch, divergence.step, divergence.lr) == (3, 2 * 391 + 1, 0.1)
        diverged.write_divergence(divergence)
        assert diverged.read_divergence() == divergence

    def test_metrics_are_one_numeric_row_an_epoch(self, run):
        frame = run.read_metrics()
        assert tuple(frame.columns) == METRICS_COLUMNS
        assert frame["epoch"].tolist() == [1, 2, 3]
        assert frame["epoch"].dtype == frame["step"].dtype == np.int64
        assert all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)
        last = run.read_summary().last
        assert {name: None if pd.isna(value) else value for name, value in frame.iloc[-1].items()} == last

    @pytest.mark.parametrize("value", [0.1 + 0.2, 1e-300, 123456789012345.0, float("inf"), float("-inf")])
    def test_numbers_keep_every_digit(self, run, value):
        run.append_metrics(dict.fromkeys(METRICS_COLUMNS, None) | {"epoch": 4, "step": 9, "train_loss": value})
        assert run.read_metrics()["train_loss"].iloc[-1] == value

    @pytest.mark.parametrize("missing", [None, float("nan")])
    def test_what_was_not_measured_is_an_empty_cell(self, run, missing):
        run.append_metrics(dict.fromkeys(METRICS_COLUMNS, missing) | {"epoch": 4, "step": 9})
        assert run.metrics_path.read_text().splitlines()[-1] == "4,9" + "," * (len(METRICS_COLUMNS) - 2)
        assert run.read_metrics().iloc[-1].isna().sum() == len(METRICS_COLUMNS) - 2

    def test_gradient_norms_are_one_row_a_layer_and_epoch(self, run):
        frame = run.read_gradflow()
        assert tuple(frame.columns) == GRADFLOW_COLUMNS
        assert len(frame) == 4 * 8
        assert frame["layer"].iloc[[0, -1]].tolist() == ["conv1", "fc"]
        assert frame["layer_index"].tolist() == list(range(8)) * 4

    def test_a_layer_called_nan_is_a_name(self, run):
        row = dict.fromkeys(GRADFLOW_COLUMNS, 1) | {"layer": "007"}
        run.append_gradflow([row])
        assert run.read_gradflow()["layer"].iloc[-1] == "007"

    def test_predictions_are_read_as_they_were_written(self, run):
        labels, logits = np.array([0, 2, 1]), np.array([[0.5, -1, 3], [1e-30, 2, 0], [7, 8, 9]], np.float32)
        run.write_predictions(Predictions(labels=labels, logits=logits))
        read = run.read_predictions()
        np.testing.assert_array_equal(read.labels, labels)
        np.testing.assert_array_equal(read.logits, logits)
        assert (read.labels.dtype, read.logits.dtype) == (np.int64, np.float32)

    def test_sittings_are_read_in_the_order_in_which_they_began(self, run):
        assert run.read_attempts() == [attempt(0)]
        run.append_attempt(attempt(391))
        assert run.read_attempts() == [attempt(0), attempt(391)]

    def test_a_run_of_an_earlier_version_has_no_sittings(self, run):
        run.attempts_path.unlink()
        assert run.read_attempts() == []

    def test_the_torn_line_of_a_sitting_that_crashed_is_left_out(self, run):
        whole = run.attempts_path.read_bytes()
        run.attempts_path.write_bytes(whole + whole[:50])
        assert run.read_attempts() == [attempt(0)]

    def test_binary_files_are_replaced_whole(self, run):
        run.write_bytes(run.last_weights_path, b"one")
        run.write_bytes(run.last_weights_path, b"two")
        assert run.last_weights_path.read_bytes() == b"two"
        assert os.listdir(run.last_weights_path.parent) == ["last.safetensors"]

    def test_reading_changes_no_file(self, run):
        before = files_of(run)
        run.status()
        for read in READERS.values():
            read(run)
        assert files_of(run) == before


class TestStatus:
    @pytest.mark.parametrize("status", ["complete", "diverged", "incomplete"])
    def test_it_follows_from_the_files(self, make_run, tmp_path, status):
        assert make_run(tmp_path / "run", epochs=4, status=status).status() == status

    def test_a_folder_without_a_record_is_empty(self, tmp_path):
        assert RunDir(tmp_path).status() == "empty"
        assert RunDir(tmp_path / "missing").status() == "empty"
        assert not RunDir(tmp_path).exists()

    def test_a_run_is_running_while_another_process_holds_it_and_incomplete_after(self, unfinished, holder):
        process = holder(unfinished)
        assert unfinished.status() == "running"
        process.kill()
        process.wait()
        assert unfinished.status() == "incomplete"

    def test_asking_for_it_does_not_take_the_lock(self, unfinished, holder):
        with unfinished.lock():
            pass
        assert unfinished.status() == "incomplete"
        holder(unfinished)

    def test_a_complete_run_is_complete_also_while_it_is_held(self, run):
        with run.lock():
            assert run.status() == "complete"

    def test_where_nobody_can_take_the_lock_nobody_is_running(self, unfinished, monkeypatch):
        def denied(*_, **__):
            raise PermissionError(13, "Permission denied")

        unfinished.lock_path.touch()
        monkeypatch.setattr(filelock.FileLock, "acquire", denied)
        assert unfinished.status() == "incomplete"


class TestLock:
    def test_it_excludes_another_process_and_says_who_holds_it(self, unfinished, holder):
        process = holder(unfinished)
        with pytest.raises(RunLockedError) as caught:
            unfinished.lock()
        said = str(caught.value)
        assert said.startswith(f"{unfinished.path} is being trained by another process (pid {process.pid}, host ")
        assert said.endswith("); wait for it or choose another --out")

    def test_it_excludes_a_second_training_in_this_process(self, unfinished):
        with unfinished.lock(), pytest.raises(RunLockedError, match=f"pid {os.getpid()}"):
            unfinished.lock()

    @pytest.mark.parametrize("note", [None, b"", b"[]", b"\xff", b'{"pid":'])
    def test_a_holder_that_left_no_readable_note_is_another_process(self, unfinished, monkeypatch, note):
        def held(lock, *_, **__):
            raise filelock.Timeout(lock.lock_file)

        if note is not None:
            unfinished.holder_path.write_bytes(note)
        monkeypatch.setattr(filelock.FileLock, "acquire", held)
        with pytest.raises(RunLockedError, match="is being trained by another process; wait"):
            unfinished.lock()

    def test_a_look_at_the_status_does_not_keep_a_training_out(self, unfinished):
        look = filelock.FileLock(unfinished.lock_path, thread_local=False)
        look.acquire()
        ending = threading.Timer(0.1, look.release)
        ending.start()
        with unfinished.lock() as lock:
            assert lock.is_locked
        ending.join()

    def test_it_is_free_once_its_holder_was_killed(self, unfinished, holder):
        process = holder(unfinished)
        process.kill()
        process.wait()
        with unfinished.lock() as lock:
            assert lock.is_locked

    def test_it_makes_the_folder(self, tmp_path):
        with RunDir(tmp_path / "a" / "b").lock():
            assert (tmp_path / "a" / "b").is_dir()


class TestTruncation:
    def test_later_epochs_are_dropped_from_both_files(self, run):
        run.truncate_to_epoch(1)
        assert run.read_metrics()["epoch"].tolist() == [1]
        assert sorted(set(run.read_gradflow()["epoch"])) == [0, 1]

    def test_what_an_interrupted_epoch_left_is_recorded_once_when_it_is_done_again(self, run):
        before = run.read_metrics()
        epoch_3 = before.to_dict("records")[-1]
        run.append_metrics(epoch_3)
        run.truncate_to_epoch(2)
        run.append_metrics(epoch_3)
        pd.testing.assert_frame_equal(run.read_metrics(), before, check_exact=True)

    @pytest.mark.parametrize("torn", [b"3", b"3,", b"3,1173,0.1,0.2", b"\xff\xfe", b"4,1564,0.1\r"])
    def test_a_torn_last_line_is_dropped(self, run, torn):
        run.truncate_to_epoch(2)
        before = run.metrics_path.read_bytes()
        run.metrics_path.write_bytes(before + torn)
        run.truncate_to_epoch(3)
        assert run.metrics_path.read_bytes() == before

    def test_files_that_hold_nothing_else_are_not_rewritten(self, run, monkeypatch):
        written = []
        monkeypatch.setattr("resnet_cli.rundir.write_atomic", lambda path, _: written.append(path))
        run.truncate_to_epoch(3)
        assert written == []

    @pytest.mark.parametrize("content", [None, b"", b"epoch,st"])
    def test_a_file_that_lost_its_header_gets_it_back(self, run, content):
        run.metrics_path.unlink()
        if content is not None:
            run.metrics_path.write_bytes(content)
        run.truncate_to_epoch(3)
        assert run.read_metrics().empty

    def test_before_the_first_epoch_nothing_is_left(self, unfinished):
        unfinished.truncate_to_epoch(-1)
        assert unfinished.read_metrics().empty
        assert unfinished.read_gradflow().empty


class TestClearing:
    def test_everything_of_ours_goes_and_nothing_else(self, run):
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

    def test_what_interrupted_writes_left_goes_too(self, run, monkeypatch):
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

    def test_an_empty_folder_may_be_cleared(self, tmp_path):
        (tmp_path / "notes.md").write_text("mine")
        RunDir(tmp_path).clear()
        assert os.listdir(tmp_path) == ["notes.md"]


def mutations(data, count, seed):
    """`count` damaged versions of `data`: cut off, with bytes changed, bits flipped, or a piece gone or twice."""
    rng = random.Random(seed)  # noqa: S311 (damage, not a secret)
    for _ in range(count):
        damaged, at = bytearray(data), rng.randrange(len(data))
        kind = rng.choice(["cut", "bytes", "bit", "gone", "twice"])
        if kind == "cut":
            del damaged[at:]
        elif kind == "bytes":
            for _ in range(rng.choice([1, 2, 8])):
                damaged[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == "bit":
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == "gone":
            del damaged[at : at + rng.randrange(1, 20)]
        else:
            damaged[at:at] = data[at : at + rng.randrange(1, 20)]
        yield bytes(damaged)


class TestDamage:
    @pytest.mark.parametrize("name", READERS)
    def test_a_damaged_file_is_refused_in_one_line_or_read_as_what_it_should_be(self, run, name):
        path, refusals = run.path / name, []
        for damaged in mutations(path.read_bytes(), 300, seed=name):
            path.write_bytes(damaged)
            try:
                value = READERS[name](run)
            except RunFileError as error:
                refusals.append(str(error))
            else:
                assert isinstance(value, KINDS[name])
        assert len(refusals) > 30
        assert all(said.startswith(str(path)) and "\n" not in said for said in refusals)

    @pytest.mark.parametrize("name", READERS)
    @pytest.mark.parametrize(
        "content",
        [b"", b"\x00" * 100, b"\xff\xfe", b"[]", b"null", b"PK\x03\x04", b"\x93NUMPY"],
        ids=["empty", "zeros", "no UTF-8", "list", "null", "zip", "npy"],
    )
    def test_another_content_is_refused_with_the_path(self, run, name, content):
        (run.path / name).write_bytes(content + b"\n")
        assert str(run.path / name) in refusal(lambda: READERS[name](run))

    @pytest.mark.parametrize("name", READERS)
    def test_a_folder_in_place_of_a_file_is_refused_with_the_path(self, run, name):
        (run.path / name).unlink()
        (run.path / name).mkdir()
        assert str(run.path) in refusal(lambda: READERS[name](run))

    @pytest.mark.parametrize("name", ["summary.json", "metrics.csv", "gradflow.csv", "predictions.npz"])
    def test_a_missing_file_is_named(self, run, name):
        (run.path / name).unlink()
        assert str(run.path / name) in refusal(lambda: READERS[name](run))

    def test_a_missing_record_tells_a_folder_from_no_folder(self, tmp_path):
        assert refusal(RunDir(tmp_path).read_record) == f"{tmp_path} is not a run directory: it has no run.json"
        missing = tmp_path / "missing"
        assert refusal(RunDir(missing).read_record) == f"{missing} does not exist"

    @pytest.mark.parametrize("name", ["run.json", "summary.json"])
    def test_a_newer_schema_is_refused_with_what_to_do(self, run, name):
        change_json(run.path / name, schema_version=SCHEMA_VERSION + 1, new_field=1)
        assert refusal(lambda: READERS[name](run)) == (
            f"{run.path / name} has schema version 2, newer than 1; upgrade this tool"
        )

    def test_the_time_is_written_to_the_second_in_utc(self):
        written = datetime.datetime.fromisoformat(now())
        assert written.utcoffset() == datetime.timedelta(0)
        assert abs((datetime.datetime.now(datetime.UTC) - written).total_seconds()) < 60
        assert len(now()) == len("2026-01-02T03:04:05+00:00")

    def test_fields_of_this_schema_that_are_not_known_are_ignored(self, run):
        record = run.read_record()
        change_json(run.record_path, added_by_a_colleague="x")
        assert run.read_record() == record

    def test_a_configuration_that_cannot_be_run_is_refused_by_its_field(self, run):
        config = {**json.loads(run.record_path.read_bytes())["config"], "depth": 55}
        change_json(run.record_path, config=config)
        assert "depth 55 is not 6n+2" in refusal(run.read_record)

    def test_deeply_nested_json_is_refused(self, run):
        run.record_path.write_bytes(b'{"a":' * 100_000)
        assert str(run.record_path) in refusal(run.read_record)


class TestDamagedTables:
    @pytest.mark.parametrize("row", [",391,0.1", "1,,0.1"])
    def test_a_row_without_epoch_or_step_is_refused(self, run, row):
        run.metrics_path.write_text(",".join(METRICS_COLUMNS) + f"\n{row}\n")
        assert "has a row without epoch or step" in refusal(run.read_metrics)

    @pytest.mark.parametrize("epoch", ["inf", "-inf", "1e300", "1.5"])
    def test_an_epoch_that_is_no_whole_number_is_refused(self, run, epoch):
        run.metrics_path.write_text(",".join(METRICS_COLUMNS) + f"\n{epoch},391" + "," * 14 + "\n")
        assert str(run.metrics_path) in refusal(run.read_metrics)

    def test_a_word_among_the_numbers_is_refused(self, run):
        run.metrics_path.write_text(",".join(METRICS_COLUMNS) + "\n1,391,fast" + "," * 13 + "\n")
        assert "fast" in refusal(run.read_metrics)

    def test_other_columns_are_refused_with_the_right_ones(self, run):
        run.metrics_path.write_text("epoch,loss\n1,0.5\n")
        assert "does not have the columns epoch, step, lr" in refusal(run.read_metrics)

    def test_a_row_with_a_cell_too_many_does_not_shift_the_others(self, run):
        cells = ",".join(map(str, range(1, len(METRICS_COLUMNS) + 2)))
        run.metrics_path.write_text(",".join(METRICS_COLUMNS) + f"\n{cells}\n")
        assert str(run.metrics_path) in refusal(run.read_metrics)

    def test_the_torn_line_of_a_crashed_run_is_no_epoch(self, run):
        whole = run.metrics_path.read_bytes()
        run.metrics_path.write_bytes(whole[: whole.rindex(b",3.0,")])
        assert run.read_metrics()["epoch"].tolist() == [1, 2]


def npz(**members):
    """A zip of raw members, as `np.savez` lays them out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class TestDamagedPredictions:
    @pytest.mark.parametrize(
        "arrays",
        [
            {"labels": np.zeros(3, int), "logits": np.zeros((2, 4), np.float32)},
            {"labels": np.zeros((3, 1), int), "logits": np.zeros((3, 4), np.float32)},
            {"labels": np.zeros(3, int), "logits": np.zeros(3, np.float32)},
            {"labels": np.zeros(0, int), "logits": np.zeros((0, 4), np.float32)},
            {"labels": np.zeros(3), "logits": np.zeros((3, 4), np.float32)},
            {"labels": np.zeros(3, int), "logits": np.zeros((3, 4), int)},
            {"labels": np.array([0, 1, 4]), "logits": np.zeros((3, 4), np.float32)},
            {"labels": np.array([0, 1, -1]), "logits": np.zeros((3, 4), np.float32)},
            {"labels": np.zeros(3, int), "logits": np.full((3, 4), np.nan, np.float32)},
            {"labels": np.zeros(3, int), "logits": np.full((3, 4), np.inf, np.float32)},
        ],
        ids=[
            "lengths differ", "labels 2-D", "logits 1-D", "empty", "labels float", "logits int", "label too large",
            "label negative", "NaN", "infinite",
        ],
    )  # fmt: skip
    def test_arrays_that_are_no_predictions_are_refused(self, run, arrays):
        np.savez(run.predictions_path, **arrays)
        assert refusal(run.read_predictions) == (
            f"{run.predictions_path} does not hold test labels (N,) and finite logits (N, classes)"
        )

    @pytest.mark.parametrize(
        "content",
        [
            npz(labels=npy(np.zeros(3, int))),
            npz(labels=b"no array", logits=b"no array"),
            npz(labels=npy(np.zeros(3, int))[:40], logits=npy(np.zeros((3, 4)))),
            npy(np.zeros(3)),
        ],
        ids=["no logits", "not arrays", "cut off", "one bare array"],
    )
    def test_a_file_that_holds_no_two_arrays_is_refused(self, run, content):
        run.predictions_path.write_bytes(content)
        assert str(run.predictions_path) in refusal(run.read_predictions)

    def test_pickled_objects_are_refused_and_not_run(self, run, tmp_path):
        class Payload:
            def __reduce__(self):
                return (open, (str(tmp_path / "run by the pickle"), "w"))

        np.savez(run.predictions_path, labels=np.array([Payload()]), logits=np.zeros((1, 2)))
        assert "allow_pickle=False" in refusal(run.read_predictions)
        assert not (tmp_path / "run by the pickle").exists()


class TestFinding:
    @pytest.fixture
    def study(self, make_run, tmp_path):
        """A folder with two runs, one of them deeper, among other things."""
        study = tmp_path / "study"
        for name in ("b", "deep/er/a"):
            make_run(study / name, depth=8, predictions=False)
        (study / "figures").mkdir()
        (study / "table1.md").write_text("")
        return study

    def names(self, study, *paths):
        return [str(run.path.relative_to(study)) for run in find_runs(paths)]

    def test_folders_are_searched_in_order(self, study):
        assert self.names(study, study) == ["b", "deep/er/a"]

    def test_a_run_is_taken_as_it_is(self, study):
        assert self.names(study, study / "deep/er/a", str(study / "b")) == ["deep/er/a", "b"]

    def test_a_run_inside_a_run_is_not_another_one(self, study, make_run):
        make_run(study / "b" / "copy", depth=8, predictions=False)
        assert self.names(study, study) == self.names(study, study / "b", study / "deep") == ["b", "deep/er/a"]

    def test_a_run_that_is_given_twice_is_found_once(self, study, tmp_path):
        (tmp_path / "link").symlink_to(study / "b")
        assert self.names(study, study, study / "b", study / "deep" / ".." / "b") == ["b", "deep/er/a"]
        assert len(find_runs([study, tmp_path / "link"])) == 2

    def test_a_loop_of_links_ends(self, study):
        (study / "deep" / "loop").symlink_to(study)
        assert self.names(study, study) == ["b", "deep/er/a"]

    def test_files_beside_runs_are_passed_over(self, study):
        assert self.names(study, study / "table1.md", study / "b") == ["b"]

    def test_a_folder_without_runs_beside_others_is_refused(self, study):
        with pytest.raises(InputError, match="figures is not a run directory and holds none"):
            find_runs([study / "b", study / "figures"])

    def test_no_paths_give_no_runs(self):
        assert find_runs([]) == []

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("missing", "does not exist"),
            ("table1.md", "is a file, not a run directory or a folder of them"),
            ("figures", "is not a run directory and holds none: no run.json in it"),
        ],
    )
    def test_a_path_without_runs_is_refused_with_the_reason(self, study, path, reason):
        with pytest.raises(InputError) as caught:
            find_runs([study / path])
        assert str(caught.value) == f"{study / path} {reason}"
