"""Which network a state dict belongs to, by the names and shapes of its tensors, and whether it is whole."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from resnet_cli.config import MAX_DEPTH
from resnet_cli.errors import InputError
from resnet_cli.model import CifarNet

_MAX_BLOCKS = (MAX_DEPTH - 2) // 6

# Names under which training checkpoints keep the state dict.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
# What DataParallel and torch.compile put into the path of a tensor.
_WRAPPERS = ("module", "_orig_mod")
# Other projects' names of our layers.
_LINEAR = re.compile(r"^linear\.")
_SHORTCUT = re.compile(r"^(layer[123]\.\d+)\.shortcut\.")

# What other networks can be told by, in the order of asking.
_STRANGERS = (
    (re.compile(r"^layer4\."), "an ImageNet ResNet of four stages"),
    (re.compile(r"^layer\d\.\d+\.conv3\."), "a ResNet of bottleneck blocks"),
    (re.compile(r"^(features|classifier)\."), "a VGG-like network"),
)


class StateDict(NamedTuple):
    """The entries of a state dict by our names, and how they were named."""

    entries: dict[str, Any]
    is_contained: bool
    """It lay in a checkpoint under a name such as `state_dict`."""
    is_wrapped: bool
    """Names carried `module` or `_orig_mod`."""
    has_linear: bool
    """The last layer was called `linear`."""
    has_shortcut: bool
    """The projections were called `shortcut`."""


class Shape(NamedTuple):
    """What names and shapes say of a network."""

    depth: int
    has_projection: bool
    num_classes: int


def find_state_dict(path: Path, content: Any) -> StateDict:
    """The state dict in the content of a file, by our names.

    Raises:
        InputError: there is none, there are several, or two entries have the same name.
    """
    is_contained = False
    while isinstance(content, Mapping):
        inner = [name for name in _CONTAINERS if isinstance(content.get(name), Mapping)]
        if len(inner) > 1:
            raise InputError(f"{path} holds several state dicts: {', '.join(inner)}", hint="save the one to use alone")
        if not inner:
            return _rename(path, content, is_contained)
        content, is_contained = content[inner[0]], True
    raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict: names and tensors")


def _rename(path: Path, raw: Mapping[Any, Any], is_contained: bool) -> StateDict:
    entries: dict[str, Any] = {}
    counts = [0, 0, 0]
    for key, value in raw.items():
        parts = str(key).split(".")
        bare = [part for part in parts if part not in _WRAPPERS]
        name, is_linear = _LINEAR.subn("fc.", ".".join(bare))
        name, is_shortcut = _SHORTCUT.subn(r"\1.downsample.", name)
        if name in entries:
            raise InputError(f"{path} holds {_cut(name)} twice, under different names")
        entries[name] = value
        counts = [n + found for n, found in zip(counts, (len(parts) > len(bare), is_linear, is_shortcut), strict=True)]
    return StateDict(entries, is_contained, *map(bool, counts))


def find_architecture(path: Path, entries: Mapping[str, Any]) -> Shape:
    """Depth, projections and number of classes.

    Raises:
        InputError: these are not the names of a CIFAR network; the message says what was found.
    """
    for pattern, stranger in _STRANGERS:
        if found := next(filter(pattern.match, entries), None):
            raise _not_ours(path, f"{_cut(found)}: {stranger}")
    blocks = [0, 0, 0]
    for name in entries:
        if match := re.match(r"^layer([123])\.(\d{1,4})\.", name):
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
    if not all(blocks):
        raise _not_ours(path, _some(entries) or "nothing")
    if len(set(blocks)) > 1 or blocks[0] > _MAX_BLOCKS:
        raise _not_ours(path, f"stages of {blocks[0]}, {blocks[1]} and {blocks[2]} blocks")
    weight = entries.get("fc.weight")
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise _not_ours(path, "no matrix fc.weight or linear.weight")
    return Shape(6 * blocks[0] + 2, any(".downsample." in name for name in entries), weight.shape[0])


def check_tensors(path: Path, entries: Mapping[str, Any], shape: Shape) -> dict[str, Tensor]:
    """The tensors of the recognised network in its own order, in float32 (the counters of BN in int64).

    Raises:
        InputError: a tensor is missing, unexpected, of another shape or kind, or not finite; the message names it.
    """
    network = f"a {shape.depth}-layer network" + (" with projections" if shape.has_projection else "")
    with torch.device("meta"):
        expected = CifarNet(shape.depth, "B" if shape.has_projection else "A", shape.num_classes).state_dict()
    # PyTorch before 0.4.1 kept no counters, and evaluation does not use them
    counters = {name for name in expected if name.endswith(".num_batches_tracked")}
    if missing := [name for name in expected if name not in entries and name not in counters]:
        raise InputError(f"{path} lacks {_some(missing)} of {network}")
    if unexpected := [name for name in entries if name not in expected]:
        raise InputError(f"{path} holds {_some(unexpected)}, which {network} does not have")
    zero = torch.zeros((), dtype=torch.int64)
    return {
        name: _dense(path, name, entries.get(name, zero), ()).to(torch.int64, copy=True)
        if name in counters
        else _weight(path, name, entries[name], tuple(like.shape))
        for name, like in expected.items()
    }


def _weight(path: Path, name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    tensor = _dense(path, name, value, shape)
    if not tensor.is_floating_point():
        raise InputError(f"{path}: {name} is of type {tensor.dtype}; expected floating-point numbers")
    single = tensor.to(torch.float32, copy=True).contiguous()  # a copy: names may share memory
    if not torch.isfinite(single).all():
        raise InputError(f"{path}: {name} holds numbers that are not finite in float32: the training diverged")
    if name.endswith(".running_var") and bool((single < 0).any()):
        raise InputError(f"{path}: {name} holds a negative variance")
    return single


def _dense(path: Path, name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(f"{path}: {name} is a {type(value).__name__}; expected a tensor")
    if tuple(value.shape) != shape:
        raise InputError(f"{path}: {name} is {_by(value.shape)}; expected {_by(shape)}")
    # the last: a view that claims more numbers than its storage holds could fill the memory
    if (
        value.layout != torch.strided
        or value.is_meta
        or value.is_quantized
        or value.untyped_storage().nbytes() < value.numel() * value.element_size()
    ):
        raise InputError(f"{path}: {name} is not an ordinary dense tensor")
    return value.detach()


def _not_ours(path: Path, found: str) -> InputError:
    return InputError(
        f"{path}: found {found}; expected a CIFAR network of 6n+2 layers, "
        "with conv1, bn1, n blocks in each of layer1, layer2 and layer3, and fc or linear"
    )


def _some(names: Iterable[str], most: int = 3) -> str:
    """The first few names and how many more there are."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(map(_cut, listed[:most])) + (f" and {more} more" if more > 0 else "")


def _cut(name: str, most: int = 60) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _by(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "a scalar"
