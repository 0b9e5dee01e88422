"""Published accuracies, each with its source."""

from collections.abc import Mapping

import msgspec


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A published test accuracy on CIFAR-10."""

    accuracy_pct: float
    std: float | None = None
    """Standard deviation over runs, in percentage points; None for a single run."""
    n: int = 1
    """Number of runs."""
    source: str


_REPORT = "Shinde 2025, Table 1"
_HE = "He et al. 2015 (arXiv 1512.03385), Table 6"
_AKAMASTER = "akamaster/pytorch_resnet_cifar10, README"


def _from_error(error_pct: float, source: str, *, std: float | None = None, n: int = 1) -> Published:
    return Published(accuracy_pct=round(100 - error_pct, 2), std=std, n=n, source=source)


# By recipe, then by network. Residual networks have option-A shortcuts.
_PUBLISHED: Mapping[str, Mapping[tuple[str, int], Published]] = {
    "report2025": {
        ("plain", 20): Published(accuracy_pct=90.84, source=_REPORT),
        ("resnet", 20): Published(accuracy_pct=91.95, source=_REPORT),
        ("plain", 56): Published(accuracy_pct=86.71, source=_REPORT),
        ("resnet", 56): Published(accuracy_pct=93.25, source=_REPORT),
    },
    # He et al. show plain networks only as curves (figure 6).
    "he2015": {
        ("resnet", 20): _from_error(8.75, _HE),
        ("resnet", 32): _from_error(7.51, _HE),
        ("resnet", 44): _from_error(7.17, _HE),
        ("resnet", 56): _from_error(6.97, _HE),
        # Mean of five runs; their best, 6.43, is usually quoted.
        ("resnet", 110): _from_error(6.61, _HE, std=0.16, n=5),
        ("resnet", 1202): _from_error(7.93, _HE),
    },
}

# Best epoch on the test set with another recipe (200 epochs, lr divided at epochs 100 and 150).
_BEST_ON_TEST: Mapping[int, Published] = {
    depth: _from_error(error_pct, _AKAMASTER)
    for depth, error_pct in ((20, 8.27), (32, 7.37), (44, 6.90), (56, 6.61), (110, 6.32), (1202, 6.18))
}


def published(recipe: str, dataset_name: str, arch: str, depth: int, *, shortcut: str = "A") -> Published | None:
    """Look up the published test accuracy for a recipe and network.

    Args:
        recipe: name of the recipe, without overrides: `report2025` or `he2015`.
        dataset_name: as on the command line; only `cifar10` has published values. Callers must
            exclude runs on a subset.
        arch: `plain` or `resnet`.
        depth: number of weighted layers.
        shortcut: `B` has no published value on CIFAR-10.

    Returns:
        None if nothing was published.
    """
    if dataset_name != "cifar10" or shortcut == "B":
        return None
    return _PUBLISHED.get(recipe, {}).get((arch, depth))


def best_on_test(dataset_name: str, arch: str, depth: int, *, shortcut: str = "A") -> Published | None:
    """Look up the accuracy of another implementation in its best epoch on the test set.

    Arguments and result are the same as for `published`.
    """
    if dataset_name != "cifar10" or arch != "resnet" or shortcut == "B":
        return None
    return _BEST_ON_TEST.get(depth)
