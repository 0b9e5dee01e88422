"""Measures of single runs that the claims compare: pure functions on the rows of one run."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

CONVERGENCE_THRESHOLDS_PCT = (60.0, 50.0, 40.0, 30.0, 20.0, 10.0)
"""Clean training errors at which convergence is timed, fixed beforehand."""
STAYS_FOR_EPOCHS = 3
_MIN_PHASE_EPOCHS = 4


def epochs_to_reach(epochs: Sequence[float], errors: Sequence[float], threshold: float, start: float) -> float:
    """First interpolated epoch at which the error is at most `threshold` and stays so for three measurements.

    Args:
        epochs: epochs at which the error was measured, increasing.
        errors: clean training error after these epochs, in per cent.
        threshold: in per cent.
        start: error at epoch 0, that of guessing.

    Returns:
        NaN if the threshold is not reached; measurements after the last one need not stay below it.
    """
    below = np.asarray(errors) <= threshold
    for index in np.flatnonzero(below).tolist():
        if below[index : index + STAYS_FOR_EPOCHS].all():
            before_epoch, before = (0.0, start) if index == 0 else (float(epochs[index - 1]), float(errors[index - 1]))
            share = (before - threshold) / (before - float(errors[index]))
            return before_epoch + share * (float(epochs[index]) - before_epoch)
    return math.nan


class ConvergenceTimes(NamedTuple):
    """Time to each threshold of `CONVERGENCE_THRESHOLDS_PCT`, for one run."""

    logs: dict[float, float]
    """Logarithm of the time in epochs, by threshold; for a threshold not reached, of the last epoch that was seen."""
    not_reached: frozenset[float]
    """Thresholds whose time is only a lower bound."""


def convergence_times(rows: pd.DataFrame, *, chance_error: float) -> ConvergenceTimes | None:
    """Time the convergence of one run before its first drop of the learning rate.

    Later both kinds of networks cross most thresholds at the drop itself, which would pull every ratio to 1.

    Args:
        rows: rows of metrics.csv of one run.
        chance_error: error of guessing, in per cent.

    Returns:
        None if the clean training error was measured in fewer than three epochs.
    """
    before = before_first_drop(rows)
    measured = before[before["train_clean_error_pct"].notna()]
    epochs, errors = measured["epoch"].tolist(), measured["train_clean_error_pct"].tolist()
    if len(epochs) < STAYS_FOR_EPOCHS:
        return None
    times = {tau: epochs_to_reach(epochs, errors, tau, chance_error) for tau in CONVERGENCE_THRESHOLDS_PCT}
    not_reached = frozenset(tau for tau, time in times.items() if math.isnan(time))
    return ConvergenceTimes(
        {tau: math.log(epochs[-1] if tau in not_reached else time) for tau, time in times.items()}, not_reached
    )


def before_first_drop(rows: pd.DataFrame) -> pd.DataFrame:
    """The epochs of a run before its learning rate first falls."""
    rates = rows["lr"].to_numpy(float)
    fallen = np.flatnonzero(np.diff(rates) < 0)
    return rows.iloc[: fallen[0] + 1] if len(fallen) else rows


def log_fluctuation(rows: pd.DataFrame) -> float:
    """How much the test accuracy of one run fluctuates from epoch to epoch; the mean over phases of the learning rate.

    For each phase of constant learning rate: the logarithm of the standard deviation of first differences of the test
    accuracy, divided by √2, after removing their linear trend. Without a phase of four epochs: NaN.
    """
    logs = []
    phase = (rows["lr"].diff().fillna(0) != 0).cumsum()
    for _, part in rows.groupby(phase):
        differences = np.diff(part["test_accuracy_pct"].to_numpy(float))
        if len(part) < _MIN_PHASE_EPOCHS:
            continue
        x = np.arange(len(differences))
        residual = differences - np.polyval(np.polyfit(x, differences, 1), x)
        deviation = math.sqrt(float(np.square(residual).sum()) / max(len(residual) - 2, 1) / 2)
        if deviation > 0:
            logs.append(math.log(deviation))
    return float(np.mean(logs)) if logs else math.nan


def information_loss(rows: pd.DataFrame) -> float:
    """Accuracy of a linear classifier on the best block minus that on the last block, in percentage points.

    Args:
        rows: rows of the probe `similarity` of one run, quantity `linear probe`.
    """
    probe = rows[rows["quantity"] == "linear probe"].sort_values("block_index")
    accuracy = probe["accuracy_pct"].to_numpy(float)
    return float(accuracy.max() - accuracy[-1]) if len(accuracy) else math.nan


def brownness(rows: pd.DataFrame) -> float:
    """Where the autocorrelation of input gradients lies between white noise (0) and brown noise (1), for one run.

    The mean autocorrelation over the first eighth of the line, scaled so.

    Args:
        rows: rows of the probe `shattering` of one run.
    """
    near = rows[(rows["quantity"] == "autocorrelation") & (rows["lag"] > 0) & (rows["distance"] <= 1 / 8)]
    means = near.groupby("series")["autocorrelation"].mean()
    if not {"network", "white", "brown"} <= set(means.index):
        return math.nan
    return float((means["network"] - means["white"]) / (means["brown"] - means["white"]))
