"""A checkpoint restores the whole state of an engine, and anything else is refused in one line that names the file."""

import json

import pytest
import torch
from safetensors.torch import load, save

from resnet_cli.checkpoint import dump_state, load_state
from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine, StepEvent
from resnet_cli.errors import RunFileError
from resnet_cli.recipes import make_config
from resnet_cli.rundir.records import FileState
from resnet_cli.util.checksum import KEY, read_metadata, with_checksum

TABLES = {"metrics.csv": FileState(num_bytes=20, sha256="ab" * 32)}


def engine_for(**fields):
    sizes = {"limit_train": 40, "limit_test": 20, "batch_size": 20}
    config = make_config("demo", arch="plain", depth=8, device="cpu", **{**sizes, **fields})
    engine = Engine(config, open_data(config), decide(config))
    engine.scaler = torch.amp.GradScaler("cpu")  # on a CPU, a run has one without a state
    return engine


@pytest.fixture(scope="module")
def state():
    """The checkpoint of an engine after one step."""
    engine = engine_for()
    next(event for event in engine.run() if isinstance(event, StepEvent))
    engine.train_seconds, engine.scaler = 1.5, torch.amp.GradScaler("cpu", init_scale=8.0)
    return dump_state(engine, TABLES)


def changed(state, tensors, metadata, fields):
    """The checkpoint with other tensors, metadata and plain values, and a valid checksum."""
    values = {name: value for name, value in read_metadata(state).items() if name != KEY}
    values["state"] = json.dumps(json.loads(values["state"]) | fields)
    kept = {name: value for name, value in (load(state) | tensors).items() if value is not None}
    return with_checksum(save(kept, metadata=values | metadata))


def refusal(path, engine):
    with pytest.raises(RunFileError) as caught:
        load_state(engine, path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_a_restored_engine_has_the_whole_state_of_the_saved_one(state, tmp_path):
    (tmp_path / "checkpoint").write_bytes(state)
    engine = engine_for()
    assert load_state(engine, tmp_path / "checkpoint") == TABLES
    assert dump_state(engine, TABLES) == state
    assert (engine.step, engine.epochs_done, engine.train_seconds, engine.sums.num_seen) == (1, 0, 1.5, 20)


@pytest.mark.parametrize("length", [{"epochs": 2}, {"epochs": None, "steps": 3}])
@pytest.mark.parametrize("num_train", [40, 30])
def test_an_engine_can_be_restored_at_every_event_of_a_run(tmp_path, length, num_train):
    fields = {**length, "limit_train": num_train, "milestones": ()}
    saved, positions = engine_for(**fields), set()
    for _ in saved.run():
        saved.check_finite()  # as before each save; it counts as training time
        (tmp_path / "checkpoint").write_bytes(dump_state(saved, TABLES))
        restored = engine_for(**fields)
        load_state(restored, tmp_path / "checkpoint")
        positions.add((restored.step, restored.epochs_done))
    assert restored.is_finished
    last = length.get("steps", 4)
    assert positions == {(0, 0), (1, 0), (2, 0), (2, 1), (3, 1), (last, 1), (last, 2)}


CHANGES = {
    "another format": ({}, {"format": "resnet-cli"}, {}, "is not a checkpoint of this version"),
    "another version": ({}, {}, {"version": 1}, "is not a checkpoint of this version"),
    "another configuration": ({}, {}, {"config": "0" * 64}, "belongs to a different configuration"),
    "NaN": ({"model.fc.bias": torch.full((10,), torch.nan)}, {}, {}, "model.fc.bias is not finite"),
    "shape of momentum": ({"momentum.fc.bias": torch.zeros(1)}, {}, {}, "momentum.fc.bias has shape (1,), not (10,)"),
    "no tables": ({}, {}, {"tables": None}, "Expected `object`, got `null`"),
    "a table without a hash": ({}, {}, {"tables": {"metrics.csv": {"num_bytes": 1, "sha256": ""}}}, "sha256"),
    "step beyond the epoch": ({}, {}, {"step": 9}, "step 9, epoch 0, 20 images are not a position"),
    "epochs beyond the run": ({}, {}, {"epochs_done": 10**9}, "are not a position of this run"),
    "negative step": ({}, {}, {"step": -1}, "`int` >= 0"),
    "step of text": ({}, {}, {"step": "1"}, "Expected `int`"),
    "step of many digits": ({}, {}, {"step": 10**400}, "cannot be resumed from"),
    "images beyond the step": ({}, {}, {"num_seen": 10**9}, "are not a position of this run"),
    "negative seconds": ({}, {}, {"train_seconds": -1.0}, "`float` >= 0.0"),
    "no seconds": ({}, {}, {"train_seconds": 0.0}, "are not a position of this run"),
    "NaN seconds": ({}, {}, {"train_seconds": float("nan")}, "cannot be resumed from"),
    "a scaler of text": ({}, {}, {"scaler": {"scale": "1"}}, "Expected `float`"),
    "more errors than images": ({"sums.num_wrong": torch.tensor(21)}, {}, {}, "sums of loss and errors are impossible"),
    "a negative loss": ({"sums.loss_sum": torch.tensor(-1.0).double()}, {}, {}, "sums of loss and errors are impos"),
    "no momentum": ({"momentum.fc.bias": None}, {}, {}, "momentum.fc.bias"),
}


@pytest.mark.parametrize(("tensors", "metadata", "fields", "message"), CHANGES.values(), ids=CHANGES)
def test_a_changed_checkpoint_is_refused_with_the_reason(state, tmp_path, tensors, metadata, fields, message):
    (tmp_path / "checkpoint").write_bytes(changed(state, tensors, metadata, fields))
    assert message in refusal(tmp_path / "checkpoint", engine_for())


def test_a_checkpoint_with_another_byte_is_refused_by_its_checksum(state, tmp_path):
    (tmp_path / "checkpoint").write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    assert "its checksum does not match; use overwrite" in refusal(tmp_path / "checkpoint", engine_for())
