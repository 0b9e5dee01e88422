"""A weight file: its format, its tensors, and the architecture that they belong to."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from resnet_cli.config import Arch, RunConfig, Shortcut
from resnet_cli.data import Dataset
from resnet_cli.errors import ConfigError, InputError, UsageError
from resnet_cli.model import CifarNet
from resnet_cli.util import checksum
from resnet_cli.util.text import one_line
from resnet_cli.weights.architecture import (
    Architecture,
    StateDict,
    build_without_memory,
    find_architectures,
    find_state_dict,
    validate_tensors,
)
from resnet_cli.weights.loading import read_content

WeightFormat = Literal["resnet-cli", "akamaster", "chenyaofo", "state-dict"]
Triple = tuple[float, float, float]

SCHEMA_VERSION = 2
"""Version of the metadata in our files. Version 1 had no checksum; in version 2 it is required."""

MEAN_IMAGE = "mean_image"
"""Name of the mean image among the tensors of an exported network, if it was trained with pixel-mean normalisation."""

# Mean and std that the published networks were trained with.
# github.com/akamaster/pytorch_resnet_cifar10, trainer.py
_AKAMASTER_NORMALIZATION: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# github.com/chenyaofo/pytorch-cifar-models, logs/cifar10/resnet20 and logs/cifar100/resnet20; by number of classes
_CHENYAOFO_NORMALIZATION: dict[int, tuple[Triple, Triple]] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    100: ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}


class WeightFile(NamedTuple):
    """The weights of one network and everything that their file records about it."""

    path: Path
    format: WeightFormat
    state_dict: dict[str, Tensor]
    """Tensors by the names of `CifarNet`, on the CPU; float32, except the int64 counters of batch normalisation."""
    candidates: tuple[Architecture, ...]
    """Architectures that fit the file: one, or an option-A residual and a plain network, which have equal tensors."""
    config: RunConfig | None
    """Configuration that trained the network; only in files of this tool."""
    normalization: tuple[Triple, Triple] | None
    """Per-channel mean and std of the training images (pixels in [0, 1]); None if the file does not determine them."""
    mean_image: Tensor | None = None
    """Mean of the training images, (3, H, W) float32 in [0, 1]; only in exported files of networks that need it."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs; only in exported files."""

    def resolve(
        self, *, arch: Arch | None = None, depth: int | None = None, shortcut: Shortcut | None = None
    ) -> Architecture:
        """Choose the candidate that agrees with the options `--arch`, `--depth` and `--shortcut` (None: not given).

        Raises:
            UsageError: the options contradict the file or each other, or `--arch` is needed.
        """
        given = {"arch": arch, "depth": depth, "shortcut": shortcut}
        options = {name: value for name, value in given.items() if value is not None}
        fitting = [one for one in self.candidates if options.items() <= one._asdict().items()]
        if not fitting:
            raise UsageError(
                f"{' '.join(f'--{name} {value}' for name, value in options.items())} contradicts {self.path}, "
                f"a {' or '.join(map(_describe, self.candidates))} network of {self.candidates[0].depth} layers",
                hint="omit the options that contradict it",
            )
        # akamaster publishes residual networks only, so the first candidate is the default there; its code can also
        # train plain ones
        if len(fitting) > 1 and self.format != "akamaster":
            raise UsageError(
                f"{self.path} could be a plain or an option-A residual network: both have the same tensors",
                hint="add --arch plain or --arch resnet",
            )
        return fitting[0]

    def build(self, architecture: Architecture) -> CifarNet:
        """Build the network with these weights, on the CPU in eval mode; `architecture` comes from `resolve`."""
        model = build_without_memory(architecture)
        model.load_state_dict(self.state_dict, strict=True, assign=True)
        return model.eval()

    def check_fits(self, dataset: Dataset) -> None:
        """Raise `InputError` unless the number of outputs and the size of the mean image fit `dataset`."""
        if (num_outputs := self.candidates[0].num_classes) != len(dataset.classes):
            raise InputError(
                f"{self.path} has {num_outputs} outputs, but {dataset.display_name} has {len(dataset.classes)} classes",
                hint="choose another --dataset",
            )
        size = dataset.image_size
        if self.mean_image is not None and self.mean_image.shape != (3, size, size):
            raise InputError(
                f"{self.path} needs images of the size of its mean image, {tuple(self.mean_image.shape)}, but "
                f"{dataset.display_name} has {size}×{size} pixels",
                hint="choose another --dataset",
            )


