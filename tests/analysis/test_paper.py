"""Published accuracies."""

import pytest

from resnet_cli.analysis.paper import best_on_test, published


@pytest.mark.parametrize(
    ("arch", "depth", "accuracy"),
    [("plain", 20, 90.84), ("resnet", 20, 91.95), ("plain", 56, 86.71), ("resnet", 56, 93.25)],
)
def test_the_accuracies_of_the_report_are_those_in_its_table_1(arch, depth, accuracy):
    value = published("report2025", "cifar10", arch, depth)
    assert value.accuracy_pct == accuracy
    assert "Table 1" in value.source


@pytest.mark.parametrize(
    ("depth", "error"), [(20, 8.75), (32, 7.51), (44, 7.17), (56, 6.97), (110, 6.61), (1202, 7.93)]
)
def test_the_errors_of_residual_networks_are_those_in_he_et_al_table_6(depth, error):
    value = published("he2015", "cifar10", "resnet", depth)
    assert 100 - value.accuracy_pct == pytest.approx(error)
    assert "1512.03385" in value.source


def test_only_resnet_110_has_a_published_deviation():
    value = published("he2015", "cifar10", "resnet", 110)
    assert (value.std, value.n) == (0.16, 5)
    assert published("he2015", "cifar10", "resnet", 56).std is None


@pytest.mark.parametrize(
    ("recipe", "dataset", "arch", "depth", "shortcut"),
    [
        ("he2015", "cifar10", "plain", 20, "none"),
        ("report2025", "cifar10", "resnet", 110, "A"),
        ("report2025", "cifar10", "resnet", 20, "B"),
        ("report2025", "imagefolder", "resnet", 20, "A"),
        ("he2015", "cifar100", "resnet", 20, "A"),
        ("demo", "cifar10", "resnet", 20, "A"),
    ],
)
def test_networks_and_datasets_without_a_publication_have_no_published_accuracy(recipe, dataset, arch, depth, shortcut):
    assert published(recipe, dataset, arch, depth, shortcut=shortcut) is None


def test_the_best_test_accuracy_of_another_implementation_is_known_for_residual_networks_on_cifar10():
    assert best_on_test("cifar10", "resnet", 56).accuracy_pct == 93.39
    assert best_on_test("cifar10", "plain", 56) is None
    assert best_on_test("cifar10", "resnet", 56, shortcut="B") is None
    assert best_on_test("imagefolder", "resnet", 56) is None
