"""Configuration of one run: all settings that affect its numbers, as validated, hashable plain data."""

import hashlib
import re
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from resnet_cli.errors import ConfigError
from resnet_cli.util.text import shorten

Arch = Literal["plain", "resnet"]
Shortcut = Literal["none", "A", "B"]
DatasetName = Literal["cifar10", "cifar100", "imagefolder", "digits"]
Augment = Literal["none", "crop", "crop-flip"]
Normalization = Literal["channel", "pixel-mean"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
CompileMode = Literal["auto", "on", "off"]
Device = Literal["auto", "cpu", "cuda", "mps"]

MIN_DEPTH, MAX_DEPTH = 8, 1202


def check_depth(depth: int) -> int:
    """Return `depth` when it is 6n+2 and between 8 and 1202, else raise `ConfigError` with the nearest valid depths.

    Source: He et al. 2015 (arXiv 1512.03385), section 4.2: "a total of 6n+2 stacked weighted layers".
    """
    if MIN_DEPTH <= depth <= MAX_DEPTH and (depth - 2) % 6 == 0:
        return depth
    below = (depth - 2) // 6 * 6 + 2
    nearest = sorted({min(max(d, MIN_DEPTH), MAX_DEPTH) for d in (below, below + 6)})
    raise ConfigError(
        f"--depth {depth} is not 6n+2 between {MIN_DEPTH} and {MAX_DEPTH}",
        hint=f"use --depth {' or '.join(map(str, nearest))}",
    )


def _meta(help_text: str, low: float | None = None, high: float | None = None) -> Meta:
    """Help text and inclusive bounds of a field."""
    return Meta(description=help_text, ge=low, le=high)


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Network, data, training recipe and device settings of one run.

    Two runs with equal configurations on the same machine give the same numbers. Folders and the
    checkpoint interval are not part of it (see `RunOptions`). The types carry the bounds of each
    field and the help text of its command-line option. Upper bounds only catch typing errors.
    Raises `ConfigError`, naming the field, for invalid values.
    """

    recipe: Annotated[str, _meta("Name of the recipe that supplied the defaults.")]
    arch: Annotated[Arch, _meta("Architecture: plain or residual.")]
    depth: Annotated[int, _meta("Number of weighted layers, 6n+2: 8, 14, 20, …, 1202.")]
    shortcut: Annotated[
        Shortcut,
        _meta(
            "Shortcut where the shape changes: A (identity with zero-padding) or B (1×1 projection); none for plain "
            "networks (default: A for residual networks)."
        ),
    ]

    # arrays: images that a Python program passes to `train`; not available on the command line
    dataset: Annotated[Literal[DatasetName, "arrays"], _meta("Dataset to train on (default: from the recipe).")]
    limit_train: (
        Annotated[int, _meta("Use a class-balanced subset of N training images (none: all).", 1, 10**9)] | None
    ) = None
    limit_test: Annotated[int, _meta("Use a class-balanced subset of N test images (none: all).", 1, 10**9)] | None = (
        None
    )
    val_size: Annotated[int, _meta("Hold out N training images for validation, balanced by class.", 0, 10**9)] = 0
    augment: Annotated[
        Augment, _meta("crop: zero-pad by 4 and crop at random; crop-flip: also flip horizontally at random.")
    ] = "crop-flip"
    normalization: Annotated[
        Normalization,
        _meta("channel: per-channel mean and standard deviation; pixel-mean: subtract the mean image."),
    ] = "channel"

    epochs: Annotated[int, _meta("Training length in epochs.", 1, 10**6)] | None
    steps: Annotated[int, _meta("Training length in optimizer steps (instead of --epochs).", 1, 10**9)] | None = None
    # batch normalisation has no variance over one image
    batch_size: Annotated[int, _meta("Number of images per step.", 2, 10**6)]
    lr: Annotated[float, _meta("Initial learning rate.", 0.0, 1e6)]
    momentum: Annotated[float, _meta("SGD momentum.", 0.0, 0.9999)]
    weight_decay: Annotated[float, _meta("Weight decay, applied to all parameters as in He et al.", 0.0, 1.0)]
    milestones: Annotated[
        tuple[int, ...],
        _meta("Epochs (with --steps: steps) at which the learning rate drops; 'none' for a constant rate."),
    ]
    lr_decay: Annotated[float, _meta("Multiply the learning rate by X at each milestone.", 1e-6, 1.0)] = 0.1
    warmup_steps: Annotated[int, _meta("Number of warm-up steps at the constant rate --warmup-lr.", 0, 10**9)] = 0
    warmup_lr: Annotated[float, _meta("Learning rate during warm-up.", 0.0, 1e6)] = 0.01

    seed: Annotated[
        int,
        _meta("Seed for initial weights, data order, augmentation and validation split (default: 0).", 0, 2**63 - 1),
    ] = 0
    precision: Annotated[
        Precision, _meta("Numeric precision (default: auto, tf32 on NVIDIA GPUs that support it, fp32 elsewhere).")
    ] = "auto"
    compile: Annotated[
        CompileMode, _meta("Use torch.compile (default: auto: on a CPU if it saves more than it costs, off on a GPU).")
    ] = "auto"
    device: Annotated[Device, _meta("Device to compute on (default: auto, the fastest available).")] = "auto"
    deterministic: Annotated[bool, _meta("Use deterministic GPU kernels (CPU runs are always deterministic).")] = False
    sync_bn: Annotated[
        bool,
        _meta("Under torchrun, normalise by the statistics of the whole batch, not of each process's part."),
    ] = False
    clean_train_every: Annotated[
        int,
        _meta("Evaluate the un-augmented training images every N epochs (0: only at the end).", 0, 10**6),
    ] = 10
    clean_train_images: Annotated[
        int, _meta("In every evaluation but the last, use only N un-augmented training images (0: all).", 0, 10**9)
    ] = 0
    gradflow_every: Annotated[
        int, _meta("Measure gradient flow before training and every N epochs (0: never).", 0, 10**6)
    ] = 0

    def __post_init__(self) -> None:
        for name in FIELDS:
            check_field(name, getattr(self, name))
        check_depth(self.depth)
        if (self.arch == "plain") != (self.shortcut == "none"):
            raise ConfigError(
                f"--shortcut {self.shortcut!r} does not fit --arch {self.arch!r}: "
                "plain networks have none, residual networks have A or B"
            )
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("--epochs and --steps are mutually exclusive: give one of them")
        if any(m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(
                f"--milestones must be positive and increasing (got {','.join(map(str, self.milestones))})"
            )

    @property
    def network(self) -> str:
        """Short name of the network: `plain-56`, `resnet-56` or `resnet-56-B`."""
        return f"{self.arch}-{self.depth}" + ("-B" if self.shortcut == "B" else "")

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields; equal exactly for equal configurations.

        Fields of later versions count from the moment they differ from their default, so that fingerprints last.
        """
        # + 0.0 maps values that compare equal (1 and 1.0, 0.0 and -0.0) to the same text
        values = {name: value + 0.0 if FIELDS[name].kind is float else value for name, value in self.to_dict().items()}
        if not self.sync_bn:
            del values["sync_bn"]
        return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types, the input of `RunConfig.from_dict`."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Build a configuration from plain data; raises `ConfigError` for missing, unknown or invalid fields."""
        if not isinstance(values, dict):
            raise ConfigError(f"a configuration must be an object (got {shorten(repr(values))})")
        for name in FIELDS:
            if name in values:
                check_field(name, values[name])
        try:
            return msgspec.convert(values, cls)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise ConfigError(f"invalid configuration: {error}") from error

    def diff(self, other: "RunConfig") -> list[str]:
        """The fields in which `other` differs, each as `name: ours → theirs`."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]} → {theirs[name]}" for name in mine if mine[name] != theirs[name]]


class Field(NamedTuple):
    """Type of one field of `RunConfig`."""

    kind: Any
    """`int`, `float`, `bool`, `str`, `tuple[int, ...]` or a Literal."""
    meta: Meta
    """Bounds and description."""
    is_optional: bool
    """Whether the field may be None."""


def _field(hint: Any) -> Field:
    is_optional = type(None) in get_args(hint)
    kind, meta = get_args(get_args(hint)[0] if is_optional else hint)
    return Field(kind, meta, is_optional)


FIELDS = {name: _field(hint) for name, hint in get_type_hints(RunConfig, include_extras=True).items()}
"""The fields of `RunConfig`, in order."""


def check_field(name: str, value: Any) -> None:
    """Raise `ConfigError` unless `value` has the type of field `name` and is within its choices or bounds."""
    kind, meta, is_optional = FIELDS[name]
    if value is None and is_optional:
        return
    problem = None
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            problem = f"must be one of {', '.join(get_args(kind))}"
    elif kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | kind):
            problem = "must be a whole number" if kind is int else "must be a number"
        elif meta.ge is not None and meta.le is not None and not meta.ge <= value <= meta.le:
            problem = f"must be between {_short(meta.ge)} and {_short(meta.le)}"
    elif kind in (bool, str):
        if not isinstance(value, kind):
            problem = "must be text" if kind is str else "must be true or false"
    elif not isinstance(value, list | tuple) or any(type(item) is not int for item in value):
        problem = "must be a list of whole numbers"
    if problem:
        raise ConfigError(f"--{name.replace('_', '-')} {problem} (got {shorten(repr(value))})")


def _short(bound: float) -> str:
    """A bound as a user would type it: `1e6`, `1e-6`, `0.9999`, `1000000`."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}".replace("e+0", "e").replace("e-0", "e-")


class SaveEvery(msgspec.Struct, frozen=True):
    """Checkpoint interval: every `amount` of `unit`."""

    amount: float
    unit: Literal["epochs", "steps", "minutes"]

    @classmethod
    def parse(cls, text: str) -> "SaveEvery":
        """Read `2` or `2epochs`, `500steps`, `10min`; raises `ConfigError` for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ep|epochs?|steps?|min|minutes?)?", text.strip())
        units: dict[str, Literal["epochs", "steps", "minutes"]] = {"e": "epochs", "s": "steps", "m": "minutes"}
        if match:
            unit = units[(match[2] or "e")[0]]
            amount = float(match[1])
            if amount > 0 and (unit == "minutes" or amount.is_integer()):
                return cls(amount=amount, unit=unit)
        raise ConfigError(f"--save-every {text!r} is not a valid interval", hint="use 1epoch, 500steps or 10min")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that may differ between two attempts of one run without changing its numbers."""

    data_dir: str | None = None
    """Folder of the dataset; None: `$RESNET_DATA`, else the user's cache folder."""
    save_every: SaveEvery = SaveEvery(1, "epochs")
    cuda_graph: bool = False
    """Launch each step as one CUDA graph, on a GPU. Off by default: not tested on a GPU yet."""
