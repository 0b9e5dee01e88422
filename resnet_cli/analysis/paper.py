"""Published accuracies on CIFAR-10, each with its source."""

from collections.abc import Mapping

import msgspec

from resnet_cli.config import RunConfig


class Published(msgspec.Struct, frozen=True):
    """A published test accuracy."""

    accuracy_pct: float
    source: str
    std: float | None = None
    """Standard deviation over runs, in percentage points; None for a single run."""


_REPORT = "Shinde 2025, Table 1"
_HE = "He et al. 2015 (arXiv 1512.03385), Table 6"

# By recipe, then by network.
_PUBLISHED: Mapping[str, Mapping[str, Published]] = {
    "report2025": {
        "plain-20": Published(90.84, _REPORT),
        "resnet-20": Published(91.95, _REPORT),
        "plain-56": Published(86.71, _REPORT),
        "resnet-56": Published(93.25, _REPORT),
    },
    # Errors in the paper: 8.75, 7.51, 7.17, 6.97, 6.61 and 7.93 %. It shows plain networks only as curves (figure 6).
    "he2015": {
        "resnet-20": Published(91.25, _HE),
        "resnet-32": Published(92.49, _HE),
        "resnet-44": Published(92.83, _HE),
        "resnet-56": Published(93.03, _HE),
        # Mean of five runs; the error of their best, 6.43, is usually quoted.
        "resnet-110": Published(93.39, _HE, std=0.16),
        "resnet-1202": Published(92.07, _HE),
    },
}

BEST_ON_TEST_SOURCE = "akamaster/pytorch_resnet_cifar10, README"
BEST_ON_TEST_PCT: Mapping[str, float] = {
    "resnet-20": 91.73, "resnet-32": 92.63, "resnet-44": 93.10, "resnet-56": 93.39, "resnet-110": 93.68,
    "resnet-1202": 93.82,
}  # fmt: skip
"""Accuracy in the best epoch on the test set, by network, with another recipe: 200 epochs, lr divided at 100 and 150.

The source gives errors: 8.27, 7.37, 6.90, 6.61, 6.32 and 6.18 %.
"""


def published(config: RunConfig) -> Published | None:
    """Look up the published test accuracy of a network, ignoring overrides of the recipe.

    Returns:
        None if nothing was published for the recipe, the network or the dataset, or if `config` uses a subset of it.
    """
    if config.dataset != "cifar10" or config.limit_train is not None or config.limit_test is not None:
        return None
    return _PUBLISHED.get(config.recipe, {}).get(config.network)
