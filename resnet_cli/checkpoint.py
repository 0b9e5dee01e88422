"""State for resuming a run: a safetensors file of tensors, with plain values in its metadata and a checksum."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from resnet_cli.engine import Engine
from resnet_cli.errors import RunFileError
from resnet_cli.rundir.records import FileState
from resnet_cli.util.checksum import (
    MAX_HEADER_BYTES,
    has_valid_checksum,
    header_bytes,
    read_metadata,
    with_checksum,
)
from resnet_cli.util.files import read_bytes
from resnet_cli.util.text import one_line

FORMAT = "resnet-cli checkpoint"
VERSION = 3  # 1 had no checksum; 2 did not describe the CSV files
# The deepest network, of 1202 layers, takes 160 MB with its momentum.
_MAX_BYTES = 2**30


def dump_state(engine: Engine, tables: dict[str, FileState]) -> bytes:
    """Serialise the whole state of a run.

    Args:
        engine: must be between two steps or evaluated batches.
        tables: content of the run's CSV files and best weights at this moment, by file name.
    """
    tensors = {f"model.{name}": value for name, value in engine.model.state_dict().items()}
    for name, parameter in engine.model.named_parameters():
        momentum = engine.optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    tensors["sums.loss_sum"] = engine.sums.loss_sum
    tensors["sums.num_wrong"] = engine.sums.num_wrong
    primitives = {
        "version": VERSION, "config": engine.config.fingerprint(), "step": engine.step,
        "epochs_done": engine.epochs_done, "train_seconds": engine.train_seconds, "num_seen": engine.sums.num_seen,
        "scaler": engine.scaler.state_dict(), "tables": msgspec.to_builtins(tables),
    }  # fmt: skip
    return _dump(tensors, {"format": FORMAT, "state": json.dumps(primitives)})


def dump_weights(engine: Engine, metadata: dict[str, str]) -> bytes:
    """Serialise the network's weights as a safetensors file with `metadata` and a checksum."""
    return _dump(engine.model.state_dict(), metadata)


def _dump(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    # safetensors stores rows in order, so channels-last weights are copied to the default layout
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return with_checksum(save(plain, metadata=metadata))


def load_state(engine: Engine, source: Path | bytes) -> dict[str, FileState]:
    """Restore the state of `engine` from the file `source`, or from the content of one that another process sent.

    The checksum must match, every tensor must be present, finite and of the right shape, and the configuration
    must be the same.

    Returns:
        Content of the run's CSV files and best weights at the checkpoint, by file name.

    Raises:
        RunFileError: the file is damaged or belongs to a different configuration; the engine is unusable afterwards.
    """
    path = "the state of rank 0" if isinstance(source, bytes) else source
    try:
        data = source if isinstance(source, bytes) else read_bytes(source, _MAX_BYTES)
        if header_bytes(data) > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {header_bytes(data):,} bytes")
        tensors = load(data)
        metadata = read_metadata(data)
        state = json.loads(metadata["state"])
        if metadata["format"] != FORMAT or state["version"] != VERSION:
            raise RunFileError(
                f"{path} is not a checkpoint of this version", hint="use --overwrite to start from scratch"
            )
        if not has_valid_checksum(data):
            raise ValueError("it is damaged: its checksum does not match")
        if state["config"] != engine.config.fingerprint():
            raise RunFileError(f"{path} belongs to a different configuration")
        _restore(engine, tensors, state)
        return msgspec.convert(state["tables"], dict[str, FileState])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise RunFileError(
            f"{path} cannot be resumed from: {one_line(error)}", hint="use --overwrite to start from scratch"
        ) from error


class _Position(msgspec.Struct):
    """Position in a run, with the bounds of its values: a checksum does not show that this tool wrote a file."""

    step: Annotated[int, Meta(ge=0)]
    epochs_done: Annotated[int, Meta(ge=0)]
    num_seen: Annotated[int, Meta(ge=0)]
    train_seconds: Annotated[float, Meta(ge=0, le=1e9)]
    scaler: dict[str, Annotated[float, Meta(ge=0, le=1e30)]]


def _check_position(engine: Engine, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Raise `ValueError` for a position that no run of this configuration is ever in."""
    at = msgspec.convert(state, _Position)
    # the last epoch may be a part of one
    first = min(at.epochs_done * engine.steps_per_epoch, engine.total_steps)
    last = min(first + engine.steps_per_epoch, engine.total_steps)
    num_seen = min((at.step - first) * engine.config.batch_size, engine.num_train)
    is_possible = at.epochs_done <= engine.num_epochs and first <= at.step <= last and at.num_seen == num_seen
    if not is_possible or (num_seen and not at.train_seconds):
        raise ValueError(f"step {at.step}, epoch {at.epochs_done}, {at.num_seen} images are not a position of this run")
    if not 0 <= int(tensors["sums.num_wrong"]) <= num_seen or not float(tensors["sums.loss_sum"]) >= 0:
        raise ValueError("its sums of loss and errors are impossible")


def _restore(engine: Engine, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    _check_position(engine, tensors, state)
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name} is not finite")
    model = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    engine.model.load_state_dict(model, strict=True)
    for name, parameter in engine.model.named_parameters():
        if state["step"] == 0 or engine.config.momentum == 0:
            break
        # the optimizer keeps momentum in the parameter's own memory layout
        buffer = torch.empty_like(parameter, memory_format=torch.preserve_format)
        value = tensors[f"momentum.{name}"]
        if value.shape != parameter.shape:
            raise ValueError(f"momentum.{name} has shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
        engine.optimizer.state[parameter]["momentum_buffer"] = buffer.detach().copy_(value)
    engine.step = int(state["step"])
    engine.epochs_done = int(state["epochs_done"])
    engine.train_seconds = float(state["train_seconds"])
    engine.sums.loss_sum.copy_(tensors["sums.loss_sum"])
    engine.sums.num_wrong.copy_(tensors["sums.num_wrong"])
    engine.sums.num_seen = int(state["num_seen"])
    engine.scaler.load_state_dict(state["scaler"])
