"""Named configurations, each with its source, expected result and cost."""

from typing import Any

import msgspec

from resnet_cli.config import RunConfig, check_depth
from resnet_cli.errors import ConfigError
from resnet_cli.util.text import shorten


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of default values for a configuration."""

    name: str
    summary: str
    source: str
    expected: str
    """Published or measured result, with its source."""
    cost: str
    """Measured training time with the hardware, or "not measured"."""
    differences: str = ""
    """Differences from the source, and choices that it leaves open."""
    values: dict[str, Any]
    deep_values: dict[str, Any] = {}
    """Values that replace `values` for networks of at least 110 layers."""


_SGD = {"batch_size": 128, "momentum": 0.9, "weight_decay": 1e-4}
_CIFAR10 = {"dataset": "cifar10", "augment": "crop-flip", **_SGD, "lr": 0.1}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="report2025",
            summary="200 epochs on CIFAR-10, lr 0.1 divided by 10 at epochs 80 and 120",
            source="V. R. Shinde, Deep Residual Learning for Image Recognition: Implementation and Analysis "
            "(2025), section 2.2",
            expected="test accuracy in the report, one seed: plain-20 90.84 %, resnet-20 91.95 %, plain-56 86.71 %, "
            "resnet-56 93.25 %; not reproduced with this tool yet",
            cost="not measured; `resnet bench --recipe report2025` estimates it",
            values={**_CIFAR10, "epochs": 200, "steps": None, "milestones": (80, 120)},
        ),
        Recipe(
            name="he2015",
            summary="64k steps on CIFAR-10 (45k/5k split), lr 0.1 divided by 10 at 32k and 48k; warm-up if depth ≥ 110",
            source="He et al. 2015 (arXiv 1512.03385), section 4.2",
            expected="test error in the paper, table 6: resnet-20 8.75 %, resnet-32 7.51 %, resnet-44 7.17 %, "
            "resnet-56 6.97 %, resnet-110 6.43 % (6.61 ± 0.16 over 5 runs), resnet-1202 7.93 %; plain networks "
            "appear as curves only; not reproduced with this tool yet",
            cost="not measured; `resnet bench --recipe he2015` estimates it",
            differences="batch normalisation uses all 128 images of a batch (in the paper, 64 on each of two GPUs); "
            "the warm-up is a fixed 400 steps (in the paper, until the training error is below 80 %); the paper does "
            "not say whether its results were trained on the 45k images of the split or on all 50k, nor whether "
            "weight decay applies to the parameters of batch normalisation (here it does)",
            values={
                **_CIFAR10, "epochs": None, "steps": 64_000, "milestones": (32_000, 48_000), "val_size": 5_000,
                "normalization": "pixel-mean",
            },
            # section 4.2: "we use 0.01 to warm up the training until the training error is below 80 % (about
            # 400 iterations)"
            deep_values={"warmup_steps": 400, "warmup_lr": 0.01},
        ),
        Recipe(
            name="overnight",
            summary="24 epochs on CIFAR-10, lr 0.1 divided by 10 at epochs 12 and 18: short enough for a CPU",
            source="this project: the recipe of the report, shortened; not a published setting",
            expected="test accuracy of one seed in runs/reference/overnight, on images stored as JPEG: plain-20 82.76, "
            "resnet-20 84.55, plain-56 47.98, resnet-56 83.12 %",
            cost="on one thread of an AMD EPYC that was shared with other work, 1 h 07 min (resnet-20) to 4 h 57 min "
            "(plain-56); `resnet bench --recipe overnight` estimates it",
            values={
                **_CIFAR10, "epochs": 24, "steps": None, "milestones": (12, 18), "clean_train_every": 1,
                "clean_train_images": 5_000, "gradflow_every": 2,
            },
        ),
        Recipe(
            name="demo",
            summary="20 epochs on scikit-learn's digits at 16×16, lr 0.01 after 24 warm-up steps, offline",
            source="this project, for demonstrations; not a published setting",
            expected="test accuracy over 5 seeds in runs/reference/demo (mean ± standard deviation): plain-20 96.67 ± "
            "0.65 %, resnet-20 97.94 ± 0.61 %, plain-56 58.61 ± 11.98 %, resnet-56 97.39 ± 0.54 %",
            cost="on one thread of an AMD EPYC that was shared with other work, 26 to 75 s (20 layers) and "
            "70 to 165 s (56 layers) per run; `resnet bench --recipe demo` estimates it",
            values={
                "dataset": "digits", "augment": "none", **_SGD, "lr": 0.01, "warmup_steps": 24, "warmup_lr": 0.001,
                "epochs": 20, "steps": None, "milestones": (), "clean_train_every": 1, "clean_train_images": 360,
                "gradflow_every": 10,
            },
        ),
    )
}  # fmt: skip

*_FIRST, _LAST = RECIPES
RECIPE_NAMES = f"{', '.join(_FIRST)} or {_LAST}"


def check_recipe(name: str) -> None:
    """Raise `ConfigError` unless `name` is a recipe."""
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {shorten(repr(name))}", hint=f"use --recipe {RECIPE_NAMES}")


def make_config(recipe: str = "report2025", *, arch: str, depth: int, **overrides: Any) -> RunConfig:
    """Build a configuration from a recipe's defaults and `overrides`.

    Args:
        recipe: one of `RECIPES`.
        arch: `plain` or `resnet`.
        depth: number of weighted layers, 6n+2.
        overrides: any other field of `RunConfig`. `epochs` replaces the recipe's `steps`
            and vice versa; `milestones`, which count in the same unit, are then required too.

    Raises:
        ConfigError: the recipe, a field or a value is not valid; the message names it.
    """
    check_depth(depth)
    check_recipe(recipe)
    values = {**RECIPES[recipe].values, **(RECIPES[recipe].deep_values if depth >= 110 else {})}
    unknown = sorted(set(overrides) - set(RunConfig.__struct_fields__))
    if unknown:
        raise ConfigError(f"unknown configuration field {', '.join(unknown)}")
    for given, replaced in (("epochs", "steps"), ("steps", "epochs")):
        if overrides.get(given) is not None and overrides.get(replaced) is None and values[replaced] is not None:
            if values["milestones"] and "milestones" not in overrides:
                raise ConfigError(
                    f"--{given} was given, but recipe {recipe} counts its milestones in {replaced}",
                    hint=f"give --milestones in {given} too",
                )
            values[replaced] = None
    network = {"recipe": recipe, "arch": arch, "depth": depth}
    return RunConfig.from_dict({"shortcut": _default_shortcut(arch), **values, **overrides, **network})


def change_config(config: RunConfig, **changes: Any) -> RunConfig:
    """Return `config` with some fields changed.

    The other fields stay, except those that follow from the network: the shortcut of another architecture, and
    recipe values that depend on the depth. A new recipe replaces every value that was not set explicitly.

    Args:
        config: the original configuration.
        changes: any fields of `RunConfig`. `epochs` replaces `steps` and vice versa; `milestones`, which count in the
            same unit, are then required too.

    Raises:
        ConfigError: a field or a value is not valid; the message names it.
    """
    kept = _differences(config)
    for given, replaced in (("epochs", "steps"), ("steps", "epochs")):
        if changes.get(given) is not None and getattr(config, replaced) is not None:
            if config.milestones and "milestones" not in changes:
                raise ConfigError(
                    f"--{given} was given, but the milestones {_text(config.milestones)} count {replaced}",
                    hint=f"give --milestones in {given} too",
                )
            kept.pop(replaced, None)
    if changes.get("arch", config.arch) != config.arch:
        kept.pop("shortcut", None)
    network = {"recipe": config.recipe, "arch": config.arch, "depth": config.depth}
    values = {**network, **kept, **changes}
    if values["recipe"] in RECIPES:
        return make_config(**values)
    return RunConfig.from_dict({"shortcut": _default_shortcut(values["arch"]), "epochs": None, **values})


def _default_shortcut(arch: str) -> str:
    return "none" if arch == "plain" else "A"


def _differences(config: RunConfig) -> dict[str, Any]:
    """The fields of `config`, in order, that differ from its recipe; all fields if the recipe is unknown."""
    defaults: dict[str, Any] = {}
    if config.recipe in RECIPES:
        defaults = make_config(config.recipe, arch=config.arch, depth=config.depth).to_dict()
        if config.milestones and (defaults["epochs"] is None) != (config.epochs is None):
            del defaults["milestones"]  # equal numbers in a different unit are different milestones
    values = config.to_dict().items()
    return {name: value for name, value in values if name not in defaults or value != defaults[name]}


def _overrides(config: RunConfig) -> dict[str, Any]:
    """The set fields of `config`, in order, that differ from its recipe; all set fields if the recipe is unknown."""
    return {name: value for name, value in _differences(config).items() if value is not None}


def train_arguments(config: RunConfig, *, data_dir: str | None = None) -> list[str]:
    """Arguments of `resnet` that train `config` again: the recipe and every option that differs from it."""
    network = {"recipe": config.recipe, "arch": config.arch, "depth": config.depth}
    arguments = ["train"]
    for name, value in {**network, **_overrides(config), "data_dir": data_dir or None}.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            arguments += [option, _text(value) or "none"]
    return arguments


# Fields of the network or the machine. An explicit precision changes the recipe, so it is not one of them.
_NOT_RECIPE: dict[str, Any] = {
    "arch": "plain", "depth": 20, "shortcut": "none", "seed": 0, "compile": "auto", "device": "auto",
    "deterministic": False, "clean_train_every": 0, "clean_train_images": 0, "gradflow_every": 0,
}  # fmt: skip

RECIPE_FIELDS = tuple(name for name in RunConfig.__struct_fields__ if name not in {*_NOT_RECIPE, "recipe", "dataset"})
"""Fields in which two runs of a network on the same data must agree to be averaged."""


def recipe_label(config: RunConfig) -> str:
    """The recipe's name followed by its overrides: `report2025 epochs=5 lr=0.05`.

    Runs with equal labels (and the same data) followed the same recipe and may be averaged.
    A recipe of another version of this tool is labelled by its name and a fingerprint of its values.
    """
    if config.recipe not in RECIPES:
        return f"{config.recipe} ({msgspec.structs.replace(config, **_NOT_RECIPE).fingerprint()[:8]})"
    ignored = {*_NOT_RECIPE, "dataset"}
    changed = [f"{name}={_text(value) or 'none'}" for name, value in _overrides(config).items() if name not in ignored]
    return " ".join([config.recipe, *changed])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
