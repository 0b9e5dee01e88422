"""What the JSON files of a run directory hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from resnet_cli.config import RunConfig
from resnet_cli.errors import RunFileError
from resnet_cli.util.text import shorten

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1

# Bounds that keep a damaged record from filling screen and memory; whoever trained it had none of these.
_MAX_NAME_LENGTH = 300
_MAX_CLASSES = 10_000
_MAX_MILESTONES = 1000
_MAX_COUNT = 2**53


class DatasetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was trained and tested on."""

    name: str
    """As on the command line: `cifar10`, `digits` …"""
    display_name: str
    """As in tables: `CIFAR-10`, `CIFAR-10 (JPEG)` …"""
    fingerprint: str
    """SHA-256 (hex) over pixels and labels of the training (with validation) and test images."""
    num_train: int
    num_val: int
    num_test: int
    classes: tuple[str, ...]
    image_size: int
    """Height and width in pixels."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0 … 1."""
    std: tuple[float, ...]
    location: str | None = None
    """The folder that the images were read from; None for embedded data."""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The network of a run."""

    arch: str
    depth: int
    shortcut: str
    num_classes: int
    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and the linear layer, forward, one image."""


class Decision(msgspec.Struct, frozen=True):
    """Something the tool chose by itself, and why."""

    value: str
    reason: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: the identity of a run, written once."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created_at: str
    """ISO 8601, UTC."""
    argv: tuple[str, ...]
    tool_version: str
    config: RunConfig
    environment: dict[str, str | int | bool | None]
    dataset: DatasetRecord
    model: ModelRecord
    decisions: dict[str, Decision]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json: the result of a complete run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    finished_at: str
    last: dict[str, float | int | None]
    """The last row of metrics.csv."""
    best: dict[str, float | int | None]
    """The row of metrics.csv with the lowest error on `best_chosen_on`; the earliest of equals."""
    best_chosen_on: Literal["val", "test"]
    train_seconds: float
    eval_seconds: float
    peak_memory_bytes: int | None


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """diverged.json: where a run stopped because its loss was not finite."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    finished_at: str
    epoch: int
    step: int
    lr: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A line of attempts.jsonl: a process that worked on the run."""

    started_at: str
    argv: tuple[str, ...]
    tool_version: str
    step: int
    """Optimizer steps that were done before."""
    environment: dict[str, str | int | bool | None]
    decisions: dict[str, Decision]


class Predictions(msgspec.Struct, frozen=True):
    """Test labels and outputs in dataset order."""

    labels: "np.ndarray[Any, np.dtype[np.int64]]"  # (N,)
    logits: "np.ndarray[Any, np.dtype[np.float32]]"  # (N, classes)


def check_record(path: Path, record: RunRecord) -> None:
    """Raise `RunFileError` when parts of a record contradict each other, or a value is beyond any that a run has."""
    config, dataset, model = record.config, record.dataset, record.model
    ours, theirs = (config.arch, config.depth, config.shortcut), (model.arch, model.depth, model.shortcut)
    if ours != theirs or config.dataset != dataset.name or model.num_classes != len(dataset.classes):
        raise RunFileError(f"{path} contradicts itself: its config is not that of its model and dataset")
    shown = [
        ("recipe", config.recipe), ("run_id", record.run_id), ("tool_version", record.tool_version),
        ("display_name", dataset.display_name), ("fingerprint", dataset.fingerprint),
        *(("class", name) for name in dataset.classes),
        *(("environment", str(value)) for value in record.environment.values()),
        *(("decision", decision.value) for decision in record.decisions.values()),
    ]  # fmt: skip
    for name, text in shown:
        if len(text) > _MAX_NAME_LENGTH:
            raise RunFileError(f"{path}: {name} has {len(text)} characters, more than {_MAX_NAME_LENGTH}")
    bounds = {
        "number of classes": (len(dataset.classes), 1, _MAX_CLASSES),
        "number of milestones": (len(config.milestones), 0, _MAX_MILESTONES),
        "last milestone": (max(config.milestones, default=0), 0, _MAX_COUNT),
        "num_train": (dataset.num_train, 1, _MAX_COUNT),
        "num_val": (dataset.num_val, 0, _MAX_COUNT),
        "num_test": (dataset.num_test, 1, _MAX_COUNT),
        "parameters": (model.parameters, 1, _MAX_COUNT),
        "macs": (model.macs, 1, _MAX_COUNT),
    }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise RunFileError(f"{path}: {name} is {shorten(str(value), 30)}, not between {low} and {high}")
