"""Named configurations, each with its source, its expected result and its cost."""

from typing import Any

import msgspec

from resnet_cli.config import RunConfig, check_depth
from resnet_cli.errors import ConfigError


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of a configuration under one name."""

    name: str
    summary: str
    source: str
    values: dict[str, Any]
    deep_values: dict[str, Any] = {}
    """What differs for networks of at least 110 layers."""


_HE_DATA = {"dataset": "cifar10", "augment": "crop-flip"}
_HE_SGD = {"batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="report2025",
            summary="200 epochs on CIFAR-10, lr 0.1 divided by 10 at epochs 80 and 120",
            source="Shinde, Deep Residual Learning for Image Recognition: Implementation and Analysis (2025), 2.2",
            values={**_HE_DATA, **_HE_SGD, "epochs": 200, "steps": None, "milestones": (80, 120)},
        ),
        Recipe(
            name="he2015",
            summary="64k steps on 45k CIFAR-10 images, lr 0.1 divided by 10 at 32k and 48k; warm-up from 110 layers",
            source="He et al. 2015 (arXiv 1512.03385), section 4.2",
            values={
                **_HE_DATA,
                **_HE_SGD,
                "epochs": None,
                "steps": 64_000,
                "milestones": (32_000, 48_000),
                "val_size": 5_000,
                "normalization": "pixel-mean",
            },
            # "lr 0.01 until the training error is below 80 % (about 400 iterations)", section 4.2
            deep_values={"warmup_steps": 400, "warmup_lr": 0.01},
        ),
        Recipe(
            name="demo",
            summary="10 epochs on the embedded digits at 16×16: the degradation in about three minutes",
            source="this project: a lecture demonstration without a network, not a published setting",
            values={
                "dataset": "digits",
                "augment": "none",
                "batch_size": 128,
                "lr": 0.03,
                "momentum": 0.9,
                "weight_decay": 1e-4,
                "epochs": 10,
                "steps": None,
                "milestones": (),
                "clean_train_every": 1,
                "gradflow_every": 1,
            },
        ),
    )
}


def recipe_values(name: str, *, depth: int) -> dict[str, Any]:
    """The defaults of recipe `name` for a network of `depth` layers; raises `ConfigError` on an unknown name."""
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r} is not known", hint=f"use --recipe {' or '.join(RECIPES)}")
    recipe = RECIPES[name]
    return {**recipe.values, **(recipe.deep_values if depth >= 110 else {})}


def make_config(recipe: str = "report2025", *, arch: str, depth: int, **overrides: Any) -> RunConfig:
    """A configuration: the recipe's defaults with `overrides` on top.

    Args:
        recipe: one of `RECIPES`.
        arch: `plain` or `resnet`.
        depth: number of weighted layers, 6n+2.
        overrides: any other field of `RunConfig`. `epochs` replaces the recipe's `steps`
            and the other way round; then `milestones`, which are in the same unit, must be given too.

    Raises:
        ConfigError: the recipe, a field or a value is not valid; the message names it.
    """
    check_depth(depth)
    values = recipe_values(recipe, depth=depth)
    unknown = sorted(set(overrides) - set(RunConfig.__struct_fields__))
    if unknown:
        raise ConfigError(f"unknown configuration field {', '.join(unknown)}")
    for given, replaced in (("epochs", "steps"), ("steps", "epochs")):
        if overrides.get(given) is not None and values[replaced] is not None:
            if values["milestones"] and "milestones" not in overrides:
                raise ConfigError(
                    f"recipe {recipe} counts its milestones in {replaced}, but {given} was given",
                    hint=f"give --milestones in {given} too",
                )
            values[replaced] = None
    default_shortcut = "none" if arch == "plain" else "A"
    return RunConfig.from_dict(
        {"shortcut": default_shortcut, **values, **overrides, "recipe": recipe, "arch": arch, "depth": depth}
    )


def train_arguments(config: RunConfig, *, data_dir: str | None = None) -> list[str]:
    """The arguments of `resnet` that train `config` again: the recipe and what differs from it."""
    arguments = ["train", "--recipe", config.recipe, "--arch", config.arch, "--depth", str(config.depth)]
    if config.recipe in RECIPES:
        defaults = make_config(config.recipe, arch=config.arch, depth=config.depth).to_dict()
        if (defaults["epochs"] is None) != (config.epochs is None):
            del defaults["milestones"]  # they count in another unit, so they are said even when the numbers are equal
    else:
        defaults = {}
    for name, value in config.to_dict().items():
        if name in ("recipe", "arch", "depth") or value is None or value == defaults.get(name):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif isinstance(value, tuple):
            arguments += [option, ",".join(map(str, value)) or "none"]
        else:
            arguments += [option, str(value)]
    return arguments + (["--data-dir", data_dir] if data_dir else [])


# What names the network or the machine rather than the recipe. An explicit precision does
# change the recipe, so it is not here.
_NOT_RECIPE = {
    "recipe", "arch", "depth", "shortcut", "dataset", "seed",
    "compile", "device", "deterministic", "clean_train_every", "gradflow_every",
}  # fmt: skip


def recipe_label(config: RunConfig) -> str:
    """The recipe's name followed by every override of it: `report2025 epochs=5 lr=0.05`.

    Runs with equal labels (and the same data) followed the same recipe and may be averaged.
    An unknown recipe, from another version of this tool, is labelled by its name and a
    fingerprint of its values.
    """
    values = {k: v for k, v in config.to_dict().items() if k not in _NOT_RECIPE}
    if config.recipe not in RECIPES:
        digest = msgspec.structs.replace(
            config, arch="plain", shortcut="none", depth=20, seed=0, compile="auto", device="auto",
            deterministic=False, clean_train_every=0, gradflow_every=0,
        ).fingerprint()  # fmt: skip
        return f"{config.recipe} ({digest[:8]})"
    plain = make_config(config.recipe, arch=config.arch, depth=config.depth, shortcut=config.shortcut).to_dict()
    overrides = [f"{k}={_short(v)}" for k, v in values.items() if v != plain[k] and v is not None]
    return " ".join([config.recipe, *overrides])


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
