"""Gradient norms against depth: profiles for the figure, and their trend in two numbers."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_cli.analysis.bands import seed_bands

# More thin lines than this cannot be distinguished.
_MAX_EARLIER = 5


class GradientTrend(NamedTuple):
    """How gradient norms change over depth."""

    early_late_ratio: float  # geometric mean of the norms in stage 1 over that in stage 3; below 1: vanishing
    log10_slope_per_layer: float  # least squares, in decades per layer towards the output


def gradient_trend(frame: pd.DataFrame) -> GradientTrend:
    """Summarise the gradient norms of one network.

    Only the 3×3 convolutions inside blocks count: the first convolution and the linear layer
    have other shapes. Layers whose gradient is exactly 0 have no logarithm and make both numbers NaN.

    Args:
        frame: one row per layer with stage, layer_index and grad_norm, as `measure_gradflow` returns.
    """
    inner = frame[frame["stage"].between(1, 3)]
    with np.errstate(divide="ignore"):
        logs = np.log10(inner["grad_norm"].to_numpy(dtype=float))
    if not np.isfinite(logs).all():
        return GradientTrend(np.nan, np.nan)
    stage = inner["stage"].to_numpy()
    ratio = 10 ** (logs[stage == 1].mean() - logs[stage == 3].mean())
    slope = np.polyfit(inner["layer_index"].to_numpy(dtype=float), logs, 1)[0]
    return GradientTrend(float(ratio), float(slope))


def recorded_profiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Profiles of recorded gradient norms, with the geometric mean over seeds and its t-interval.

    A network with one run also gets a few earlier epochs; several runs get their last epoch only.

    Args:
        rows: rows of gradflow.csv with the columns network, depth and path (of the run).

    Returns:
        One row per line of the figure and layer: label, network, depth, layer_index, norm, low, high (NaN where there
        is no interval) and is_earlier (an epoch before the last).
    """
    profiles = []
    for network, of_network in rows.groupby("network", sort=False):
        epochs = sorted(of_network["epoch"].unique())
        earlier = spread(epochs[:-1], _MAX_EARLIER) if of_network["path"].nunique() == 1 else []
        for epoch in (*earlier, epochs[-1]):
            is_earlier = epoch != epochs[-1]
            bands = seed_bands(of_network[of_network["epoch"] == epoch], "layer_index", "grad_norm", log=True)
            label = f"{network} epoch {epoch}" if is_earlier else str(network)
            profiles.append(bands.assign(label=label, depth=of_network["depth"].iloc[0], is_earlier=is_earlier))
    return pd.concat(profiles, ignore_index=True).rename(columns={"mean": "norm"})


def measured_profiles(frame: pd.DataFrame) -> pd.DataFrame:
    """Profiles of measured gradient norms, with ± one standard deviation over minibatches.

    Args:
        frame: rows of `resnet_cli.measure.measure` with `measure_gradflow`.

    Returns:
        As `recorded_profiles`.
    """
    norm, deviation = frame["grad_norm"], frame["grad_norm_std"]
    return frame[["label", "network", "layer_index"]].assign(
        depth=frame.groupby("label")["layer_index"].transform("max"),
        norm=norm,
        low=(norm - deviation).clip(lower=norm * 1e-3),  # the axis is logarithmic
        high=norm + deviation,
        is_earlier=False,
    )


def spread(values: list[int], count: int) -> list[int]:
    """At most `count` of `values`, evenly spaced, starting with the first."""
    if len(values) <= count:
        return values
    return [values[round(position * (len(values) - 1) / (count - 1))] for position in range(count)]
