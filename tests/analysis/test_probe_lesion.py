"""Summary and figure of the probe `lesion`."""

import math

import pandas as pd
import pytest

from resnet_cli.analysis.figures.probes.lesion import draw, table
from resnet_cli.analysis.lesions import deletion_areas


def row(lesion, blocks, error, statistics="running", **fields):
    intact = {"running": 10.0, "re-estimated": 20.0}[statistics]
    return {
        "label": "a run", "network": "resnet-14", "lesion": lesion, "blocks": blocks, "stage": None,
        "downsampling": False, "num_deleted": 0, "repeat": None, "deleted_share": None, "statistics": statistics,
        "error_pct": error, "error_change_pp": error - intact,
    } | fields  # fmt: skip


def curve(repeat, errors, statistics):
    return [
        row("delete-random", "layer1.0" if share else None, error, statistics, repeat=repeat, deleted_share=share,
            num_deleted=round(4 * share))
        for share, error in errors.items()
    ]  # fmt: skip


RUNNING = [
    row("delete", "layer1.1", 40.0, stage=1, num_deleted=1),
    row("delete", "layer2.0", 95.0, stage=2, num_deleted=1, downsampling=True),
    row("delete", "layer2.1", 60.0, stage=2, num_deleted=1),
    *curve(2, {1.0: 90.0, 0.0: 10.0, 0.5: 50.0}, "running"),
    *curve(1, {0.0: 10.0, 0.5: 10.0, 1.0: 90.0}, "running"),
    row("swap", "layer1.0 layer1.1", 12.0, stage=1),
    row("swap", "layer2.0 layer2.1", 18.0, stage=2),
]
REESTIMATED = [
    row("delete", "layer1.1", 20.0, "re-estimated", stage=1, num_deleted=1),
    *curve(1, {0.0: 20.0, 1.0: 40.0}, "re-estimated"),
]
FRAME = pd.DataFrame(RUNNING + REESTIMATED)


def test_the_area_is_the_mean_error_over_the_deleted_share_averaged_over_repeats():
    running, reestimated = deletion_areas(FRAME).to_dict("records")
    assert running == {
        "label": "a run", "statistics": "running", "area_error_pct": (50.0 + 30.0) / 2,
        "area_change_pp": (40.0 + 20.0) / 2,
    }  # fmt: skip
    assert (reestimated["area_error_pct"], reestimated["area_change_pp"]) == (30.0, 10.0)


def test_the_summary_leaves_downsampling_blocks_out_of_the_mean():
    summary = table(FRAME)
    running, reestimated = (dict(zip(summary.columns, values, strict=True)) for values in summary.rows)
    assert running == {
        "network": "a run", "statistics": "running", "error %": 10.0, "delete one, pp": 40.0, "largest, pp": 50.0,
        "block": "layer2.1", "delete k, area %": 40.0, "area, pp": 30.0, "swap two, pp": 5.0,
    }  # fmt: skip
    assert reestimated["error %"] == 20.0
    assert math.isnan(reestimated["swap two, pp"])


def test_the_figure_shows_single_deletions_random_deletions_and_swaps_for_both_kinds_of_statistics():
    single, random, swaps, *below = draw(FRAME).axes
    kept, downsampling = single.lines
    assert kept.get_xydata().tolist() == [[2, 30], [4, 50]]
    assert downsampling.get_xydata().tolist() == [[3, 85]]
    assert random.lines[0].get_xydata().tolist() == [[0, 10], [0.5, 30], [1, 90]]
    assert swaps.lines[0].get_ydata().tolist() == [2.0, 8.0]
    assert below[1].lines[0].get_ydata().tolist() == pytest.approx([20, 40])


def test_the_figure_of_a_network_without_two_blocks_of_one_shape_says_so_and_shows_its_single_block_as_a_dot():
    block = FRAME["blocks"].eq(FRAME.loc[FRAME["lesion"] == "delete", "blocks"].iloc[0])
    single, _, swaps, *_ = draw(FRAME[(FRAME["lesion"] == "delete-random") | block]).axes
    assert [line.get_marker() for line in single.lines if len(line.get_xdata()) == 1] == ["o"]
    assert [text.get_text() for text in swaps.texts] == ["no two blocks\nof one shape"]
