"""A weight file: its format, its tensors, and the architecture that they belong to."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from resnet_cli.config import Arch, RunConfig, Shortcut
from resnet_cli.errors import ConfigError, InputError, UsageError
from resnet_cli.model import CifarNet
from resnet_cli.util import checksum
from resnet_cli.util.text import one_line
from resnet_cli.weights.architecture import (
    Architecture,
    StateDict,
    TensorLayout,
    find_architecture,
    find_state_dict,
    validate_tensors,
)
from resnet_cli.weights.loading import read_content

WeightFormat = Literal["resnet-cli", "akamaster", "chenyaofo", "state-dict"]
Triple = tuple[float, float, float]

SCHEMA_VERSION = 2
"""Version of the metadata in our files. Version 1 had no checksum; in version 2 it is required."""

# Mean and std that the published networks were trained with.
# github.com/akamaster/pytorch_resnet_cifar10, trainer.py
_AKAMASTER_NORMALIZATION: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# github.com/chenyaofo/pytorch-cifar-models, logs/cifar10/resnet20 and logs/cifar100/resnet20; by number of classes
_CHENYAOFO_NORMALIZATION: dict[int, tuple[Triple, Triple]] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    100: ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}


class WeightFile(NamedTuple):
    """The weights of one network and everything that their file reveals about it."""

    path: Path
    format: WeightFormat
    state_dict: dict[str, Tensor]
    """Tensors by the names of `CifarNet`, on the CPU; float32, except the int64 counters of batch normalisation."""
    depth: int
    num_classes: int
    arch: Arch | None
    """None if unknown: plain and option-A networks have the same tensors."""
    shortcut: Shortcut | None
    """None if `arch` is."""
    config: RunConfig | None
    """Configuration that trained the network; only in files of this tool."""
    normalization: tuple[Triple, Triple] | None
    """Per-channel mean and std of the training images (pixels in [0, 1]); None if the file does not determine them."""

    def resolve(
        self, *, arch: Arch | None = None, depth: int | None = None, shortcut: Shortcut | None = None
    ) -> Architecture:
        """Combine the file with the user's options into one architecture.

        Args:
            arch: value of `--arch`; None if it was not given, like the next two.
            depth: value of `--depth`.
            shortcut: value of `--shortcut`.

        Raises:
            UsageError: an option contradicts the file or another option, or a missing one is needed.
        """
        if depth is not None and depth != self.depth:
            raise self._contradiction(f"--depth {depth}")
        if arch and shortcut and (arch == "plain") != (shortcut == "none"):
            raise UsageError(
                f"--shortcut {shortcut} does not fit --arch {arch}; plain networks have none, residual ones A or B"
            )
        if self.may_be_plain_or_residual and shortcut and not arch:
            arch = "plain" if shortcut == "none" else "resnet"
        if arch and arch != self.arch and not self.may_be_plain_or_residual:
            raise self._contradiction(f"--arch {arch}")
        arch = arch or self.arch
        if arch is None:
            raise UsageError(
                f"{self.path} could be a plain or an option-A residual network: both have the same tensors",
                hint="add --arch plain or --arch resnet",
            )
        fitting: Shortcut = "none" if arch == "plain" else (self.shortcut or "A")
        if shortcut and shortcut != fitting:
            raise self._contradiction(f"--shortcut {shortcut}")
        return Architecture(arch, self.depth, fitting, self.num_classes)

    @property
    def may_be_plain_or_residual(self) -> bool:
        """Whether `--arch` can choose: the tensors fit both architectures and no metadata decides."""
        # akamaster publishes residual networks only, so `arch` is set, but users may have trained plain ones with it
        return self.arch is None or self.format == "akamaster"

    def build(self, architecture: Architecture) -> CifarNet:
        """Build the network with these weights, on the CPU in eval mode; `architecture` comes from `resolve`."""
        with torch.device("meta"):
            model = CifarNet(architecture.depth, architecture.shortcut, architecture.num_classes)
        model.load_state_dict(self.state_dict, strict=True, assign=True)
        return model.eval()

    def _contradiction(self, option: str) -> UsageError:
        if self.may_be_plain_or_residual:
            kind = "plain or option-A residual"
        else:
            kind = "plain" if self.arch == "plain" else "residual"
        shortcut = f" with shortcut {self.shortcut}" if kind == "residual" else ""
        return UsageError(
            f"{option} contradicts {self.path}, a {kind} network of {self.depth} layers{shortcut}",
            hint=f"omit {option.split(maxsplit=1)[0]}",
        )


def read_weights(path: Path) -> WeightFile:
    """Read a weight file and recognise its architecture by names and shapes.

    Supported are safetensors and PyTorch files (zip and legacy) of this tool, of akamaster/pytorch_resnet_cifar10 and
    of chenyaofo/pytorch-cifar-models, and other state dicts with the same names: bare or under `state_dict`,
    `model_state_dict`, `model` or `net`; with or without `module.` and `_orig_mod.`; with `fc` or `linear` as the last
    layer and `downsample` or `shortcut` for projections.

    Raises:
        InputError: the file is unreadable, damaged or unsafe, or contains another network; the message says what was
            found and what was expected.
    """
    content = read_content(path)
    if content.metadata.get("format") == "resnet-cli checkpoint":
        raise InputError(
            f"{path} is a checkpoint for resuming, not a weight file",
            hint=f"pass the run directory, or weights/last.safetensors next to {path.parent.name}/",
        )
    found = find_state_dict(path, content.value)
    layout = find_architecture(path, found.entries)
    state_dict = validate_tensors(path, found.entries, layout)
    file_format = _recognise_format(found, layout, content.metadata)

    arch: Arch | None = "resnet" if layout.has_projection or file_format == "akamaster" else None
    shortcut: Shortcut | None = None if arch is None else "B" if layout.has_projection else "A"
    config, normalization = None, None
    if file_format == "resnet-cli":
        config, normalization = _read_metadata(path, content.metadata)
        arch, shortcut = config.arch, config.shortcut
        if (config.depth, config.shortcut == "B") != (layout.depth, layout.has_projection):
            raise InputError(f"{path} has the metadata of {config.network}, but the tensors of another network")
    elif file_format == "akamaster":
        normalization = _AKAMASTER_NORMALIZATION
    elif file_format == "chenyaofo":
        normalization = _CHENYAOFO_NORMALIZATION[layout.num_classes]
    return WeightFile(
        path, file_format, state_dict, layout.depth, layout.num_classes, arch, shortcut, config, normalization
    )


def _recognise_format(found: StateDict, layout: TensorLayout, metadata: dict[str, str]) -> WeightFormat:
    if metadata.get("format") == "resnet-cli":
        return "resnet-cli"
    if {"linear", "wrapper"} <= found.conventions and not layout.has_projection:
        return "akamaster"
    is_bare = not found.conventions and not metadata
    if is_bare and layout.has_projection and layout.num_classes in _CHENYAOFO_NORMALIZATION:
        return "chenyaofo"
    return "state-dict"


def _read_metadata(path: Path, metadata: dict[str, str]) -> tuple[RunConfig, tuple[Triple, Triple] | None]:
    """Parse configuration and channel normalisation (None for a network trained on pixel-mean images)."""
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
        if min(std) <= 0:
            raise ValueError(f"std {std} is not positive")
    except KeyError as error:
        raise InputError(f"{path}: the metadata lacks {error.args[0]}") from error
    except (ValueError, msgspec.MsgspecError, ConfigError) as error:
        raise InputError(f"{path}: the metadata cannot be read: {one_line(error)}") from error
    return config, None if config.normalization == "pixel-mean" else (mean, std)
