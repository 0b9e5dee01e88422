"""Measures of single runs that the claims compare: pure functions on the rows of one run."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_cli.analysis.gradients import stage_growth
from resnet_cli.analysis.lesions import deletion_areas

CONVERGENCE_THRESHOLDS_PCT = (60.0, 50.0, 40.0, 30.0, 20.0, 10.0)
"""Clean training errors at which convergence is timed."""
STAYS_FOR_EPOCHS = 3
_MIN_PHASE_EPOCHS = 6
_CONVERGED = 0.1
"""Largest residual of an eigenvalue, as a share of it."""


def epochs_to_reach(epochs: Sequence[float], errors: Sequence[float], threshold: float, start: float) -> float:
    """First interpolated epoch at which the error is at most `threshold`, and stays so for three epochs with it.

    Args:
        epochs: increasing; one at least.
        errors: clean training error after these epochs, in per cent.
        threshold: in per cent, below `start`.
        start: error at epoch 0, that of guessing.

    Returns:
        NaN if the threshold is not reached. The last two epochs cannot show that the error stays.
    """
    below = np.asarray(errors) <= threshold
    for index in np.flatnonzero(below[: len(below) - STAYS_FOR_EPOCHS + 1]).tolist():
        if below[index : index + STAYS_FOR_EPOCHS].all():
            before_epoch, before = (0.0, start) if index == 0 else (float(epochs[index - 1]), float(errors[index - 1]))
            share = (before - threshold) / (before - float(errors[index]))
            return before_epoch + share * (float(epochs[index]) - before_epoch)
    return math.nan


class ConvergenceTimes(NamedTuple):
    """Time to each threshold of `CONVERGENCE_THRESHOLDS_PCT` that is below the error of guessing, for one run."""

    logs: dict[float, float]
    """Logarithm of the time in epochs, by threshold; if not reached, of the last epoch that could have shown it."""
    not_reached: frozenset[float]
    """Thresholds whose time is only a lower bound."""


def convergence_times(rows: pd.DataFrame, *, chance_error: float) -> ConvergenceTimes | None:
    """Time the convergence of one run before its first drop of the learning rate.

    Later both kinds of networks cross most thresholds at the drop itself, which would pull every ratio to 1.

    Args:
        rows: rows of metrics.csv of one run.
        chance_error: error of guessing, in per cent.

    Returns:
        None if there are fewer than three epochs, or one without a measured clean training error.
    """
    before = before_first_drop(rows)
    if len(before) < STAYS_FOR_EPOCHS or before["train_clean_error_pct"].isna().any():
        return None
    epochs, errors = before["epoch"].tolist(), before["train_clean_error_pct"].tolist()
    times = {
        tau: epochs_to_reach(epochs, errors, tau, chance_error)
        for tau in CONVERGENCE_THRESHOLDS_PCT
        if tau < chance_error
    }
    not_reached = frozenset(tau for tau, time in times.items() if math.isnan(time))
    return ConvergenceTimes(
        {tau: math.log(epochs[-STAYS_FOR_EPOCHS] if tau in not_reached else time) for tau, time in times.items()},
        not_reached,
    )


def before_first_drop(rows: pd.DataFrame) -> pd.DataFrame:
    """The epochs of a run before its learning rate first falls."""
    fallen = np.flatnonzero(np.diff(rows["lr"].to_numpy(float)) < 0)
    return rows.iloc[: fallen[0] + 1] if len(fallen) else rows


def fluctuations(rows: pd.DataFrame, *, with_learning: bool = False) -> list[float]:
    """How much the test accuracy of one run fluctuates from epoch to epoch in each phase of constant learning rate.

    The measure is the root mean square of second differences, divided by √6, without the first third of the phase.
    `with_learning` computes the deviation of first differences, divided by √2, over the whole phase and without a
    linear trend. Both are the deviation of independent noise. The second also contains learning, since the accuracy of
    a fast learner bends most at the beginning.

    Args:
        rows: rows of metrics.csv of one run.
        with_learning: which of the two.

    Returns:
        In percentage points; phases of fewer than six epochs are left out.
    """
    found = []
    phase = (rows["lr"].diff().fillna(0) != 0).cumsum()
    for _, part in rows.groupby(phase):
        accuracy = part["test_accuracy_pct"].to_numpy(float)
        if len(accuracy) < _MIN_PHASE_EPOCHS:
            continue
        if with_learning:
            found.append(float(np.diff(accuracy).std(ddof=1)) / math.sqrt(2))  # a trend is the mean of the differences
        else:
            bends = np.diff(accuracy[len(accuracy) // 3 :], 2)
            found.append(math.sqrt(float(np.square(bends).mean()) / 6))
    return found


def log_fluctuation(rows: pd.DataFrame, *, resolution: float, with_learning: bool = False) -> float:
    """Logarithm of the fluctuation of one run, mean over phases of the learning rate; NaN without one of six epochs.

    Args:
        rows: rows of metrics.csv of one run.
        resolution: smallest deviation that counts, in percentage points, so that a constant accuracy has a logarithm.
        with_learning: as in `fluctuations`.
    """
    logs = [math.log(max(one, resolution)) for one in fluctuations(rows, with_learning=with_learning)]
    return float(np.mean(logs)) if logs else math.nan


def distance_from_constant(rows: pd.DataFrame) -> float:
    """Mean over stages of |log of the growth of ‖∂L/∂x‖ per block|; NaN where a gradient is zero or not finite.

    Args:
        rows: rows of gradflow.csv of one run and epoch.
    """
    growth = np.array([stage.growth_per_block for stage in stage_growth(rows)])
    with np.errstate(divide="ignore"):
        return float(np.abs(np.log(growth)).mean()) if len(growth) else math.nan


def log_smallest_ratio(rows: pd.DataFrame) -> float:
    """Logarithm of ‖∂L/∂x‖ at the first ÷ at the last block of the stage where this ratio is smallest.

    Args:
        rows: rows of gradflow.csv of one run and epoch.
    """
    ratios = np.array([stage.ratio for stage in stage_growth(rows)])
    with np.errstate(divide="ignore"):
        return float(np.log(ratios.min())) if len(ratios) else math.nan  # min keeps NaN


def brownness(rows: pd.DataFrame) -> float:
    """Where the autocorrelation of input gradients lies between white noise (0) and brown noise (1), for one run.

    The mean autocorrelation over the first eighth of the line, on a scale from that of white to that of brown noise.

    Args:
        rows: rows of the probe `shattering` of one run.
    """
    near = rows[(rows["quantity"] == "autocorrelation") & (rows["lag"] > 0) & (rows["distance"] <= 1 / 8)]
    means = near.groupby("series")["autocorrelation"].mean()
    if not {"network", "white", "brown"} <= set(means.index):
        return math.nan
    return float((means["network"] - means["white"]) / (means["brown"] - means["white"]))


def log_shrinkage(rows: pd.DataFrame) -> float:
    """−log of the growth of ‖F(x)‖ / ‖S x‖ in training, mean over the blocks that keep the shape.

    Args:
        rows: rows of the probe `responses` of one run.
    """
    kept = rows[rows["branch_to_skip_growth"].notna() & ~_is_true(rows["downsampling"])]
    with np.errstate(divide="ignore"):
        logs = np.log(kept["branch_to_skip_growth"].to_numpy(float))
    return -float(logs.mean()) if len(logs) else math.nan


def harm_of_deletion(rows: pd.DataFrame, statistics: str = "re-estimated") -> float:
    """Rise of the error when one block that keeps the shape is deleted, in percentage points; mean over the blocks.

    Args:
        rows: rows of the probe `lesion` of one run.
        statistics: of batch normalisation, `re-estimated` or `running`.
    """
    kept = single_deletions(rows)
    kept = kept[kept["statistics"] == statistics]
    return float(kept["error_change_pp"].mean()) if len(kept) else math.nan


def single_deletions(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the probe `lesion` in which one block that keeps the shape is deleted."""
    return rows[(rows["lesion"] == "delete") & ~_is_true(rows["downsampling"])]


