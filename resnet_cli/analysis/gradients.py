"""What a profile of gradient norms over depth says in two numbers."""

from typing import NamedTuple

import numpy as np
import pandas as pd


class GradientTrend(NamedTuple):
    """How gradient norms change over depth."""

    early_late_ratio: float
    """Geometric mean of the norms in stage 1 over that in stage 3: far below 1 means vanishing, above 1 growing."""
    log10_slope_per_layer: float
    """Least-squares slope of log10(norm) over the layer index: decades a layer towards the output."""


def gradient_trend(frame: pd.DataFrame) -> GradientTrend:
    """Summarise one network's gradient norms.

    Only the 3×3 convolutions inside blocks count: the first convolution and the linear layer
    have other shapes. Layers whose gradient is exactly 0 have no logarithm and make both numbers NaN.

    Args:
        frame: one row a layer with stage, layer_index and grad_norm, as `measure_gradflow` returns.
    """
    inner = frame[frame["stage"].between(1, 3)]
    with np.errstate(divide="ignore"):
        logs = np.log10(inner["grad_norm"].to_numpy(dtype=float))
    if not np.isfinite(logs).all():
        return GradientTrend(float("nan"), float("nan"))
    stage = inner["stage"].to_numpy()
    ratio = 10 ** (logs[stage == 1].mean() - logs[stage == 3].mean())
    slope = np.polyfit(inner["layer_index"].to_numpy(dtype=float), logs, 1)[0]
    return GradientTrend(float(ratio), float(slope))
