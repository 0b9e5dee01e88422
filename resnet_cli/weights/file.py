"""One weight file: its format, its tensors, and which network they are of."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from resnet_cli.config import Arch, RunConfig, Shortcut
from resnet_cli.errors import ConfigError, InputError, UsageError
from resnet_cli.model import CifarNet
from resnet_cli.util import checksum
from resnet_cli.weights.architecture import Shape, StateDict, check_tensors, find_architecture, find_state_dict
from resnet_cli.weights.content import read_content

WeightFormat = Literal["resnet-cli", "akamaster", "chenyaofo", "state-dict"]
Triple = tuple[float, float, float]

SCHEMA_VERSION = 2
"""Of our metadata. 1 had no checksum; since 2 a file without one has lost it."""

# Mean and std that the published networks were trained with.
# github.com/akamaster/pytorch_resnet_cifar10, trainer.py
_AKAMASTER_NORMALIZATION: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# github.com/chenyaofo/pytorch-cifar-models, logs/cifar10/resnet20 and logs/cifar100/resnet20; by number of classes
_CHENYAOFO_NORMALIZATION: dict[int, tuple[Triple, Triple]] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    100: ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}


class Network(NamedTuple):
    """What a network is built from."""

    arch: Arch
    depth: int
    shortcut: Shortcut
    num_classes: int

    @property
    def name(self) -> str:
        """`plain-56`, `resnet-56` or `resnet-56-B`, as `RunConfig.network`."""
        return f"{self.arch}-{self.depth}" + ("-B" if self.shortcut == "B" else "")


class WeightFile(NamedTuple):
    """The weights of one network and what their file says of it."""

    path: Path
    format: WeightFormat
    state_dict: dict[str, Tensor]
    """By the names of `CifarNet`, on the CPU; float32, except the int64 counters of batch normalisation."""
    depth: int
    num_classes: int
    arch: Arch | None
    """None: plain and option-A networks have the same tensors, and nothing else tells which this is."""
    shortcut: Shortcut | None
    """None when `arch` is."""
    config: RunConfig | None
    """What trained it, when it is a file of this tool."""
    normalization: tuple[Triple, Triple] | None
    """Channel mean and std that it was trained with, of pixels scaled to 0 … 1, where the format tells."""
    metadata: dict[str, str]
    """Of a safetensors file."""

    def resolve(
        self, *, arch: Arch | None = None, depth: int | None = None, shortcut: Shortcut | None = None
    ) -> Network:
        """Settle which network this is, from the file and from what the user says of it.

        Args:
            arch: as given by the user; None: not given.
            depth: the same.
            shortcut: the same; `none`, `A` or `B`.

        Raises:
            UsageError: something given contradicts the file, or what the file leaves open was not given.
        """
        if depth is not None and depth != self.depth:
            raise self._contradiction(f"--depth {depth}")
        if arch and shortcut and (arch == "plain") != (shortcut == "none"):
            raise UsageError(
                f"--shortcut {shortcut} does not fit --arch {arch}: a plain network has none, a residual one A or B"
            )
        if self.is_open and shortcut and not arch:
            arch = "plain" if shortcut == "none" else "resnet"
        if arch and arch != self.arch and not self.is_open:
            raise self._contradiction(f"--arch {arch}")
        arch = arch or self.arch
        if arch is None:
            raise UsageError(
                f"{self.path} may be a plain or an option-A residual network: their tensors are alike",
                hint="say which with --arch plain or --arch resnet",
            )
        fitting: Shortcut = "none" if arch == "plain" else (self.shortcut or "A")
        if shortcut and shortcut != fitting:
            raise self._contradiction(f"--shortcut {shortcut}")
        return Network(arch, self.depth, fitting, self.num_classes)

    @property
    def is_open(self) -> bool:
        """Whether the tensors fit a plain network as well, and no metadata says what this is."""
        # akamaster publishes residual networks only, so its files need no --arch; a plain one of that code looks alike
        return self.arch is None or self.format == "akamaster"

    def build(self, network: Network) -> CifarNet:
        """The network with these weights, on the CPU in eval mode; `network` comes from `resolve`."""
        with torch.device("meta"):
            model = CifarNet(network.depth, network.shortcut, network.num_classes)
        model.load_state_dict(self.state_dict, strict=True, assign=True)
        return model.eval()

    def _contradiction(self, option: str) -> UsageError:
        kind = "plain or option-A residual" if self.is_open else "plain" if self.arch == "plain" else "residual"
        shortcut = f" with shortcut {self.shortcut}" if kind == "residual" else ""
        return UsageError(
            f"{option} contradicts {self.path}, a {kind} network of {self.depth} layers{shortcut}",
            hint=f"leave out {option.split(maxsplit=1)[0]}",
        )


def read_weights(path: Path) -> WeightFile:
    """Read a weight file and find_architecture its network by names and shapes.

    Understood are safetensors and PyTorch files (zip and legacy): those of this tool, of
    akamaster/pytorch_resnet_cifar10 and of chenyaofo/pytorch-cifar-models, and other state dicts with
    these names, bare or under `state_dict`, `model_state_dict`, `model` or `net`, with or without
    `module.` and `_orig_mod.`, the last layer named `fc` or `linear`, projections `downsample` or `shortcut`.

    Raises:
        InputError: the file cannot be read, is damaged, needs code to be run, or holds another network;
            the message says what was found and what was expected.
    """
    content = read_content(path)
    _refuse_checkpoint(path, content.metadata)
    found = find_state_dict(path, content.value)
    shape = find_architecture(path, found.entries)
    state_dict = check_tensors(path, found.entries, shape)
    file_format = _format(found, shape, content.metadata)

    arch: Arch | None = "resnet" if shape.has_projection or file_format == "akamaster" else None
    shortcut: Shortcut | None = None if arch is None else "B" if shape.has_projection else "A"
    normalization = {
        "akamaster": _AKAMASTER_NORMALIZATION,
        "chenyaofo": _CHENYAOFO_NORMALIZATION.get(shape.num_classes),
    }.get(file_format)
    config = None
    if file_format == "resnet-cli":
        config, normalization = _own_metadata(path, content.metadata)
        arch, shortcut = config.arch, config.shortcut
        if (config.depth, config.shortcut == "B") != (shape.depth, shape.has_projection):
            raise InputError(f"{path} is {config.network} by its metadata, but not by its tensors")
    return WeightFile(
        path, file_format, state_dict, shape.depth, shape.num_classes, arch, shortcut, config, normalization,
        content.metadata,
    )  # fmt: skip


def _format(found: StateDict, shape: Shape, metadata: dict[str, str]) -> WeightFormat:
    if metadata.get("format") == "resnet-cli":
        return "resnet-cli"
    if found.has_linear and found.is_wrapped and not shape.has_projection:
        return "akamaster"
    if shape.has_projection and not any(found[1:]) and not metadata and shape.num_classes in _CHENYAOFO_NORMALIZATION:
        return "chenyaofo"
    return "state-dict"


def _refuse_checkpoint(path: Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") == "resnet-cli checkpoint":
        raise InputError(
            f"{path} is what a run resumes from, not a weight file",
            hint=f"evaluate the run, or weights/last.safetensors beside {path.parent.name}/",
        )


def _own_metadata(path: Path, metadata: dict[str, str]) -> tuple[RunConfig, tuple[Triple, Triple] | None]:
    """Configuration and channel normalisation; no normalisation for a network trained on pixel-mean images."""
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
        raise InputError(f"{path}: its metadata lacks {error.args[0]}") from error
    except (ValueError, msgspec.MsgspecError, ConfigError) as error:
        raise InputError(f"{path}: its metadata cannot be read: {str(error)[:200]}") from error
    return config, None if config.normalization == "pixel-mean" else (mean, std)
