"""Damaged and forged run files: refused in one line that names the file, with bounded memory and nothing executed."""

import io
import json
import random
import zipfile

import msgspec
import numpy as np
import pandas as pd
import pytest

from resnet_cli.errors import RunFileError
from resnet_cli.rundir import METRICS_COLUMNS, SCHEMA_VERSION, Predictions, RunDir, RunRecord, Summary, reading

READERS = {
    "run.json": (RunDir.read_record, RunRecord),
    "summary.json": (RunDir.read_summary, Summary),
    "metrics.csv": (RunDir.read_metrics, pd.DataFrame),
    "gradflow.csv": (RunDir.read_gradflow, pd.DataFrame),
    "predictions.npz": (RunDir.read_predictions, Predictions),
    "attempts.jsonl": (RunDir.read_attempts, list),
}
GOOD_ROW = "1,391,0.1,1.0,50.0,,,,,,1.5,60.0,40.0,1000.0,30.0,3.0,1048576"


def refusal(read):
    """The one line that `read` is refused with."""
    with pytest.raises(RunFileError) as caught:
        read()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def change_json(path, part=None, **fields):
    """Replace fields of a JSON document, or of the object named `part` in it."""
    document = json.loads(path.read_bytes())
    (document if part is None else document[part]).update(fields)
    path.write_bytes(msgspec.json.encode(document))


def mutations(data, count, seed):
    """`count` damaged versions of `data`: truncated, or with changed bytes, a flipped bit, a lost or doubled piece."""
    rng = random.Random(seed)  # noqa: S311 (damage, not a secret)
    for _ in range(count):
        damaged, at = bytearray(data), rng.randrange(len(data))
        kind = rng.choice(["cut", "bytes", "bit", "missing", "doubled"])
        if kind == "cut":
            del damaged[at:]
        elif kind == "bytes":
            for _ in range(rng.choice([1, 2, 8])):
                damaged[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == "bit":
            damaged[at] ^= 1 << rng.randrange(8)
        else:
            end = at + rng.randrange(1, 20)
            damaged[at : end if kind == "missing" else at] = b"" if kind == "missing" else data[at:end]
        yield bytes(damaged)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_run_file_is_refused_in_one_line_or_read_as_its_type(run, name):
    (read, kind), path, refusals = READERS[name], run.path / name, []
    for damaged in mutations(path.read_bytes(), 300, seed=name):
        path.write_bytes(damaged)
        try:
            assert isinstance(read(run), kind)
        except RunFileError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert all(message.startswith(str(path)) and "\n" not in message for message in refusals)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"\x93NUMPY"], ids=["empty", "no UTF-8", "list", "npy"])
def test_a_run_file_with_other_content_is_refused_with_its_path(run, name, content):
    (run.path / name).write_bytes(content + b"\n")
    assert str(run.path / name) in refusal(lambda: READERS[name][0](run))


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_place_of_a_run_file_is_refused_with_its_path(run, name):
    (run.path / name).unlink()
    (run.path / name).mkdir()
    assert str(run.path) in refusal(lambda: READERS[name][0](run))


@pytest.mark.parametrize("name", ["summary.json", "metrics.csv", "gradflow.csv", "predictions.npz"])
def test_the_error_for_a_missing_run_file_names_it(run, name):
    (run.path / name).unlink()
    assert refusal(lambda: READERS[name][0](run)) == f"{run.path / name} is missing"


def test_a_folder_without_run_json_and_a_missing_folder_give_different_errors(tmp_path):
    assert refusal(RunDir(tmp_path).read_record) == f"{tmp_path} is not a run directory: it has no run.json"
    missing = tmp_path / "missing"
    assert refusal(RunDir(missing).read_record) == f"{missing} does not exist"


