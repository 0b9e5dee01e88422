"""Recognition of an architecture by the names and shapes in a state dict, and validation of its tensors."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from resnet_cli.config import MAX_DEPTH, Arch, Shortcut
from resnet_cli.errors import InputError
from resnet_cli.model import CifarNet
from resnet_cli.util.text import shorten

# A ResNet-1202 has 7,220 tensors with option-B shortcuts.
_MAX_ENTRIES = 20_000
_MAX_NESTING = 4
_MAX_BLOCKS_PER_STAGE = (MAX_DEPTH - 2) // 6

# Names under which training checkpoints keep the state dict.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net")

Convention = Literal["container", "wrapper", "linear", "shortcut"]
_CONVENTIONS: tuple[tuple[Convention, re.Pattern[str], str], ...] = (
    ("wrapper", re.compile(r"\b(?:module|_orig_mod)\."), ""),  # DataParallel and torch.compile
    ("linear", re.compile(r"^linear\."), "fc."),
    ("shortcut", re.compile(r"^(layer[123]\.\d+)\.shortcut\."), r"\1.downsample."),
)

_OTHER_FAMILIES = (
    (re.compile(r"^layer4\."), "an ImageNet ResNet with four stages"),
    (re.compile(r"^layer\d\.\d+\.conv3\."), "a ResNet with bottleneck blocks"),
    (re.compile(r"^(features|classifier)\."), "a VGG-like network"),
)


class Architecture(NamedTuple):
    """Arguments that determine a network."""

    arch: Arch
    depth: int
    shortcut: Shortcut
    num_classes: int

    @property
    def name(self) -> str:
        """`plain-56`, `resnet-56` or `resnet-56-B`, as in `RunConfig.network`."""
        return f"{self.arch}-{self.depth}" + ("-B" if self.shortcut == "B" else "")


class StateDict(NamedTuple):
    """Entries of a state dict under the names of `CifarNet`, not yet validated."""

    entries: dict[str, Any]
    conventions: set[Convention]
    """Differences from a bare state dict with the names of `CifarNet`: nested in a container, prefixes of a wrapper,
    or other names of `fc` (linear) and `downsample` (shortcut)."""


def find_state_dict(path: Path, content: Any) -> StateDict:
    """Find the state dict in the content of a file.

    Raises:
        InputError: the file contains no state dict or several, a too large one, or two entries of one name.
    """
    conventions: set[Convention] = set()
    for _ in range(_MAX_NESTING):
        if not isinstance(content, dict):
            raise InputError(f"{path} contains a {type(content).__name__}; expected a state dict (names and tensors)")
        if len(content) > _MAX_ENTRIES:
            raise InputError(f"{path} has {len(content):,} entries; expected at most {_MAX_ENTRIES:,}")
        entries = dict(dict.items(content))  # a pickle may replace the methods of an OrderedDict
        inner = [name for name in _CONTAINERS if isinstance(entries.get(name), dict)]
        if len(inner) > 1:
            names = ", ".join(inner)
            raise InputError(f"{path} contains several state dicts: {names}", hint="save one of them to its own file")
        if not inner:
            return _with_our_names(path, entries, conventions)
        content = entries[inner[0]]
        conventions.add("container")
    raise InputError(f"{path} nests its state dict more than {_MAX_NESTING - 1} levels deep", hint="save it directly")


def _with_our_names(path: Path, raw: dict[Any, Any], conventions: set[Convention]) -> StateDict:
    entries: dict[str, Any] = {}
    for key, value in raw.items():
        if not isinstance(key, str):
            raise _unknown_network(path, f"a name of type {type(key).__name__}")
        name = key
        for convention, theirs, ours in _CONVENTIONS:
            name, count = theirs.subn(ours, name)
            if count:
                conventions.add(convention)
        if name in entries:
            raise InputError(f"{path} contains {shorten(name, 60)} twice, under different names")
        entries[name] = value
    return StateDict(entries, conventions)


def find_architectures(path: Path, entries: dict[str, Any]) -> tuple[Architecture, ...]:
    """Find the architectures with the names in a state dict and the shape of its `fc.weight`.

    Returns:
        One architecture, or an option-A residual and a plain network, which have the same tensors.

    Raises:
        InputError: the names are not those of a CIFAR network; the message lists what was found.
    """
    for pattern, family in _OTHER_FAMILIES:
        if found := next(filter(pattern.match, entries), None):
            raise _unknown_network(path, f"{shorten(found, 60)} ({family})")
    num_blocks = [0, 0, 0]
    for name in entries:
        if match := re.match(r"^layer([123])\.(\d{1,4})\.", name):
            stage = int(match[1]) - 1
            num_blocks[stage] = max(num_blocks[stage], int(match[2]) + 1)
    if not all(num_blocks):
        raise _unknown_network(path, _first_of(entries) or "no tensors")
    if len(set(num_blocks)) > 1 or num_blocks[0] > _MAX_BLOCKS_PER_STAGE:
        raise _unknown_network(path, "stages of {}, {} and {} blocks".format(*num_blocks))
    weight = _dense(path, "fc.weight", entries["fc.weight"]) if "fc.weight" in entries else None
    if weight is None or weight.ndim != 2:
        raise _unknown_network(path, "no matrix fc.weight or linear.weight")
    depth, num_classes = 6 * num_blocks[0] + 2, weight.shape[0]
    if any(".downsample." in name for name in entries):
        return (Architecture("resnet", depth, "B", num_classes),)
    return Architecture("resnet", depth, "A", num_classes), Architecture("plain", depth, "none", num_classes)


def build_without_memory(architecture: Architecture) -> CifarNet:
    """Build a network whose parameters have shapes but no values."""
    with torch.device("meta"):
        return CifarNet(architecture.depth, architecture.shortcut, architecture.num_classes)


def validate_tensors(path: Path, entries: dict[str, Any], architecture: Architecture) -> dict[str, Tensor]:
    """Check and convert the tensors of a network.

    Returns:
        The tensors in the order of `CifarNet.state_dict`, in float32 (the counters of batch normalisation in int64),
        each with its own memory.

    Raises:
        InputError: a tensor is missing, unexpected, not finite, or of another shape or type; the message names it.
    """
    network = f"a network of {architecture.depth} layers" + (
        " with projections" if architecture.shortcut == "B" else ""
    )
    expected = build_without_memory(architecture).state_dict()
    # PyTorch before 0.4.1 stored no counters, and evaluation does not use them
    counters = [name for name in expected if name.endswith(".num_batches_tracked")]
    entries = dict.fromkeys(counters, torch.zeros((), dtype=torch.int64)) | entries
    if missing := [name for name in expected if name not in entries]:
        raise InputError(f"{path} lacks {_first_of(missing)} of {network}")
    if unexpected := [name for name in entries if name not in expected]:
        raise InputError(f"{path} contains {_first_of(unexpected)}, which {network} does not have")
    return {name: _convert(path, name, entries[name], like) for name, like in expected.items()}


def _convert(path: Path, name: str, value: Any, like: Tensor) -> Tensor:
    tensor = _dense(path, name, value)
    if tensor.shape != like.shape:
        raise InputError(f"{path}: {name} has shape {_times(tensor.shape)}; expected {_times(like.shape)}")
    if like.dtype == torch.int64:
        return tensor.to(torch.int64, copy=True)
    if not tensor.is_floating_point():
        raise InputError(f"{path}: {name} has type {tensor.dtype}; expected floating-point numbers")
    single = tensor.to(torch.float32, copy=True).contiguous()
    if not torch.isfinite(single).all():
        raise InputError(f"{path}: {name} contains values that are not finite in float32; the training diverged")
    if name.endswith(".running_var") and bool((single < 0).any()):
        raise InputError(f"{path}: {name} contains a negative variance")
    return single


def _dense(path: Path, name: str, value: Any) -> Tensor:
    """Return `value` without the attributes that a pickle may have given it."""
    if not isinstance(value, Tensor):
        raise InputError(f"{path}: {name} is a {type(value).__name__}; expected a tensor")
    tensor = Tensor.detach(value)
    # a view that claims more elements than its storage holds could fill the memory
    if (
        tensor.layout != torch.strided
        or tensor.is_nested
        or tensor.is_meta
        or tensor.is_quantized
        or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size()
    ):
        raise InputError(f"{path}: {name} is not an ordinary dense tensor")
    return tensor


def _unknown_network(path: Path, found: str) -> InputError:
    return InputError(
        f"{path}: found {found}; expected a CIFAR network of 6n+2 layers, "
        "with conv1, bn1, n blocks in each of layer1, layer2 and layer3, and fc or linear"
    )


def _first_of(names: Iterable[str]) -> str:
    """The first few names and the number of the others."""
    listed = list(names)
    more = len(listed) - 3
    return ", ".join(shorten(name, 60) for name in listed[:3]) + (f" and {more} more" if more > 0 else "")


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "() (a scalar)"
