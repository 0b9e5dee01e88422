"""Recipes in plain words, for captions: `1,000 training images` rather than `limit_train=1000`."""

from collections.abc import Iterable
from typing import Any

from resnet_cli.config import FIELDS, RunConfig
from resnet_cli.recipes import RECIPES, recipe_label

_WORDS = {
    "limit_train": "{:,} training images", "limit_test": "{:,} test images", "val_size": "{:,} validation images",
    "epochs": "{:,} epochs", "steps": "{:,} steps", "batch_size": "batch size {:,}", "lr": "learning rate {:g}",
    "momentum": "momentum {:g}", "weight_decay": "weight decay {:g}", "lr_decay": "learning rate × {:g} at each drop",
    "warmup_steps": "{:,} warm-up steps", "warmup_lr": "warm-up at learning rate {:g}",
    "clean_train_images": "clean error on {:,} training images",
}  # fmt: skip
_CHOICES = {
    "augment": {"none": "no augmentation", "crop": "random crops", "crop-flip": "random crops and flips"},
    "normalization": {"channel": "channel normalisation", "pixel-mean": "mean image subtracted"},
}


def setting_in_words(config: RunConfig, name: str) -> str:
    """One setting of a configuration in words: `learning rate 0.05`."""
    value: Any = getattr(config, name)
    if name == "milestones":
        unit = "epoch" if config.steps is None else "step"
        return _milestones(value, unit) if value else "constant learning rate"
    if name in _CHOICES:
        return _CHOICES[name][value]
    return _WORDS.get(name, name.replace("_", " ") + " {}").format(value)


def recipe_in_words(config: RunConfig) -> str:
    """The recipe and the settings that differ from it: `demo recipe with 5 epochs and learning rate 0.05`."""
    if config.recipe not in RECIPES:
        return recipe_label(config)
    # the label decides which differences count: not the seed, for example
    changed = [part.partition("=")[0] for part in recipe_label(config).split()[1:]]
    settings = [setting_in_words(config, name) for name in changed if name in FIELDS]
    return f"{config.recipe} recipe" + (f" with {and_(settings)}" if settings else "")


def _milestones(values: tuple[int, ...], unit: str) -> str:
    places = and_([f"{value:,}" for value in values])
    return f"learning-rate drop{'s' if len(values) > 1 else ''} at {unit}{'s' if len(values) > 1 else ''} {places}"


def and_(words: Iterable[str]) -> str:
    """Join words: `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