class TestJson:
    @pytest.mark.parametrize("name", ["run.json", "summary.json"])
    def test_a_newer_schema_version_is_refused_with_the_advice_to_upgrade(self, run, name):
        change_json(run.path / name, schema_version=SCHEMA_VERSION + 1, new_field=1)
        assert refusal(lambda: READERS[name][0](run)) == (
            f"{run.path / name} has schema version 2, newer than 1; upgrade this tool"
        )

    @pytest.mark.parametrize("version", [0, -1, "1", True, None], ids=repr)
    def test_an_unknown_schema_version_is_refused(self, run, version):
        change_json(run.summary_path, schema_version=version)
        assert refusal(run.read_summary).startswith(f"{run.summary_path} has the unknown schema version ")

    def test_unknown_fields_of_run_json_are_ignored(self, run):
        record = run.read_record()
        change_json(run.record_path, added_by_a_colleague="x")
        assert run.read_record() == record

    def test_the_error_for_an_invalid_configuration_in_run_json_names_its_field(self, run):
        change_json(run.record_path, "config", depth=55)
        assert "depth 55 is not 6n+2" in refusal(run.read_record)

    @pytest.mark.parametrize(
        ("part", "fields", "message"),
        [
            ("model", {"depth": 20}, "contradicts"), ("model", {"num_classes": 3}, "contradicts"),
            ("dataset", {"name": "cifar100"}, "contradicts"), ("model", {"parameters": 2**60}, "$.model.parameters"),
            ("dataset", {"num_test": 0}, "$.dataset.num_test"), ("dataset", {"std": [1.0] * 4}, "$.dataset.std"),
            ("dataset", {"display_name": "x" * 301}, "$.dataset.display_name"),
            ("dataset", {"classes": []}, "$.dataset.classes"),
            ("dataset", {"classes": ["c"] * 10_001}, "$.dataset.classes"), ("environment", {"torch": "x" * 301}, ""),
            ("config", {"recipe": "x" * 301}, "more than 300 characters"),
            ("config", {"milestones": list(range(1, 1002))}, "milestones has more than 1000 values"),
            ("config", {"milestones": [2**60]}, "one above"),
        ],
        ids=lambda value: str(value)[:40],
    )  # fmt: skip
    def test_a_run_json_that_contradicts_itself_or_exceeds_its_bounds_is_refused(self, run, part, fields, message):
        change_json(run.record_path, part, **fields)
        refused = refusal(run.read_record)
        assert refused.startswith(f"{run.record_path} cannot be read: ")
        assert message in refused

    @pytest.mark.parametrize(
        ("row", "fields"),
        [
            ("last", {"test_error_pct": 101}), ("best", {"test_accuracy_pct": -1}), ("last", {"epoch": 1.5}),
            ("last", {"train_loss": -1}), ("best", {"peak_memory_bytes": -1}), ("last", {"lr": None}),
            ("last", {"lr": -1}),
        ],
        ids=str,
    )  # fmt: skip
    def test_the_error_for_a_measure_out_of_range_in_summary_json_names_its_field(self, run, row, fields):
        change_json(run.summary_path, row, **fields)
        (name,) = fields
        assert f"$.{row}.{name}" in refusal(run.read_summary)

    def test_deeply_nested_json_is_refused(self, run):
        run.record_path.write_bytes(b'{"a":' * 100_000)
        assert str(run.record_path) in refusal(run.read_record)


class TestTables:
    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            ("epoch", "", "Expected `int`, got `null` - at `$.epoch`"),
            *(("epoch", value, "at `$.epoch`") for value in ("inf", "1e300", "1.5", "-1", "0x1")),
            ("train_loss", "-inf", "Expected `float` >= 0.0 - at `$.train_loss`"),
            ("train_loss", "1e300", "the loss 1e+300 is larger than any mean of float32 numbers"),
            ("test_error_pct", "inf", "at `$.test_error_pct`"),
            ("test_error_pct", "101", "Expected `float` <= 100.0 - at `$.test_error_pct`"),
            ("lr", "", "at `$.lr`"),
            ("lr", "fast", "at `$.lr`"),
            ("lr", '"0.1', "at `$.lr`"),
            ("lr", "1" * 5_000_000, "at `$.lr`"),
            ("lr", "0.1,0.1", "has 18 values instead of 17"),
        ],
        ids=lambda text: text[:30],
    )
    def test_the_error_for_an_invalid_cell_names_its_line_and_column(self, run, column, value, message):
        cells = GOOD_ROW.split(",")
        cells[METRICS_COLUMNS.index(column)] = value
        run.metrics_path.write_text(f"{','.join(METRICS_COLUMNS)}\n{GOOD_ROW}\n{','.join(cells)}\n")
        refused = refusal(run.read_metrics)
        assert refused.startswith(f"{run.metrics_path}: line 3 ")
        assert message in refused

    def test_the_error_for_a_metrics_csv_with_other_columns_lists_the_expected_ones(self, run):
        run.metrics_path.write_text("epoch,loss\n1,0.5\n")
        assert "does not have the columns epoch, step, lr" in refusal(run.read_metrics)

    @pytest.mark.parametrize("content", [b"\n" * 2**22, b"\r" * 2**22 + b"\n"], ids=["\\n", "\\r"])
    def test_millions_of_lines_are_refused_before_they_are_split(self, run, content):
        run.metrics_path.write_bytes(content)
        assert refusal(run.read_metrics) == f"{run.metrics_path} has more than 500000 lines"

    def test_the_torn_line_of_a_crashed_run_is_not_an_epoch(self, run):
        whole = run.metrics_path.read_bytes()
        run.metrics_path.write_bytes(whole[: whole.rindex(b",3.0,")])
        assert run.read_metrics()["epoch"].tolist() == [1, 2]

    def test_a_metrics_csv_with_epochs_or_steps_out_of_order_is_refused(self, run):
        header, *rows = run.metrics_path.read_bytes().splitlines(keepends=True)
        number, _, rest = rows[2].split(b",", 2)
        fewer_steps = b",".join([number, b"1", rest])
        for wrong in (rows[::-1], [*rows[:2], rows[1]], [*rows[:2], fewer_steps]):
            run.metrics_path.write_bytes(header + b"".join(wrong))
            assert "does not have one row per epoch, in order" in refusal(run.read_metrics)

    def test_a_metrics_csv_that_ends_before_the_last_epoch_of_the_run_is_refused(self, run):
        *kept, _ = run.metrics_path.read_bytes().splitlines(keepends=True)
        run.metrics_path.write_bytes(b"".join(kept))
        assert "does not end with epoch 3" in refusal(lambda: run.read_metrics(run.read_summary()))

    def test_gradient_norms_without_or_with_a_repeated_layer_or_after_the_last_epoch_are_refused(self, run):
        rows = run.gradflow_path.read_bytes().splitlines(keepends=True)
        run.gradflow_path.write_bytes(b"".join(rows[:-1]))
        assert "does not have each of the 8 layers once in epoch 3" in refusal(lambda: run.read_gradflow(8))
        run.gradflow_path.write_bytes(b"".join([*rows[:-1], rows[-1].replace(b"3,8,", b"3,9,")]))
        assert "does not have each of the 8 layers once in epoch 3" in refusal(lambda: run.read_gradflow(8))
        run.gradflow_path.write_bytes(b"".join([*rows, rows[-1]]))
        assert "does not have each of the 8 layers once in epoch 3" in refusal(lambda: run.read_gradflow(8))
        run.gradflow_path.write_bytes(b"".join([*rows, *(b"4" + row[1:] for row in rows[-8:])]))
        assert "has rows of epoch 4" in refusal(lambda: run.read_gradflow(8, run.read_summary()))


