"""Numbers that summarise the rows of the probe `lesion`."""

import numpy as np
import pandas as pd


def deletion_areas(frame: pd.DataFrame) -> pd.DataFrame:
    """Area under the curve of random deletions: the mean error while the deleted share grows from 0 to 1.

    The curve of each repeat is integrated by the trapezoidal rule, then averaged over repeats.

    Args:
        frame: rows of the probe, of any number of networks.

    Returns:
        One row per label and statistics: label, statistics, area_error_pct, and area_change_pp relative to the intact
        network. The second is bounded by the room that the intact network leaves up to chance.
    """
    curves = frame[frame["lesion"] == "delete-random"].sort_values("deleted_share")
    keys = ["label", "statistics"]
    areas = [
        {
            **dict(zip([*keys, "repeat"], names, strict=True)),
            "area_error_pct": float(np.trapezoid(curve["error_pct"], curve["deleted_share"])),
            "area_change_pp": float(np.trapezoid(curve["error_change_pp"], curve["deleted_share"])),
        }
        for names, curve in curves.groupby([*keys, "repeat"], sort=False)
    ]
    return pd.DataFrame(areas).drop(columns="repeat").groupby(keys, sort=False).mean().reset_index()
