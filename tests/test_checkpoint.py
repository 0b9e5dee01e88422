"""A checkpoint restores the whole state of an engine, and anything else is refused in one line that names the file."""

import json

import pytest
import torch
from safetensors.torch import load, save

from resnet_cli.checkpoint import dump_state, load_state
from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine
from resnet_cli.errors import RunFileError
from resnet_cli.recipes import make_config
from resnet_cli.util.checksum import KEY, read_metadata, with_checksum


def engine_for(**fields):
    sizes = {"limit_train": 40, "limit_test": 20, "batch_size": 20}
    config = make_config("demo", arch="plain", depth=8, device="cpu", **{**sizes, **fields})
    engine = Engine(config, open_data(config), decide(config))
    engine.scaler = torch.amp.GradScaler("cpu")  # on a CPU, a run has one without a state
    return engine


@pytest.fixture(scope="module")
def state():
    """The checkpoint of an engine after one step, with a gradient that overflowed."""
    engine = engine_for()
    next(engine.run())
    engine.train_seconds, engine.scaler = 1.5, torch.amp.GradScaler("cpu", init_scale=8.0)
    engine.gradflow_values = torch.full((8, 3), float("inf"), dtype=torch.float64)
    return dump_state(engine)


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
    load_state(engine, tmp_path / "checkpoint")
    assert dump_state(engine) == state
    assert (engine.step, engine.epochs_done, engine.train_seconds, engine.sums.num_seen) == (1, 0, 1.5, 20)


CHANGES = {
    "another format": ({}, {"format": "resnet-cli"}, {}, "is not a checkpoint of this version"),
    "another version": ({}, {}, {"version": 1}, "is not a checkpoint of this version"),
    "another configuration": ({}, {}, {"config": "0" * 64}, "belongs to a different configuration"),
    "NaN": ({"model.fc.bias": torch.full((10,), torch.nan)}, {}, {}, "model.fc.bias is not finite"),
    "shape of momentum": ({"momentum.fc.bias": torch.zeros(1)}, {}, {}, "momentum.fc.bias has shape (1,), not (10,)"),
    "no momentum": ({"momentum.fc.bias": None}, {}, {}, "momentum.fc.bias"),
}


@pytest.mark.parametrize(("tensors", "metadata", "fields", "message"), CHANGES.values(), ids=CHANGES)
def test_a_changed_checkpoint_is_refused_with_the_reason(state, tmp_path, tensors, metadata, fields, message):
    (tmp_path / "checkpoint").write_bytes(changed(state, tensors, metadata, fields))
    assert message in refusal(tmp_path / "checkpoint", engine_for())


def test_a_checkpoint_with_another_byte_is_refused_by_its_checksum(state, tmp_path):
    (tmp_path / "checkpoint").write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    assert "its checksum does not match; use overwrite" in refusal(tmp_path / "checkpoint", engine_for())