def check_normalization(mean: Triple | None, std: Triple | None) -> None:
    """Raise `UsageError` unless `--mean` and `--std` are given together, or neither, and fit pixels in [0, 1]."""
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std must be given together", hint="add the other one")
    for option, values, low in (("--mean", mean, 0.0), ("--std", std, 1e-6)):
        if values and not all(low <= value <= 1 for value in values):
            raise UsageError(
                f"{option} {','.join(f'{value:g}' for value in values)} does not fit pixels in [0, 1]",
                hint="divide values for pixels in [0, 255] by 255",
            )


def _describe(architecture: Architecture) -> str:
    return "plain" if architecture.arch == "plain" else f"residual (shortcut {architecture.shortcut})"


def read_weights(path: Path) -> WeightFile:
    """Read a weight file and recognise its architecture by names and shapes.

    Supported are safetensors and PyTorch files (zip and legacy) of this tool, of akamaster/pytorch_resnet_cifar10 and
    of chenyaofo/pytorch-cifar-models, and other state dicts with the same names: bare or under `state_dict`,
    `model_state_dict`, `model` or `net`; with or without `module.` and `_orig_mod.`; with `fc` or `linear` as the last
    layer and `downsample` or `shortcut` for projections.

    Raises:
        InputError: the file is unreadable, damaged or unsafe, or contains another network; the message names what was
            found and what was expected.
    """
    content, metadata = read_content(path)
    if metadata.get("format") == "resnet-cli checkpoint":
        raise InputError(
            f"{path} is a checkpoint for resuming, not a weight file",
            hint=f"pass the run directory, or weights/last.safetensors next to {path.parent.name}/",
        )
    found = find_state_dict(path, content)
    is_ours = metadata.get("format") == "resnet-cli"
    mean_image = _check_mean_image(path, found.entries.pop(MEAN_IMAGE)) if is_ours and MEAN_IMAGE in content else None
    candidates = find_architectures(path, found.entries)
    state_dict = validate_tensors(path, found.entries, candidates[0])
    if not is_ours:
        file_format, normalization = _recognise_format(found, candidates[0], metadata)
        return WeightFile(path, file_format, state_dict, candidates, None, normalization)
    config, normalization, classes = _read_metadata(path, metadata)
    ours = Architecture(config.arch, config.depth, config.shortcut, candidates[0].num_classes)
    if ours not in candidates:
        raise InputError(f"{path} has the metadata of {config.network}, but the tensors of another network")
    if classes and len(classes) != ours.num_classes:
        raise InputError(f"{path} names {len(classes)} classes, but has {ours.num_classes} outputs")
    return WeightFile(path, "resnet-cli", state_dict, (ours,), config, normalization, mean_image, classes)


def _check_mean_image(path: Path, value: Tensor) -> Tensor:
    is_image = value.ndim == 3 and value.shape[0] == 3 and value.dtype == torch.float32
    if not is_image or not bool(((value >= 0) & (value <= 1)).all()):
        raise InputError(f"{path}: {MEAN_IMAGE} is not an image (3, H, W) of float32 numbers in [0, 1]")
    return value


def _recognise_format(
    found: StateDict, first: Architecture, metadata: dict[str, str]
) -> tuple[WeightFormat, tuple[Triple, Triple] | None]:
    """Find the project that saved a file, and the normalisation of its inputs."""
    if {"linear", "wrapper"} <= found.conventions and first.shortcut == "A":
        return "akamaster", _AKAMASTER_NORMALIZATION
    is_bare = not found.conventions and not metadata
    if is_bare and first.shortcut == "B" and first.num_classes in _CHENYAOFO_NORMALIZATION:
        return "chenyaofo", _CHENYAOFO_NORMALIZATION[first.num_classes]
    return "state-dict", None


def _read_metadata(
    path: Path, metadata: dict[str, str]
) -> tuple[RunConfig, tuple[Triple, Triple] | None, tuple[str, ...]]:
    """Parse configuration, channel normalisation (None for a network trained on pixel-mean images) and classes."""
    try:
        version = int(metadata["schema_version"])
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version}, newer than {SCHEMA_VERSION}", hint="upgrade this tool"
            )
        if version != 1 and checksum.KEY not in metadata:
            raise KeyError(checksum.KEY)
        config = RunConfig.from_dict(msgspec.json.decode(metadata["config"], type=dict[str, Any]))
        mean = msgspec.json.decode(metadata["mean"], type=Triple)
        std = msgspec.json.decode(metadata["std"], type=Triple)
        classes = msgspec.json.decode(metadata.get("classes", "[]"), type=tuple[str, ...])
        if min(std) <= 0:
            raise ValueError(f"std {std} is not positive")
    except KeyError as error:
        raise InputError(f"{path}: the metadata lacks {error.args[0]}") from error
    except (ValueError, msgspec.MsgspecError, ConfigError) as error:
        raise InputError(f"{path}: the metadata cannot be read: {one_line(error)}") from error
    return config, None if config.normalization == "pixel-mean" else (mean, std), classes
