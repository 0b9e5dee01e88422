"""A copy of a run directory elsewhere is complete, current and resumable at any moment."""

import pytest

from resnet_cli.errors import ResnetError
from resnet_cli.rundir import RunDir
from resnet_cli.rundir.transfer import ChangedFiles, write_files


@pytest.fixture
def run(make_run, tmp_path):
    """A complete run with a checkpoint and weights."""
    run = make_run(tmp_path / "original", gradflow=True)
    for path in (run.checkpoint_path, run.last_weights_path, run.best_weights_path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(path.name.encode())
    return run


@pytest.fixture
def copy(tmp_path):
    """An empty copy."""
    return RunDir(tmp_path / "copy")


def contents(run):
    return {name: (run.path / name).read_bytes() for name in run.file_sizes()}


def names(files, run, copy):
    """The relative paths of files on their way, in their order."""
    written = []
    for file in files:
        before = contents(copy)
        write_files(copy, [file])
        written += [name for name, data in contents(copy).items() if before.get(name) != data]
    return written


def test_a_copy_has_every_file_of_the_run(run, copy):
    write_files(copy, ChangedFiles(run).read())
    assert contents(copy) == contents(run)
    assert copy.read_metrics(copy.read_summary()).equals(run.read_metrics())


def test_only_changed_files_travel(run, copy):
    files = ChangedFiles(run)
    files.read()
    assert files.read() == []
    run.checkpoint_path.write_bytes(b"a later checkpoint")
    run.predictions_path.write_bytes(run.predictions_path.read_bytes())  # rewritten without a change
    assert names(files.read(), run, copy) == ["checkpoints/resume.safetensors"]


def test_files_are_written_before_the_file_that_refers_to_them(run, copy):
    order = names(ChangedFiles(run).read(), run, copy)
    assert order[-3:] == ["checkpoints/resume.safetensors", "weights/last.safetensors", "summary.json"]
    assert {"metrics.csv", "gradflow.csv", "run.json", "weights/best.safetensors"} < set(order[:-3])


def test_a_file_is_read_after_the_file_that_refers_to_it(run, monkeypatch):
    """Training goes on while the files are read, so tables must not be older than the checkpoint."""
    from resnet_cli.rundir import transfer

    read = []
    monkeypatch.setattr(transfer, "read_bytes", lambda path, most: read.append(path) or b"")
    ChangedFiles(run).read()
    order = [read.index(path) for path in (run.summary_path, run.last_weights_path, run.checkpoint_path)]
    assert order == [0, 1, 2]
    assert read[-1] == run.metrics_path


def test_a_file_that_was_damaged_on_its_way_is_not_written(run, copy):
    write_files(copy, ChangedFiles(run).read())
    before = contents(copy)
    run.metrics_path.write_bytes(b"other rows")
    files = ChangedFiles(run)
    (file, *_) = files.read()
    with pytest.raises(ResnetError, match=r"copy/metrics\.csv was damaged in transfer"):
        write_files(copy, [file._replace(data=b"other r0ws")])
    assert contents(copy) == before


def test_a_locked_copy_is_written_by_the_holder_of_the_lock_only(run, copy):
    lock = copy.lock()
    files = ChangedFiles(run).read()
    write_files(copy, files)
    copy.lock_path.unlink()
    with pytest.raises(ResnetError, match="was removed or replaced"):
        write_files(copy, files)
    lock.release()