def npz(compression=zipfile.ZIP_STORED, **members):
    """A zip of raw members, as `np.savez` lays them out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class TestPredictions:
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
    def test_arrays_that_are_not_predictions_are_refused(self, run, arrays):
        np.savez(run.predictions_path, **arrays)
        assert refusal(run.read_predictions) == (
            f"{run.predictions_path} does not contain test labels (N,) and finite logits (N, classes)"
        )

    def test_predictions_for_another_number_of_classes_are_refused(self, run):
        assert "has outputs for 10 classes, but the run has 7" in refusal(lambda: run.read_predictions(7))

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
    def test_a_predictions_file_without_both_arrays_is_refused(self, run, content):
        run.predictions_path.write_bytes(content)
        assert str(run.predictions_path) in refusal(run.read_predictions)

    def test_members_of_almost_the_same_name_are_not_unpacked(self, run):
        before = run.read_predictions()
        with zipfile.ZipFile(run.predictions_path, "a") as archive:
            archive.writestr("labels", npy(np.zeros(7, int)))  # np.load would return this one
        assert run.read_predictions().labels.tolist() == before.labels.tolist()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compression": zipfile.ZIP_LZMA}, "its compression method is not supported"),
            ({f"member{i}": b"" for i in range(64)}, "contains more than the arrays labels and logits"),
        ],
        ids=["LZMA", "66 members"],
    )
    def test_predictions_in_an_archive_that_numpy_does_not_write_are_refused(self, run, options, message):
        arrays = {"labels": npy(np.zeros(3, int)), "logits": npy(np.zeros((3, 10)))}
        run.predictions_path.write_bytes(npz(**arrays, **options))
        assert message in refusal(run.read_predictions)

    def test_predictions_that_unpack_to_more_than_the_limit_are_refused(self, run, monkeypatch):
        run.predictions_path.write_bytes(
            npz(zipfile.ZIP_DEFLATED, labels=npy(np.zeros(9000, int)), logits=npy(np.zeros((9000, 10))))
        )
        monkeypatch.setattr(reading, "_MAX_ARRAY_BYTES", 2**19)
        assert "it unpacks to more than 0 MiB" in refusal(run.read_predictions)

    def test_pickled_objects_in_predictions_are_refused_and_not_executed(self, run, tmp_path):
        class Payload:
            def __reduce__(self):
                return (open, (str(tmp_path / "executed"), "w"))

        np.savez(run.predictions_path, labels=np.array([Payload()]), logits=np.zeros((1, 2)))
        assert "allow_pickle=False" in refusal(run.read_predictions)
        assert not (tmp_path / "executed").exists()


def test_the_last_epoch_is_read_without_checking_the_others(run):
    lines = run.metrics_path.read_text().splitlines(keepends=True)
    last = run.read_epochs()[-1]
    run.metrics_path.write_text("".join([lines[0], "nonsense\n", *lines[1:], lines[-1][:20]]))
    assert run.read_last_epoch() == last  # and a partial last line is ignored
    run.metrics_path.write_text(lines[0])
    assert run.read_last_epoch() is None
    run.metrics_path.write_text(lines[0] + "nonsense\n")
    assert "line 2 has 1 values" in refusal(run.read_last_epoch)
