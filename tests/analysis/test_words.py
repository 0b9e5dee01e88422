"""Recipes in plain words."""

import pytest

from resnet_cli.analysis.words import recipe_in_words, setting_in_words
from resnet_cli.config import FIELDS
from resnet_cli.recipes import make_config


@pytest.mark.parametrize(
    ("recipe", "changes", "words"),
    [
        ("demo", {}, "demo recipe"),
        ("demo", {"seed": 3, "device": "cpu"}, "demo recipe"),
        ("report2025", {"limit_train": 1000}, "report2025 recipe with 1,000 training images"),
        (
            "report2025", {"epochs": 24, "milestones": (12, 18), "lr": 0.05},
            "report2025 recipe with 24 epochs, learning rate 0.05 and learning-rate drops at epochs 12 and 18",
        ),
        ("he2015", {"steps": 1000, "milestones": (500,)},
         "he2015 recipe with 1,000 steps and learning-rate drop at step 500"),
        ("report2025", {"milestones": (), "augment": "none"},
         "report2025 recipe with no augmentation and constant learning rate"),
        ("demo", {"precision": "bf16"}, "demo recipe with precision bf16"),
    ],
)  # fmt: skip
def test_a_recipe_is_described_by_what_differs_from_it(recipe, changes, words):
    assert recipe_in_words(make_config(recipe, arch="plain", depth=20, **changes)) == words


@pytest.mark.parametrize("recipe", ["report2025", "he2015"])
def test_no_setting_is_shown_with_its_internal_name(recipe):
    config = make_config(recipe, arch="plain", depth=20, limit_train=1000, limit_test=500)
    words = [setting_in_words(config, name) for name in FIELDS if getattr(config, name) is not None]
    assert all(words)
    assert not {"_", "{", "=", "("} & set("".join(words))
