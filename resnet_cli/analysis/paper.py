"""The published numbers, each with its source: the one place that knows them."""

from collections.abc import Mapping

import msgspec


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A published test accuracy on CIFAR-10."""

    accuracy_pct: float
    std: float | None = None
    """Standard deviation over the runs behind it, in percentage points; None for a single run."""
    n: int = 1
    """Number of runs behind it."""
    source: str


_REPORT = "Shinde 2025, Table 1"
_HE = "He et al. 2015 (arXiv 1512.03385), Table 6"
_AKAMASTER = "akamaster/pytorch_resnet_cifar10, README"


def _from_error(error_pct: float, source: str, *, std: float | None = None, n: int = 1) -> Published:
    return Published(accuracy_pct=round(100 - error_pct, 2), std=std, n=n, source=source)


# By recipe, then by network. Residual networks are those with option-A shortcuts.
_PUBLISHED: Mapping[str, Mapping[tuple[str, int], Published]] = {
    "report2025": {
        ("plain", 20): Published(accuracy_pct=90.84, source=_REPORT),
        ("resnet", 20): Published(accuracy_pct=91.95, source=_REPORT),
        ("plain", 56): Published(accuracy_pct=86.71, source=_REPORT),
        ("resnet", 56): Published(accuracy_pct=93.25, source=_REPORT),
    },
    # The plain networks appear there as curves only (Fig. 6), so they have no number.
    "he2015": {
        ("resnet", 20): _from_error(8.75, _HE),
        ("resnet", 32): _from_error(7.51, _HE),
        ("resnet", 44): _from_error(7.17, _HE),
        ("resnet", 56): _from_error(6.97, _HE),
        # the mean of the five runs; their best, 6.43, is the number usually quoted
        ("resnet", 110): _from_error(6.61, _HE, std=0.16, n=5),
        ("resnet", 1202): _from_error(7.93, _HE),
    },
}

# Its own recipe (200 epochs, lr divided at epochs 100 and 150), the best epoch on the test set.
_BEST_ON_TEST: Mapping[int, Published] = {
    depth: _from_error(error_pct, _AKAMASTER)
    for depth, error_pct in ((20, 8.27), (32, 7.37), (44, 6.90), (56, 6.61), (110, 6.32), (1202, 6.18))
}


def published(recipe: str, dataset_name: str, arch: str, depth: int, *, shortcut: str = "A") -> Published | None:
    """The published test accuracy that a run of a recipe can be held against.

    Args:
        recipe: name of the recipe, without overrides: `report2025` or `he2015`.
        dataset_name: as on the command line; only `cifar10` has published values. A subset of
            it, or a re-encoded copy, has none: that is for the caller to tell.
        arch: `plain` or `resnet`.
        depth: number of weighted layers.
        shortcut: `B` has no published value on CIFAR-10.

    Returns:
        None where nothing was published.
    """
    if dataset_name != "cifar10" or shortcut == "B":
        return None
    return _PUBLISHED.get(recipe, {}).get((arch, depth))


def best_on_test(dataset_name: str, arch: str, depth: int, *, shortcut: str = "A") -> Published | None:
    """Another implementation's accuracy in its best epoch on the test set: what our "best" resembles.

    Arguments and result are those of `published`.
    """
    if dataset_name != "cifar10" or arch != "resnet" or shortcut == "B":
        return None
    return _BEST_ON_TEST.get(depth)
