"""Profiles of gradient flow against depth, for figures: of every seed, or the geometric mean over many."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from resnet_cli.analysis.bands import MIN_SEEDS, seed_bands

# More colours of a ramp than this cannot be distinguished.
_MAX_EPOCHS = 6


def scale_free_norms(rows: pd.DataFrame) -> pd.DataFrame:
    """Scale-free measures of gradient flow in long form, without values that a logarithmic axis cannot show.

    The norm of a weight's gradient alone would mislead: batch normalisation makes the loss invariant to ‖W‖, so
    ‖∂L/∂W‖ is proportional to 1/‖W‖ (Arora, Li & Lyu 2018, arXiv 1812.03981, lemma 2.4).

    Args:
        rows: one row per layer, with grad_norm, weight_norm and, in rows of the first layer of a block,
            input_grad_norm; other columns are kept.

    Returns:
        The other columns, then measure (`layer`: ‖W‖·‖∂L/∂W‖; `block`: ‖∂L/∂x‖ at the input of a block) and norm.
    """
    parts = [rows.assign(measure="layer", norm=rows["weight_norm"] * rows["grad_norm"])]
    if "input_grad_norm" in rows:
        parts.append(rows.assign(measure="block", norm=rows["input_grad_norm"]))
    found = pd.concat(parts, ignore_index=True)
    return found.replace({"norm": [np.inf, 0.0]}, np.nan).dropna(subset="norm")


def recorded_profiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Profiles of recorded gradients; of many recorded epochs, some are chosen evenly, with the first and the last.

    Args:
        rows: rows of gradflow.csv with the columns network, seed and path (of the run).

    Returns:
        As `seed_profiles`, with the columns network and epoch. Only the last epoch has an interval.
    """
    epochs = sorted(int(epoch) for epoch in rows["epoch"].unique())
    chosen = rows[rows["epoch"].isin(spread(epochs, _MAX_EPOCHS))]
    profiles = seed_profiles(chosen.rename(columns={"path": "run"}), ["network", "epoch"])
    return profiles.assign(**{side: profiles[side].where(profiles["epoch"] == epochs[-1]) for side in ("low", "high")})


def seed_profiles(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Profiles of every run, or from `MIN_SEEDS` seeds on their geometric mean with its Student-t interval.

    Args:
        rows: as for `scale_free_norms`, with stage, layer_index, seed, run (which line a row belongs to) and `keys`.
        keys: columns that identify what is averaged, such as the network.

    Returns:
        One row per point: `keys`, measure, line (a run, or `mean`), stage, layer_index, norm, low and high, which are
        NaN where there is no interval.
    """
    groups = [*keys, "measure"]
    columns = [*groups, "line", "stage", "layer_index", "norm", "low", "high"]
    profiles = []
    for _, part in scale_free_norms(rows).groupby(groups, sort=False):
        lines = part.assign(line=part["run"].astype(str), low=np.nan, high=np.nan)
        bands = seed_bands(part.assign(network=""), "layer_index", "norm", log=True)
        if len(bands) and bands["n"].max() >= MIN_SEEDS:
            first = part.drop_duplicates("layer_index").drop(columns="norm")
            bands = bands[["layer_index", "mean", "low", "high"]].rename(columns={"mean": "norm"})
            lines = first.merge(bands, on="layer_index").assign(line="mean")
        profiles.append(lines[columns])
    return pd.concat(profiles, ignore_index=True) if profiles else pd.DataFrame(columns=columns)


def spread(values: list[int], count: int) -> list[int]:
    """At most `count` of `values`, evenly spaced, starting with the first."""
    if len(values) <= count:
        return values
    return [values[round(position * (len(values) - 1) / (count - 1))] for position in range(count)]
