"""Types of everything that a run directory contains: JSON documents, CSV rows and predictions.

Bounds are part of the types. They admit every value that a real run writes, and prevent a damaged or forged file from
flooding the screen, the figures or the memory.
"""

import datetime
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from resnet_cli.config import RunConfig
from resnet_cli.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1
_MAX_WHOLE = 2**53  # float64 represents every whole number up to it
_MAX_FLOAT32 = 3.4028235e38
_MAX_MILESTONES = 1000
MAX_NAME_LENGTH = 300
MAX_CLASSES = 10_000
_ROUNDING = 1e-6  # of percentages in float64

_Name = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
_Count = Annotated[int, Meta(ge=0, le=_MAX_WHOLE)]
_Positive = Annotated[int, Meta(ge=1, le=_MAX_WHOLE)]
_Percent = Annotated[float, Meta(ge=0, le=100)]
_Measure = Annotated[float, Meta(ge=0, le=_MAX_FLOAT32)]
# Either may be infinite, which JSON writes as null: a test loss overflows while the running statistics of batch
# normalisation lag behind in the first epochs; a gradient overflows in fp16, and its step is skipped.
_Loss = Annotated[float, Meta(ge=0)]
_Norm = Annotated[float, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=-_MAX_FLOAT32, le=_MAX_FLOAT32)]
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

Environment = dict[_Name, _Name | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | bool | None]
"""Versions and hardware, as `device.describe_environment` returns them."""


class EpochMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One row of metrics.csv. Errors and accuracies are percentages; losses are mean cross-entropies in nats."""

    epoch: _Count
    """From 1."""
    step: _Count
    """Optimizer steps taken since the start of the run."""
    lr: _Measure
    """Learning rate of the last step of the epoch."""
    train_loss: _Loss | None
    """Mean over the epoch's training steps, with augmentation."""
    train_error_pct: _Percent
    train_clean_loss: _Loss | None
    """Measured after the epoch in eval mode without augmentation; None if not measured."""
    train_clean_error_pct: _Percent | None
    train_clean_images: _Count | None
    """Number of training images that the two were measured on; None if not measured."""
    val_loss: _Loss | None
    """None without a validation split."""
    val_error_pct: _Percent | None
    test_loss: _Loss | None
    test_error_pct: _Percent
    test_accuracy_pct: _Percent
    images_per_second: _Measure
    """Training images, without evaluation."""
    train_seconds: _Measure
    eval_seconds: _Measure
    peak_memory_bytes: _Count | None
    """None where the device does not report it."""

    def __post_init__(self) -> None:
        for loss in (self.train_loss, self.train_clean_loss, self.val_loss, self.test_loss):
            if loss is not None and _MAX_FLOAT32 < loss < math.inf:
                raise ValueError(f"the loss {loss:g} is larger than any mean of float32 numbers")
        if abs(self.test_accuracy_pct + self.test_error_pct - 100) > _ROUNDING:
            raise ValueError(
                f"test accuracy {self.test_accuracy_pct:g} % and error {self.test_error_pct:g} % do not add up to 100 %"
            )

    def selection_error_pct(self) -> float:
        """Error on the set that selects the best epoch: validation if there is one, else test."""
        return self.test_error_pct if self.val_error_pct is None else self.val_error_pct


METRICS_COLUMNS = EpochMetrics.__struct_fields__


class GradflowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of gradflow.csv: one weighted layer W after one epoch; see `probes.gradflow` for the measurement.

    All norms are L2 norms. The last five columns describe the block that begins with this layer, and are None for
    every other layer: x is the input of the block, L the mean loss of a batch.
    """

    epoch: _Count
    """0 for the initial weights."""
    layer_index: _Count
    """Position among the weighted layers, in forward order, from 1."""
    layer: _Name
    stage: Annotated[int, Meta(ge=0, le=4)]
    """0 for the first convolution, 1 to 3 for the stages, 4 for the linear layer."""
    block: _Count
    grad_norm: _Norm | None
    """‖∂L/∂W‖, which depends on ‖W‖ where batch normalisation follows."""
    weight_norm: _Norm | None
    """‖W‖."""
    scale_free_grad_norm: _Norm | None
    """‖W‖·‖∂L/∂W‖, which does not change when W is rescaled before batch normalisation."""
    effective_step: _Norm | None
    """Learning rate / ‖W‖²."""
    update_to_weight_ratio: _Norm | None
    """Norm of the last update divided by ‖W‖; None before the first update."""
    input_grad_norm: _Norm | None = None
    """‖∂L/∂x‖."""
    growth: _Norm | None = None
    """‖∂L/∂x‖ divided by the norm of the gradient at the output of the block."""
    skip_share: _Share | None = None
    """Share of ∂L/∂x that came through the shortcut: ⟨∂L/∂x, part⟩ / ‖∂L/∂x‖². None in a plain network."""
    branch_share: _Share | None = None
    """Share that came through the two convolutions; the two shares add up to 1."""
    skip_branch_cosine: Annotated[float, Meta(ge=-1.001, le=1.001)] | None = None
    """Cosine of the angle between the two parts."""


class DatasetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Images that a run was trained and tested on."""

    name: _Name
    """As on the command line: `cifar10`, `digits` …"""
    display_name: _Name
    """As in tables: `CIFAR-10`, `CIFAR-10 (JPEG)` …"""
    fingerprint: _Name
    """SHA-256 (hex) over pixels and labels of the training (with validation) and test images."""
    num_train: _Positive
    num_val: _Count
    num_test: _Positive
    classes: Annotated[tuple[_Name, ...], Meta(min_length=1, max_length=MAX_CLASSES)]
    image_size: _Positive
    """Height and width in pixels."""
    mean: Annotated[tuple[float, ...], Meta(max_length=3)]
    """Per channel, of pixels scaled to 0 … 1."""
    std: Annotated[tuple[float, ...], Meta(max_length=3)]
    location: str | None = None
    """Folder that the images were read from; None for embedded data."""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Network of a run."""

    arch: _Name
    depth: _Positive
    shortcut: _Name
    num_classes: _Positive
    parameters: _Positive
    macs: _Positive
    """Multiply-accumulates of convolutions and the linear layer, forward, one image."""


class Decision(msgspec.Struct, frozen=True):
    """An automatic decision and its reason."""

    value: _Name
    reason: str


class InitialWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of another run or of a weight file that a run started from; weights/init.safetensors is a copy."""

    path: str
    """Run directory or weight file, as the user gave it."""
    sha256: _Sha256
    """Of the original weight file."""
    copy_sha256: _Sha256
    """Of weights/init.safetensors."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: the identity of a run, written once."""

    schema_version: int = SCHEMA_VERSION
    run_id: _Name
    created_at: _Name
    """ISO 8601, UTC."""
    argv: tuple[str, ...]
    tool_version: _Name
    config: RunConfig
    environment: Environment
    dataset: DatasetRecord
    model: ModelRecord
    decisions: dict[_Name, Decision]
    init_from: InitialWeights | None = None
    """None if the initial weights follow from the seed."""

    def __post_init__(self) -> None:
        config, dataset, model = self.config, self.dataset, self.model
        ours, theirs = (config.arch, config.depth, config.shortcut), (model.arch, model.depth, model.shortcut)
        if ours != theirs or config.dataset != dataset.name or model.num_classes != len(dataset.classes):
            raise ValueError("its config contradicts its model or dataset")
        if len(config.recipe) > MAX_NAME_LENGTH:
            raise ConfigError(f"the recipe's name has more than {MAX_NAME_LENGTH} characters")
        if len(config.milestones) > _MAX_MILESTONES or max(config.milestones, default=0) > _MAX_WHOLE:
            raise ConfigError(f"--milestones has more than {_MAX_MILESTONES} values or one above {_MAX_WHOLE}")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json: the result of a complete run."""

    schema_version: int = SCHEMA_VERSION
    run_id: _Name
    finished_at: _Name
    last: EpochMetrics
    best: EpochMetrics
    """The epoch with the lowest error on `best_chosen_on`; of equally good epochs, the first."""
    best_chosen_on: Literal["val", "test"]
    train_seconds: _Measure
    eval_seconds: _Measure
    peak_memory_bytes: _Count | None
    files: dict[_Name, _Sha256]
    """SHA-256 (hex) of the files that belong to the result, by path within the run directory."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """diverged.json: where a run stopped because its loss was not finite."""

    schema_version: int = SCHEMA_VERSION
    run_id: _Name
    finished_at: _Name
    epoch: _Count
    """From 1."""
    step: _Count
    """Optimizer steps taken before the one whose loss was not finite."""
    lr: float
    """Learning rate of that step."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One line of attempts.jsonl: a process that trained the run."""

    started_at: _Name
    argv: tuple[str, ...]
    tool_version: _Name
    step: _Count
    """Optimizer steps taken before this attempt."""
    environment: Environment
    decisions: dict[_Name, Decision]


class FileState(msgspec.Struct, frozen=True):
    """Content of a file at a checkpoint; a CSV file may have become longer since, and begins with these bytes."""

    num_bytes: _Count
    sha256: _Sha256


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """.holder.json: the process that trains the run and holds its lock."""

    pid: int
    host: _Name
    since: _Name
    """ISO 8601, UTC."""


class Predictions(msgspec.Struct, frozen=True):
    """Test labels and outputs in dataset order."""

    labels: "np.ndarray[Any, np.dtype[np.int64]]"  # (N,)
    logits: "np.ndarray[Any, np.dtype[np.float32]]"  # (N, classes)


def now() -> str:
    """The current time in ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
