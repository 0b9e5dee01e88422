"""Data of a curve: the mean over seeds with its interval, and drops of the learning rate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_cli.analysis.stats import t_quantile

MIN_SEEDS = 4
"""Fewest seeds with an interval: at n = 2 a t-interval extends 9 standard deviations to either side, at n = 3 2.5."""


def seed_bands(frame: pd.DataFrame, x: str, measure: str, *, log: bool = False) -> pd.DataFrame:
    """Compute the mean and Student-t interval over the seeds of each network; repetitions of a seed are averaged first.

    A point is kept only if all seeds of its network have a value, not counting seeds that never recorded
    the measure, so that no jump in a curve is due to a change of seeds.

    Args:
        frame: one row per run and `x`, with columns `network`, `seed`, `x` and `measure`.
        x: column on the horizontal axis.
        measure: column to summarise; missing and infinite values count as not measured.
        log: average logarithms, that is, compute the geometric mean (for norms that span decades).

    Returns:
        Columns network, x, mean, low, high, n, sorted by network and x; low and high are NaN if n < `MIN_SEEDS`.
    """
    values = frame[["network", "seed", x, measure]].replace([np.inf, -np.inf], np.nan).dropna()
    if log:
        values = values[values[measure] > 0].assign(**{measure: lambda v: np.log(v[measure])})
    num_seeds = values.groupby("network")["seed"].nunique()
    values = values.groupby(["network", "seed", x])[measure].mean().reset_index()
    bands = values.groupby(["network", x])[measure].agg(mean="mean", std="std", n="count").reset_index()
    bands = bands[bands["n"] == bands["network"].map(num_seeds)].reset_index(drop=True)
    quantiles = bands["n"].map({n: t_quantile(n - 1) if n >= MIN_SEEDS else np.nan for n in set(bands["n"])})
    half_width = quantiles * bands["std"] / np.sqrt(bands["n"])
    bands = bands.assign(low=bands["mean"] - half_width, high=bands["mean"] + half_width)
    if log:
        bands[["mean", "low", "high"]] = np.exp(bands[["mean", "low", "high"]])
    return bands[["network", x, "mean", "low", "high", "n"]]


class LrDrop(NamedTuple):
    """A drop of the learning rate."""

    x: float  # the milestone if known, else the last epoch (or step) that ended with the old rate
    factor: float  # old rate / new rate, to three digits


def lr_drops(frame: pd.DataFrame, x: str, milestones: Sequence[float] = ()) -> list[LrDrop]:
    """Find drops of the `lr` column in any run, each position once, in order.

    Args:
        frame: one row per run and epoch, with columns `path`, `epoch`, `lr` (at the end of the epoch) and `x`.
        x: column that gives the position of a drop.
        milestones: drops of the rate according to the recipe, in the unit of `x`. Rows locate a drop only to
            the epoch; a milestone within that epoch is its exact position.
    """
    rows = frame[["path", "epoch", "lr", x]].dropna().sort_values(["path", "epoch"], kind="stable")
    following = rows.groupby("path")[["lr", x]].shift(-1)
    fallen = (following["lr"] < rows["lr"]) & (following["lr"] > 0)
    drops = set()
    ends = zip(rows.loc[fallen, ["lr", x]].to_numpy(float), following[fallen].to_numpy(float), strict=True)
    for (old, start), (new, end) in ends:
        place = next((milestone for milestone in milestones if start <= milestone < end), float(start))
        drops.add(LrDrop(place, float(f"{old / new:.3g}")))
    return sorted(drops)
