"""Published accuracies."""

import pytest

from resnet_cli.analysis.paper import BEST_ON_TEST_PCT, published
from resnet_cli.recipes import make_config


@pytest.mark.parametrize(
    ("arch", "depth", "accuracy"),
    [("plain", 20, 90.84), ("resnet", 20, 91.95), ("plain", 56, 86.71), ("resnet", 56, 93.25)],
)
def test_the_accuracies_of_the_report_are_those_in_its_table_1(arch, depth, accuracy):
    value = published(make_config("report2025", arch=arch, depth=depth))
    assert value.accuracy_pct == accuracy
    assert "Table 1" in value.source


@pytest.mark.parametrize(
    ("depth", "error", "std"),
    [(20, 8.75, None), (32, 7.51, None), (44, 7.17, None), (56, 6.97, None), (110, 6.61, 0.16), (1202, 7.93, None)],
)
def test_the_errors_of_residual_networks_are_those_in_he_et_al_table_6(depth, error, std):
    value = published(make_config("he2015", arch="resnet", depth=depth))
    assert 100 - value.accuracy_pct == pytest.approx(error)
    assert value.std == std
    assert "1512.03385" in value.source


@pytest.mark.parametrize(
    ("recipe", "arch", "depth", "fields"),
    [
        ("he2015", "plain", 20, {}),
        ("report2025", "resnet", 110, {}),
        ("report2025", "resnet", 20, {"shortcut": "B"}),
        ("report2025", "resnet", 20, {"dataset": "imagefolder"}),
        ("he2015", "resnet", 20, {"dataset": "cifar100"}),
        ("report2025", "resnet", 20, {"limit_train": 1000}),
        ("report2025", "resnet", 20, {"limit_test": 1000}),
        ("demo", "resnet", 20, {"dataset": "cifar10"}),
    ],
)
def test_networks_and_datasets_without_a_publication_have_no_published_accuracy(recipe, arch, depth, fields):
    assert published(make_config(recipe, arch=arch, depth=depth, **fields)) is None


@pytest.mark.parametrize(
    ("depth", "error"), [(20, 8.27), (32, 7.37), (44, 6.90), (56, 6.61), (110, 6.32), (1202, 6.18)]
)
def test_the_best_errors_of_another_implementation_are_those_in_its_readme(depth, error):
    assert 100 - BEST_ON_TEST_PCT[f"resnet-{depth}"] == pytest.approx(error)
