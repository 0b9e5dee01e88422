"""A run survives a kill, a power cut and a disk error at every single one of its file operations."""

import errno
import os
import shutil
from collections import Counter

import pytest
import sameness
from watched_disk import Operation, WatchedDisk, restore

from resnet_cli.config import RunOptions, SaveEvery
from resnet_cli.errors import ResnetError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import Reporter, train

# Two epochs of two steps, saved after each second step: 10 images make a step.
CONFIG = make_config(
    "demo", arch="resnet", depth=8, device="cpu", compile="off", limit_train=20, limit_test=10, batch_size=10,
    epochs=2, augment="crop",
)  # fmt: skip
OPTIONS = RunOptions(save_every=SaveEvery(2, "steps"))


def train_tiny(out, **fields):
    return train(CONFIG, out, options=OPTIONS, **fields).run


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Syncs are recorded where they matter; waiting for the disk proves nothing here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Checksums of an undisturbed run."""
    return sameness.parts(train_tiny(tmp_path_factory.mktemp("straight") / "run"))


class Recording:
    """The distinct states after kills and power cuts, each with the operation before which it was found."""

    def __init__(self, root, monkeypatch):
        self.states, self.operations = {}, []
        self._seen = set()
        self.disk = WatchedDisk(root, self.look)
        self.disk.install(monkeypatch)

    def look(self, operation):
        self.operations.append(operation)
        label = f"{len(self.operations)}. {operation.name} {operation.path}"
        if not self.disk.root.exists():
            return
        views = {
            "killed": self.disk.after_kill(),
            "power cut": self.disk.after_power_cut(names_survive=False),
            "power cut, names kept": self.disk.after_power_cut(names_survive=True),
        }
        for kind, view in views.items():
            key = tuple(sorted((path, data) for path, data in view.items() if path != ".holder.json"))
            if hash(key) not in self._seen:
                self._seen.add(hash(key))
                self.states[f"{kind} before {label}"] = view


def record(root, monkeypatch, action):
    """The states that `action` goes through, before each of its file operations and after the last."""
    with monkeypatch.context() as patch:
        recording = Recording(root, patch)
        action()
        recording.look(Operation("end", ""))
    return recording


def assert_survived(snapshots, folder, straight, **fields):
    """Check that each state is readable and, when resumed, ends as the undisturbed run."""
    out = folder / "run"
    for state, snapshot in snapshots.items():
        try:
            restore(snapshot, out)
            sameness.assert_readable(RunDir(out))
            run = train_tiny(out, **fields)
            assert sameness.parts(run) == straight
            assert sameness.leftovers(run) == []
            assert run.read_metrics()["epoch"].tolist() == [1, 2]
            assert len(run.read_attempts()) >= 1
        except Exception as error:
            raise AssertionError(f"not survived: {state}") from error
        shutil.rmtree(out)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A whole run from its first file operation to its last."""
    root = tmp_path_factory.mktemp("recorded") / "run"
    with pytest.MonkeyPatch.context() as patch:
        return record(root, patch, lambda: train_tiny(root))


def test_a_run_survives_kills_and_power_cuts_before_and_after_each_of_its_file_operations(recorded, tmp_path, straight):
    # the state before an operation is the state after the one before it, and half of every write is an operation
    done = Counter(operation.name for operation in recorded.operations)
    assert done["replace"] >= 12
    assert done["torn write"] == done["write"] >= 16
    assert done["fsync"] >= 28
    assert_survived(recorded.states, tmp_path, straight)


def test_a_run_resumed_after_a_kill_survives_another_one(recorded, tmp_path, monkeypatch, straight):
    # rows of an epoch that the checkpoint does not have, and half of the next checkpoint
    first = next(
        snapshot
        for state, snapshot in reversed(recorded.states.items())
        if state.startswith("killed") and "torn write checkpoints" in state
    )
    root = tmp_path / "recorded"
    restore(first, root)
    root.joinpath("metrics.csv").write_bytes(first["metrics.csv"] + b"2,4,0.0")
    assert sameness.leftovers(RunDir(root))
    recording = record(root, monkeypatch, lambda: train_tiny(root))
    assert recording.operations[-1].name == "end"
    assert_survived(recording.states, tmp_path, straight)


class DieWhenStarted(Reporter):
    """Ends a run when its directory has been made."""

    def started(self, *_):
        raise KeyboardInterrupt


def test_a_kill_during_overwriting_leaves_the_old_run_or_none(tmp_path, monkeypatch, straight):
    root = tmp_path / "recorded"
    old = train_tiny(root).read_record().run_id
    (root / "notes.txt").write_text("mine")

    def overwrite():
        with pytest.raises(KeyboardInterrupt):
            train_tiny(root, overwrite=True, reporter=DieWhenStarted())

    recording = record(root, monkeypatch, overwrite)
    for state, snapshot in recording.states.items():
        if "power cut" not in state:
            assert snapshot["notes.txt"] == b"mine"
        if "run.json" in snapshot and old.encode() not in snapshot["run.json"]:
            assert "checkpoints/resume.safetensors" not in snapshot, state
    killed = {state: snapshot for state, snapshot in recording.states.items() if state.startswith("killed")}
    assert_survived(killed, tmp_path, straight, overwrite=True)


class Failing:
    """Fails the `number`-th operation with one of the `names`."""

    def __init__(self, names, number, error):
        self.names, self.left, self.error = names, number, error
        self.operation = None

    def __call__(self, operation):
        if operation.name in self.names:
            self.left -= 1
            if self.left == 0:
                self.operation = operation
                raise OSError(self.error, os.strerror(self.error))


def saved_step(run):
    """The step of the checkpoint; -1 without a checkpoint."""
    return sameness.step_of(run) if run.checkpoint_path.exists() else -1


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (errno.ENOSPC, {"open", "mkdir", "write", "torn write", "flush"}),
        (errno.EIO, {"fsync", "chmod", "replace", "unlink"}),
    ],
    ids=["full disk", "input/output error"],
)
def test_a_disk_error_at_any_file_operation_is_one_line_and_the_run_can_be_resumed(
    tmp_path, monkeypatch, straight, error, names
):
    out, num_failures = tmp_path / "run", 0
    while True:
        failing = Failing(names, num_failures + 1, error)
        message, before = None, []
        with monkeypatch.context() as patch:
            disk = WatchedDisk(out, failing)
            disk.install(patch)
            try:
                train_tiny(out, reporter=SavedSteps(out, before))
            except ResnetError as caught:
                message = str(caught)
        if failing.operation is None:
            break  # there are no more operations of these kinds
        num_failures += 1
        run = RunDir(out)
        assert message is not None, f"{failing.operation} failed without an error"
        assert os.strerror(error) in message
        assert str(out) in message
        assert "the same command" in message
        assert "\n" not in message
        sameness.assert_readable(run)
        assert saved_step(run) >= max(before, default=-1)
        train_tiny(out)
        assert sameness.parts(run) == straight, f"{failing.operation} changed the numbers"
        assert sameness.leftovers(run) == []
        shutil.rmtree(out)
    assert num_failures >= 40


class SavedSteps(Reporter):
    """Records the step of the present checkpoint at each event."""

    def __init__(self, out, steps):
        self.run, self.steps = RunDir(out), steps

    def tick(self, tick):
        self.steps.append(saved_step(self.run))
