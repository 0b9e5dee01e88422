"""Gradient flow is judged within stages, by measures that do not depend on the scale of the weights."""

import math

import pandas as pd
import pytest

from resnet_cli.analysis.gradients import judge, stage_growth


def rows(growth, blocks=9, jump=1.0, weight=lambda stage, block: 1.0):
    """Rows of a network: `growth(stage)` per block; `jump` at the blocks that change the shape."""
    found = []
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            is_jump = stage > 1 and block == 1
            factor = jump if is_jump else growth(stage)
            of_block = {"input_grad_norm": 1.0, "growth": factor, "scale_free_grad_norm": weight(stage, block)}
            found.append({"layer": f"layer{stage}.{block - 1}.conv1", "stage": stage, "block": block, **of_block})
            found.append({"layer": f"layer{stage}.{block - 1}.conv2", "stage": stage, "block": block,
                          "input_grad_norm": math.nan, "growth": math.nan, "scale_free_grad_norm": 5.0})  # fmt: skip
    return pd.DataFrame(found)


def test_growth_is_a_geometric_mean_over_the_blocks_that_keep_their_shape():
    first, second, third = stage_growth(rows(lambda stage: {1: 1.1, 2: 1.2, 3: 0.9}[stage], jump=100.0))
    assert (first.blocks, second.blocks, third.blocks) == (9, 8, 8)
    assert [stage.growth_per_block for stage in (first, second, third)] == pytest.approx([1.1, 1.2, 0.9])
    assert [stage.ratio for stage in (first, second, third)] == pytest.approx([1.1**9, 1.2**8, 0.9**8])


def test_the_ratio_of_weight_gradients_compares_first_convolutions_of_one_shape():
    stages = stage_growth(rows(lambda _: 1.0, weight=lambda stage, block: 2.0**-block))
    assert [stage.weight_ratio for stage in stages] == pytest.approx([2.0**8, 2.0**7, 2.0**7])


@pytest.mark.parametrize(
    ("total", "verdict"),
    [(0.05, "vanishing"), (0.2, "shrinking"), (0.34, "healthy"), (1.0, "healthy"), (2.9, "healthy"), (5.0, "growing"),
     (11.0, "exploding")],
)  # fmt: skip
def test_the_verdict_is_that_of_the_stage_that_changes_most(total, verdict):
    found = judge(stage_growth(rows(lambda stage: total ** (1 / 8) if stage == 2 else 1.0)))
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(total)
    assert total == 1.0 or found.stage == 2


def test_jumps_between_stages_do_not_enter_the_verdict():
    assert judge(stage_growth(rows(lambda _: 1.0, jump=1e6))).verdict == "healthy"


@pytest.mark.parametrize("broken", [0.0, math.inf, math.nan])
def test_a_gradient_that_is_zero_or_not_finite_has_no_verdict(broken):
    frame = rows(lambda _: 1.0)
    frame.loc[frame["layer"] == "layer2.3.conv1", "growth"] = broken
    found = judge(stage_growth(frame))
    assert (found.verdict, found.stage) == ("undefined", 2)
    assert str(found) == "undefined: a gradient of stage 2 is zero or not finite"


def test_the_shallowest_network_has_a_growth_only_in_stage_1():
    (only,) = stage_growth(rows(lambda _: 2.0, blocks=1))
    assert (only.stage, only.blocks, only.ratio) == (1, 1, pytest.approx(2.0))
