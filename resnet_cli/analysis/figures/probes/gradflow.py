"""Summary and figure of the probe `gradflow`: gradients at layers and blocks, and whether they vanish or explode."""

import pandas as pd
from matplotlib.figure import Figure

from resnet_cli.analysis.figures.gradients import measured_gradients
from resnet_cli.analysis.figures.probes.summary import Summary
from resnet_cli.analysis.gradients import judge, stage_growth


def table(frame: pd.DataFrame) -> Summary:
    """One row per network: growth of the gradient per block in each stage, and the verdict."""
    rows = []
    for label, of_network in frame.groupby("label", sort=False):
        stages = stage_growth(of_network)
        growth = {stage.stage: stage.growth_per_block for stage in stages}
        rows.append([str(label), *(growth.get(stage) for stage in (1, 2, 3)), judge(stages).verdict])
    columns = ["network", *(f"growth per block, stage {stage}" for stage in (1, 2, 3)), "verdict"]
    notes = ["growth: ‖∂L/∂x‖ at a block's input ÷ at its output, geometric mean; above 1 it grows towards the input"]
    return Summary(columns, rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw ‖W‖·‖∂L/∂W‖ of each layer and ‖∂L/∂x‖ of each block."""
    return measured_gradients(frame)
