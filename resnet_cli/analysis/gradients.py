"""Gradient flow in a few numbers: growth per block within each stage, and whether gradients vanish or explode.

Stages are judged one by one, because width and resolution change between them. The two measures do not depend on the
scale of the weights: ‖∂L/∂x‖ at the input of a block, and ‖W‖·‖∂L/∂W‖ of its first convolution.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

# Of the norm at the first block of a stage to the norm at its last block. A factor of 3 over eight blocks is 15 % per
# block; a factor of 10 means that the first layers take steps of another order of magnitude.
VANISHING_BELOW = 0.1
HEALTHY_WITHIN = (1 / 3, 3.0)
EXPLODING_ABOVE = 10.0

Verdict = Literal["vanishing", "shrinking", "healthy", "growing", "exploding", "undefined"]


class StageGrowth(NamedTuple):
    """Change of the gradient within one stage, from its last block back to its first block of the same shape."""

    stage: int
    blocks: int
    """Number of steps from block to block."""
    growth_per_block: float
    """Geometric mean of ‖∂L/∂x‖ at a block's input ÷ at its output; above 1, the gradient grows towards the input."""
    ratio: float
    """‖∂L/∂x‖ at the input of the first block that keeps the shape ÷ at the output of the last block."""
    weight_ratio: float
    """‖W‖·‖∂L/∂W‖ of the first convolution of the first such block ÷ of the last block."""


def stage_growth(rows: pd.DataFrame) -> list[StageGrowth]:
    """Summarise the gradient flow of one network at one moment, stage by stage.

    Only blocks that keep the shape of their input count, so not the first block of stages 2 and 3. A norm of 0 or a
    missing one makes the numbers of its stage NaN.

    Args:
        rows: rows of gradflow.csv (one network, one epoch), with layer, stage, block, growth and scale_free_grad_norm.
    """
    blocks = rows[rows["growth"].notna() | rows["input_grad_norm"].notna()]
    stages = []
    kept = blocks[(blocks["stage"] == 1) | (blocks["block"] > 1)].sort_values(["stage", "block"])
    for stage, of_stage in kept.groupby("stage"):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(of_stage["growth"].to_numpy(dtype=float))
            weights = of_stage["scale_free_grad_norm"].to_numpy(dtype=float)
            weight_ratio = float(weights[0] / weights[-1])
        ratio = float(np.exp(logs.sum())) if np.isfinite(logs).all() else math.nan
        stages.append(
            StageGrowth(
                stage=int(str(stage)), blocks=len(of_stage), growth_per_block=ratio ** (1 / len(of_stage)), ratio=ratio,
                weight_ratio=weight_ratio if 0 < weight_ratio < math.inf else math.nan,
            )
        )  # fmt: skip
    return stages


class GradientVerdict(NamedTuple):
    """Whether the gradient vanishes or explodes towards the input."""

    verdict: Verdict
    stage: int
    """The stage that decides: the one whose ratio is farthest from 1."""
    growth_per_block: float
    ratio: float

    def __str__(self) -> str:
        if self.verdict == "undefined":
            return f"undefined: a gradient of stage {self.stage} is zero or not finite"
        return (
            f"{self.verdict}: ‖∂L/∂x‖ changes by a factor of {self.growth_per_block:.3g} per block towards the input, "
            f"{self.ratio:.3g} over stage {self.stage}"
        )


def judge(stages: list[StageGrowth]) -> GradientVerdict:
    """Judge the gradient flow of a network by the stage in which it changes most."""
    undefined = [stage for stage in stages if not 0 < stage.ratio < math.inf]
    if undefined:
        return GradientVerdict("undefined", undefined[0].stage, math.nan, math.nan)
    worst = max(stages, key=lambda stage: abs(math.log(stage.ratio)))
    return GradientVerdict(_word(worst.ratio), worst.stage, worst.growth_per_block, worst.ratio)


def _word(ratio: float) -> Verdict:
    low, high = HEALTHY_WITHIN
    if ratio < VANISHING_BELOW:
        return "vanishing"
    if ratio > EXPLODING_ABOVE:
        return "exploding"
    if low <= ratio <= high:
        return "healthy"
    return "shrinking" if ratio < 1 else "growing"


class NetworkFlow(NamedTuple):
    """Gradient flow of one network over several seeds."""

    label: str
    seeds: tuple[int, ...]
    stages: list[StageGrowth]
    """Geometric means over the seeds."""
    lowest_growth: list[float]
    """Smallest growth per block of any seed, by stage."""
    highest_growth: list[float]
    verdict: GradientVerdict
    """Of the geometric means."""
    agreeing: int
    """Number of seeds with the same verdict."""


def flow_of_networks(frame: pd.DataFrame) -> list[NetworkFlow]:
    """Summarise each network of a frame.

    Args:
        frame: rows of the probe `gradflow`; rows with the same label are seeds of one network.
    """
    flows = []
    for label, rows in frame.groupby("label", sort=False):
        by_seed = {int(str(seed)): stage_growth(of_seed) for seed, of_seed in rows.groupby("seed")}
        of_stages = [list(stages) for stages in zip(*by_seed.values(), strict=True)]
        means = [_mean_over_seeds(stages) for stages in of_stages]
        verdict = judge(means)
        flows.append(
            NetworkFlow(
                label=str(label), seeds=tuple(by_seed), stages=means,
                lowest_growth=[min(stage.growth_per_block for stage in stages) for stages in of_stages],
                highest_growth=[max(stage.growth_per_block for stage in stages) for stages in of_stages],
                verdict=verdict,
                agreeing=sum(judge(stages).verdict == verdict.verdict for stages in by_seed.values()),
            )
        )  # fmt: skip
    return flows


def _mean_over_seeds(stages: list[StageGrowth]) -> StageGrowth:
    with np.errstate(divide="ignore"):
        logs = np.log([(stage.growth_per_block, stage.ratio, stage.weight_ratio) for stage in stages])
    return StageGrowth(stages[0].stage, stages[0].blocks, *np.exp(logs.mean(axis=0)).tolist())
