"""The actor on a node: it runs a task in a temporary folder, and a repeated call changes nothing."""

import signal
from pathlib import Path

import pytest

from resnet_cli.launch import Task
from resnet_cli.launch.ray_worker import RayWorker
from resnet_cli.rundir import RunDir
from resnet_cli.rundir.transfer import ChangedFiles, write_files
from resnet_cli.version import __version__


@pytest.fixture
def worker():
    """A worker that ends its task."""
    worker = RayWorker(__version__)
    yield worker
    worker.update(-1, [signal.SIGKILL])


def start(worker, files=()):
    return worker.start(Task("it", []), "runs/it", {"OMP_NUM_THREADS": "3"}, list(files))


def updates(worker):
    """Every update until the end."""
    found = []
    while not found or found[-1].exit_code is None:
        found.append(worker.update(len(found) + 1, []))
    return found


def test_a_task_finds_the_files_of_its_run_and_only_what_it_changes_comes_back(python, make_run, tmp_path):
    original, copy = make_run(tmp_path / "original"), RunDir(tmp_path / "copy")
    python('printf "%s" "$OMP_NUM_THREADS $(cat runs/it/README.md)" > runs/it/predictions.npz')
    worker = RayWorker(__version__)
    start(worker, ChangedFiles(original).read())
    for update in updates(worker):
        write_files(copy, update.files)
    assert list(copy.file_sizes()) == ["predictions.npz"]
    assert copy.predictions_path.read_text() == f"3 {original.readme_path.read_text().rstrip()}"


def test_the_temporary_folder_is_removed_at_the_end(python, tmp_path):
    python(f"pwd > {tmp_path}/folder")
    worker = RayWorker(__version__)
    start(worker)
    assert updates(worker)[-1].exit_code == 0
    assert not Path((tmp_path / "folder").read_text().strip()).exists()


def test_a_call_whose_answer_was_lost_can_be_repeated(python, worker, tmp_path):
    python(f"echo >> {tmp_path}/starts", f"trap 'echo >> {tmp_path}/signals' TERM", "while :; do sleep 0.05; done")
    assert start(worker) == start(worker)
    worker.update(1, [])
    assert worker.update(2, [signal.SIGTERM]) is worker.update(2, [signal.SIGTERM])
    worker.update(3, [])
    assert (tmp_path / "starts").read_text() == (tmp_path / "signals").read_text() == "\n"


def test_how_a_task_ended_comes_with_its_last_update(python):
    for script, ending in (
        ("echo 'error: disk full' >&2; exit 1", (1, None, "disk full")),
        ("kill -KILL $$", (-signal.SIGKILL, "killed by signal 9 (SIGKILL)", "")),
    ):
        python(script)
        worker = RayWorker(__version__)
        start(worker)
        assert updates(worker)[-1][2:] == ending


def test_another_version_is_refused():
    with pytest.raises(RuntimeError, match=f"has resnet-cli {__version__}, not 9.9.9"):
        RayWorker("9.9.9")
