"""Tidy frames of the runs that a claim is about."""

import math
from collections.abc import Callable, Iterable
from functools import cached_property

import msgspec
import pandas as pd

from resnet_cli.analysis.stats import Sample

CORRECT = "correct"


class Networks(msgspec.Struct, frozen=True):
    """Names of the four networks that the report compares."""

    plain_shallow: str
    plain_deep: str
    resnet_shallow: str
    resnet_deep: str


class Evidence(msgspec.Struct, frozen=True, dict=True, kw_only=True):
    """Everything measured on runs of one dataset and recipe.

    Every frame has the columns network, depth, seed and path (of the run) besides those named here.
    """

    networks: Networks
    num_classes: int
    num_train: int
    num_test: int
    runs: pd.DataFrame
    """One row per run with status (`complete` or `diverged`), test_accuracy_pct and train_clean_error_pct; a diverged
    run has those of guessing."""
    epochs: pd.DataFrame
    """metrics.csv of complete runs."""
    gradflow: pd.DataFrame
    """gradflow.csv of complete runs."""
    load_probe: Callable[[str], pd.DataFrame]
    """Rows of a probe by its name; empty if it was not measured."""
    load_correct: Callable[[str], pd.DataFrame]
    """For a network: one row per run and test image, with label and correct; empty without predictions."""
    warmup: "Evidence | None" = None
    """The arm of plain networks trained with a warm-up."""

    @property
    def chance_error_pct(self) -> float:
        """Error of guessing."""
        return 100 * (1 - 1 / self.num_classes)

    @cached_property
    def train_resolution(self) -> float:
        """Half of what one training image contributes to an error, in percentage points."""
        return 50 / self.num_train

    @cached_property
    def test_resolution(self) -> float:
        """Half of what one test image contributes to an error, in percentage points."""
        return 50 / self.num_test

    def diverged(self, network: str) -> int:
        """Number of runs of a network that diverged."""
        return int(((self.runs["network"] == network) & (self.runs["status"] == "diverged")).sum())

    def sample(self, frame: pd.DataFrame, network: str, measure: str, *, resolution: float = 0.0) -> Sample:
        """Values of one measure over the seeds of a network, from a frame with one row per run."""
        rows = frame[frame["network"] == network]
        return Sample.of(zip(rows["seed"].tolist(), rows[measure].tolist(), strict=True), resolution=resolution)


def per_run(frame: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """Apply a measure to the rows of each run; NaN and infinite values are left out.

    Returns:
        Columns network, depth, seed, path and value.
    """
    rows = []
    keys = ["network", "depth", "seed", "path"]
    for identity, of_run in frame.groupby(keys, sort=False):
        value = measure(of_run)
        if math.isfinite(value):
            rows.append({**dict(zip(keys, identity, strict=True)), "value": value})
    return pd.DataFrame(rows, columns=[*keys, "value"])


def have_seeds(samples: Iterable[Sample]) -> bool:
    """Whether every sample has at least one value."""
    return all(sample.values for sample in samples)