def area_of_deletions(rows: pd.DataFrame) -> float:
    """Mean error in per cent while a growing random share of the blocks is deleted; NaN if it was not measured.

    Args:
        rows: rows of the probe `lesion` of one run.
    """
    curves = rows[(rows["lesion"] == "delete-random") & (rows["statistics"] == "re-estimated")]
    return float(deletion_areas(curves.assign(label=""))["area_error_pct"].iloc[0]) if len(curves) else math.nan


def log_curvature(rows: pd.DataFrame) -> float:
    """Logarithm of the largest eigenvalue of D H D; NaN if it is not positive or has not converged.

    Args:
        rows: rows of the probe `landscape` of one run.
    """
    kept = rows[(rows["part"] == "eigenvalue") & (rows["matrix"] == "DHD") & (rows["end"] == "largest")]
    if not len(kept):
        return math.nan
    value, residual = float(kept["eigenvalue"].iloc[0]), float(kept["residual"].iloc[0])
    return math.log(value) if value > 0 and residual <= _CONVERGED * value else math.nan


def log_loss(rows: pd.DataFrame) -> float:
    """Logarithm of the training loss at the trained weights, in nats; NaN if it was not measured or is not positive.

    Args:
        rows: rows of the probe `landscape` of one run.
    """
    center = rows.loc[(rows["part"] == "slice") & (rows["alpha"].abs() < 1e-9), "loss"]
    loss = float(center.mean()) if len(center) else math.nan
    return math.log(loss) if loss > 0 else math.nan


def branch_deviation(rows: pd.DataFrame) -> float:
    """Deviation of F(x), which is 1 at initialisation; mean over the blocks that keep the shape.

    Args:
        rows: rows of the probe `responses` of one run.
    """
    kept = rows[rows["branch_to_skip_growth"].notna() & ~_is_true(rows["downsampling"])]
    return float(kept["deviation"].mean()) if len(kept) else math.nan


def largest_growth(gradflow: pd.DataFrame, network: str) -> float | None:
    """Largest norm of the weights of a layer ÷ its initial norm, over epochs and runs; None if it was not measured.

    Args:
        gradflow: rows of gradflow.csv of several runs, with columns network and path.
        network: whose runs count.
    """
    if gradflow.empty:
        return None
    norms = gradflow[gradflow["network"] == network].pivot_table(
        index=["path", "layer_index"], columns="epoch", values="weight_norm"
    )
    if 0 not in norms or len(norms.columns) == 1:
        return None
    ratios = norms.div(norms[0], axis=0).to_numpy(float)
    return float(np.nanmax(ratios)) if np.isfinite(ratios).any() else None


def information_loss(rows: pd.DataFrame) -> float:
    """Accuracy of a linear classifier on the best block minus that on the last block, in percentage points.

    Args:
        rows: rows of the probe `similarity` of one run.
    """
    probe = rows[rows["quantity"] == "linear probe"].sort_values("block_index")
    accuracy = probe["accuracy_pct"].to_numpy(float)
    return float(accuracy.max() - accuracy[-1]) if len(accuracy) else math.nan


def _is_true(column: pd.Series) -> "pd.Series[bool]":
    # a column of a CSV file with empty cells has True and "True" mixed
    return column.astype(str) == "True"
