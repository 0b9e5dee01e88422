"""Files in probes/ are read only if they are whole, and hostile ones give one-line errors."""

import json
import os

import pytest

from resnet_cli.errors import RunFileError
from resnet_cli.rundir.probe_files import ProbeFiles, ProbeKey, Unit, rows_from_csv, rows_to_csv

ROWS = [{"split": "train", "loss": 0.1, "note": None}, {"split": "test", "loss": float("inf"), "note": "a, b"}]


@pytest.fixture
def files(make_run, tmp_path):
    return ProbeFiles(make_run(tmp_path / "run"), "bn", "last")


def key(**fields):
    values = {
        "probe": "bn", "which": "last", "run_id": "1", "dataset_fingerprint": "2", "source": "weights",
        "source_sha256": None, "images": None, "batch_size": 250, "seed": 0, "settings": {"a": 1, "b": 0.5, "c": "x"},
        "tool_version": "0.1.0",
    }  # fmt: skip
    return ProbeKey(**values | fields)


def write(files, **fields):
    files.write(key(**fields), rows_to_csv(ROWS), device="cpu", seconds=1.5, measured_at="2026-01-02T03:04:05+00:00")


def test_rows_are_read_as_written_with_infinity_text_and_empty_cells():
    frame = rows_from_csv(rows_to_csv(ROWS))
    assert frame["split"].tolist() == ["train", "test"]
    assert frame["loss"].tolist() == [0.1, float("inf")]
    assert frame["note"].isna().tolist() == [True, False]
    assert frame["note"][1] == "a, b"


def test_a_measurement_is_found_by_all_its_parameters(files):
    assert files.find(key()) is None
    write(files)
    assert files.exists()
    assert len(files.find(key())) == 2
    for change in ({"seed": 1}, {"images": 5}, {"settings": {}}, {"source_sha256": "9"}, {"tool_version": "9"}):
        assert files.find(key(**change)) is None, change


def test_units_are_kept_with_values_that_json_does_not_have(files):
    units = [Unit("a", ROWS, 1.0), Unit("b", [{"loss": float("nan")}], 2.0)]
    files.start(key(), units[:1])
    files.append_unit(units[1])
    found = files.read_finished_units(key())
    assert found["a"] == units[0]
    assert str(found["b"]) == str(units[1])
    assert files.read_finished_units(key(seed=1)) == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"probe": 1}\n', b'{"seed": 1e999}\n'],
)
def test_damaged_files_of_unfinished_work_are_ignored(files, content):
    files.start(key(), [])
    (path,) = files.rows_path.parent.iterdir()
    for data in (content, path.read_bytes() + content):
        path.write_bytes(data)
        assert files.read_finished_units(key()) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.rows_path.unlink(), "missing"),
        (lambda files: files.rows_path.write_bytes(b"a,b\n1,2\n"), "SHA-256 is not that in bn-last.json"),
        (lambda files: files.record_path.write_bytes(b"{}"), "cannot be read"),
        (lambda files: files.record_path.write_bytes(b"[" * 100_000), "cannot be read"),
        (lambda files: _edit(files, which="best"), "describes bn of best weights"),
        (lambda files: _edit(files, schema_version=99), "newer"),
        (lambda files: _edit(files, seconds=-1), "cannot be read"),
        (lambda files: _replace_by_pipe(files.rows_path), "not a regular file"),
    ],
)
def test_damaged_or_foreign_files_are_refused_in_one_line(files, change, message):
    write(files)
    change(files)
    with pytest.raises(RunFileError, match=message) as caught:
        files.read_rows()
    assert "\n" not in str(caught.value)
    assert files.find(key()) is None


@pytest.mark.parametrize("rows", [b"", b"\xff\xff", b"a\n1\n1,2\n", b"a\n" * 500_001])
def test_a_csv_file_that_pandas_cannot_read_is_refused_even_if_its_checksum_is_right(files, rows):
    files.write(key(), rows, device=None, seconds=0.0, measured_at="now")
    with pytest.raises(RunFileError, match=r"bn-last\.csv cannot be read"):
        files.read_rows()


def test_writing_removes_unfinished_work_and_leftovers_of_killed_writes(files):
    files.start(key(), [])
    leftover = files.rows_path.parent / ".bn-last.csv.abc.resnet-tmp"
    leftover.write_bytes(b"partial")
    write(files)
    assert sorted(os.listdir(files.rows_path.parent)) == ["bn-last.csv", "bn-last.json"]
    assert json.loads(files.record_path.read_text())["device"] == "cpu"


@pytest.mark.parametrize("name", [".bn-init.csv.abc.resnet-tmp", "..gradflow-last.unfinished.jsonl.abc.resnet-tmp"])
def test_files_that_another_process_is_writing_for_another_probe_are_kept(files, name):
    files.start(key(), [])
    (files.rows_path.parent / name).write_bytes(b"partial")
    write(files)
    assert sorted(os.listdir(files.rows_path.parent)) == sorted([name, "bn-last.csv", "bn-last.json"])


def _edit(files, **fields):
    files.record_path.write_text(json.dumps(json.loads(files.record_path.read_text()) | fields))


def _replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)
