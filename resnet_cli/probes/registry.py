"""The probes by name. Importing this module loads none of them, so that help needs no torch."""

import importlib

from resnet_cli.errors import UsageError
from resnet_cli.probes.base import Probe
from resnet_cli.util.text import shorten

ALL = "all"

TITLES = {
    "gradflow": "gradient at every layer and block, and its parts through shortcut and branch",
    "bn": "clean training and test error with batch-norm statistics re-estimated over the training set",
    "responses": "standard deviation of layer responses; size of each branch relative to its shortcut",
    "branch-scale": "loss and error when all residual branches are scaled by a factor",
    "lesion": "error after blocks are deleted or swapped",
    "landscape": "loss along filter-normalised random directions; largest and smallest curvature",
    "shattering": "correlation of input gradients between nearby inputs, compared with white and brown noise",
    "similarity": "debiased linear CKA between blocks and networks; accuracy of a linear classifier on each block",
    "capacity": "a deeper plain network built from a shallower one by appending identity blocks",
    "calibration": "confidence minus accuracy, entropy, NLL, Brier score, ECE, reliability diagram and temperature",
}
"""Title of each probe, in the order in which `all` runs them."""

WITHOUT_TORCH = ("calibration",)
"""Probes that read stored predictions."""

OF_INITIAL_WEIGHTS = ("shattering",)
"""Probes that measure the initial weights of a run by default; the others measure the last ones."""


def check_name(name: str, option: str = "NAME") -> None:
    """Raise `UsageError` unless `name`, the value of `option`, is a probe or `all`."""
    if name != ALL and name not in TITLES:
        raise UsageError(
            f"{option} must be a probe (got {shorten(repr(name))})", hint=f"choose {', '.join(TITLES)} or {ALL}"
        )


def load_probe(name: str) -> Probe:
    """Import the module of a probe, which defines `PROBE`; raises `UsageError` for an unknown name."""
    check_name(name)
    probe: Probe = importlib.import_module(f"resnet_cli.probes.{name.replace('-', '_')}").PROBE
    return probe
