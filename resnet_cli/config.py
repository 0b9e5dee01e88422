"""The configuration of one run: everything that decides its numbers, validated, hashable, as plain data."""

import hashlib
import re
from typing import Any, Literal, get_args

import msgspec

from resnet_cli.errors import ConfigError

Arch = Literal["plain", "resnet"]
Shortcut = Literal["none", "A", "B"]
DatasetName = Literal["cifar10", "cifar100", "imagefolder", "digits"]
Augment = Literal["none", "crop", "crop-flip"]
Normalization = Literal["channel", "pixel-mean"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
CompileMode = Literal["auto", "on", "off"]
Device = Literal["auto", "cpu", "cuda", "mps"]

MIN_DEPTH, MAX_DEPTH = 8, 1202


def choices(literal: Any) -> tuple[str, ...]:
    """The values that one of the Literal types above admits, in order."""
    return get_args(literal)


def check_depth(depth: int) -> int:
    """Return `depth` when it is 6n+2 within 8 … 1202, else raise `ConfigError` naming the nearest valid depths.

    Source: He et al. 2015 (arXiv 1512.03385), section 4.2: "a total of 6n+2 stacked weighted layers".
    """
    if MIN_DEPTH <= depth <= MAX_DEPTH and (depth - 2) % 6 == 0:
        return depth
    below = (depth - 2) // 6 * 6 + 2
    nearest = sorted({min(max(d, MIN_DEPTH), MAX_DEPTH) for d in (below, below + 6)})
    raise ConfigError(
        f"depth {depth} is not 6n+2 between {MIN_DEPTH} and {MAX_DEPTH}",
        hint=f"use --depth {' or '.join(map(str, nearest))}",
    )


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run trains, on what, and how.

    Two runs with equal configurations on the same machine give the same numbers. Where the
    files lie and how often a checkpoint is written is not part of it (see `RunOptions`).
    Raises `ConfigError`, naming the field, when a value cannot be run.
    """

    recipe: str
    """Name of the recipe that the defaults came from."""
    arch: Arch
    """`plain` or `resnet`."""
    depth: int
    """Number of weighted layers, 6n+2."""
    shortcut: Shortcut
    """`none` for plain networks; `A` identity and zero-padding, `B` 1×1 projection where the shape changes."""

    dataset: DatasetName
    limit_train: int | None = None
    """Number of training images to keep, a fixed stratified subset; None keeps all."""
    limit_test: int | None = None
    """Number of test images to keep, a fixed stratified subset; None keeps all."""
    val_size: int = 0
    """Number of training images split off for validation, stratified; the split depends on `seed`."""
    augment: Augment = "crop-flip"
    """`crop`: zero-pad 4, random crop; `crop-flip`: the same and a horizontal flip with probability ½."""
    normalization: Normalization = "channel"
    """`channel`: (x − mean) / std per channel; `pixel-mean`: x − mean image of the training set."""

    epochs: int | None
    """Length in epochs; None when `steps` gives it."""
    steps: int | None = None
    """Length in optimizer steps; None when `epochs` gives it."""
    batch_size: int
    """Images per step."""
    lr: float
    """Initial learning rate."""
    momentum: float
    weight_decay: float
    """L2 coefficient, on all parameters (He et al. exempt none; BN and biases are included)."""
    milestones: tuple[int, ...]
    """Where lr is multiplied by `lr_decay`; in epochs when `epochs` is set, in steps when `steps` is."""
    lr_decay: float = 0.1
    warmup_steps: int = 0
    """Number of first steps at the constant `warmup_lr`."""
    warmup_lr: float = 0.01

    seed: int = 0
    precision: Precision = "auto"
    compile: CompileMode = "auto"
    device: Device = "auto"
    deterministic: bool = False
    """Ask for deterministic kernels (CPU training is deterministic without it)."""
    clean_train_every: int = 10
    """Measure clean training error every this many epochs, and at the end; 0: at the end only."""
    gradflow_every: int = 0
    """Record per-layer gradient norms every this many epochs; 0: never."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        check_depth(self.depth)
        if (self.arch == "plain") != (self.shortcut == "none"):
            raise ConfigError(
                f"shortcut {self.shortcut!r} does not fit arch {self.arch!r}: "
                "a plain network has none, a residual network A or B"
            )
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("exactly one of epochs and steps gives the length of a run")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} must be between {low} and {high}, not {value}")
        if any(m < 1 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"milestones must be positive and increasing, not {list(self.milestones)}")

    @property
    def network(self) -> str:
        """Short name of the network, `plain-56`, `resnet-56` or `resnet-56-B`."""
        return f"{self.arch}-{self.depth}" + ("-B" if self.shortcut == "B" else "")

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields: equal exactly when the configurations are."""
        # + 0.0 makes one number of 1 and 1.0, and of 0.0 and -0.0, which are equal too
        values = {name: value + 0.0 if name in _REAL else value for name, value in self.to_dict().items()}
        return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types; `RunConfig.from_dict` gives the same configuration back."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Build a configuration from plain data; raises `ConfigError` on missing, unknown or ill-typed fields."""
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ConfigError(f"configuration: {error}") from error
        except UnicodeEncodeError as error:  # what a shell passes that is no UTF-8
            field = next(name for name, value in values.items() if value is error.object)
            raise ConfigError(f"configuration: {field} {error.object!r} is not text") from error

    def diff(self, other: "RunConfig") -> list[str]:
        """The fields in which `other` differs, as `name: ours → theirs`."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]} → {theirs[name]}" for name in mine if mine[name] != theirs[name]]


_CHOICES = {
    "arch": choices(Arch),
    "shortcut": choices(Shortcut),
    "dataset": choices(DatasetName),
    "augment": choices(Augment),
    "normalization": choices(Normalization),
    "precision": choices(Precision),
    "compile": choices(CompileMode),
    "device": choices(Device),
}

# Inclusive bounds. The upper ones only keep out what is a slip of the keyboard.
_RANGES: dict[str, tuple[float, float]] = {
    "limit_train": (1, 10**9),
    "limit_test": (1, 10**9),
    "val_size": (0, 10**9),
    "epochs": (1, 10**6),
    "steps": (1, 10**9),
    "batch_size": (2, 10**6),  # batch normalisation has no variance over one image
    "lr": (0.0, 1e6),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "lr_decay": (1e-6, 1.0),
    "warmup_steps": (0, 10**9),
    "warmup_lr": (0.0, 1e6),
    "seed": (0, 2**63 - 1),
    "clean_train_every": (0, 10**6),
    "gradflow_every": (0, 10**6),
}

_REAL = frozenset(name for name, (low, _) in _RANGES.items() if isinstance(low, float))


class SaveEvery(msgspec.Struct, frozen=True):
    """How often a checkpoint is written: every `amount` of `unit`."""

    amount: float
    unit: Literal["epochs", "steps", "minutes"]

    @classmethod
    def parse(cls, text: str) -> "SaveEvery":
        """Read `2` or `2epochs`, `500steps`, `10min`; raises `ConfigError` on anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ep|epochs?|steps?|min|minutes?)?", text.strip())
        units: dict[str, Literal["epochs", "steps", "minutes"]] = {"e": "epochs", "s": "steps", "m": "minutes"}
        if match:
            unit = units[(match[2] or "e")[0]]
            amount = float(match[1])
            if amount > 0 and (unit == "minutes" or amount.is_integer()):
                return cls(amount=amount, unit=unit)
        raise ConfigError(f"--save-every {text!r} is not a duration", hint="use 1epoch, 500steps or 10min")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What may differ between two attempts of one run without changing its numbers."""

    data_dir: str | None = None
    """Where the dataset lies; None: `$RESNET_DATA`, else the user's cache folder."""
    save_every: SaveEvery = SaveEvery(1, "epochs")
    cuda_graph: bool = True
    """Launch a whole step as one CUDA graph, on a GPU."""
