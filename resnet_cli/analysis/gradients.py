"""Gradient norms against depth: profiles for the figure, and their trend in two numbers."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_cli.analysis.bands import MIN_SEEDS, seed_bands

# More colours of a ramp than this cannot be distinguished.
_MAX_EPOCHS = 6
_PROFILE_COLUMNS = ["network", "epoch", "line", "measure", "layer_index", "norm", "low", "high"]


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


def gradient_measures(rows: pd.DataFrame) -> pd.DataFrame:
    """Scale-free measures of gradient flow in long form, without missing values.

    The norm of a weight's gradient alone would mislead: batch normalisation makes the loss invariant to ‖W‖, so
    ‖∂L/∂W‖ is proportional to 1/‖W‖ (Arora, Li & Lyu 2018, arXiv 1812.03981, lemma 2.4).

    Args:
        rows: one row per layer, with grad_norm, weight_norm and, in rows of the first layer of a block,
            input_grad_norm; other columns are kept.

    Returns:
        The other columns, then measure (`layer`: ‖W‖·‖∂L/∂W‖; `block`: ‖∂L/∂x‖ at the input of a block) and norm.
    """
    of_layers = rows.assign(measure="layer", norm=rows["weight_norm"] * rows["grad_norm"])
    parts = [of_layers]
    if "input_grad_norm" in rows:
        parts.append(rows.assign(measure="block", norm=rows["input_grad_norm"]))
    found = pd.concat(parts, ignore_index=True)
    return found.replace({"norm": [np.inf, 0.0]}, np.nan).dropna(subset="norm")


def recorded_profiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Profiles of recorded gradient norms: of every seed, or from `MIN_SEEDS` on their geometric mean.

    Args:
        rows: rows of gradflow.csv with the columns network and path (of the run).

    Returns:
        Columns network, epoch, line (one curve), measure, stage, layer_index, norm, low and high. Of many recorded
        epochs, some are chosen evenly, with the first and the last. Only the last one has an interval.
    """
    epochs = sorted(int(epoch) for epoch in rows["epoch"].unique())
    chosen = gradient_measures(rows[rows["epoch"].isin(spread(epochs, _MAX_EPOCHS))])
    stage_of = dict(zip(rows["layer_index"], rows["stage"], strict=True))
    profiles = []
    keys = ["network", "epoch", "measure"]
    for _, part in chosen.groupby(keys, sort=False):
        bands = seed_bands(part, "layer_index", "norm", log=True)
        lines = part.assign(line=part["path"], low=np.nan, high=np.nan)
        if len(bands) and bands["n"].max() >= MIN_SEEDS:
            lines = bands.rename(columns={"mean": "norm"}).assign(line="mean")
            if part["epoch"].iloc[0] != epochs[-1]:
                lines = lines.assign(low=np.nan, high=np.nan)
        profiles.append(lines.assign(**{key: part[key].iloc[0] for key in keys})[_PROFILE_COLUMNS])
    found = pd.concat(profiles, ignore_index=True) if profiles else pd.DataFrame(columns=_PROFILE_COLUMNS)
    return found.assign(stage=found["layer_index"].map(stage_of))


def spread(values: list[int], count: int) -> list[int]:
    """At most `count` of `values`, evenly spaced, starting with the first."""
    if len(values) <= count:
        return values
    return [values[round(position * (len(values) - 1) / (count - 1))] for position in range(count)]
