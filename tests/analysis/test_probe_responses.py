"""Summary and figure of the probe `responses`."""

import math

import pandas as pd
import pytest

from resnet_cli.analysis.figures.probes.responses import draw, table


def rows_of(label, deviations, ratios=None):
    """Rows of a network with one block per pair of deviations after the first; the second block is downsampling."""
    rows = []
    for index, deviation in enumerate(deviations, start=1):
        block = index // 2
        ratio = ratios[block - 1] if ratios and index > 1 and index % 2 else (None, None)
        rows.append({
            "label": label, "network": label, "layer_index": index, "downsampling": block == 2, "deviation": deviation,
            "closed_form": deviation * 1.01, "rank": sorted(deviations, reverse=True).index(deviation) + 1,
            "branch_to_skip": ratio[0], "branch_to_skip_growth": ratio[1],
        })  # fmt: skip
    return rows


PLAIN = rows_of("plain-8", [1.0, 3.0, 2.0, 1.5, 0.5, 4.0, 2.5])
RESIDUAL = rows_of("resnet-8", [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [(1.0, 2.0), (0.3, 5.0), (0.25, 8.0)])


def test_the_summary_has_deviations_and_geometric_means_of_ratios_without_downsampling_blocks():
    summary = table(pd.DataFrame(PLAIN + RESIDUAL))
    plain, residual = (dict(zip(summary.columns, row, strict=True)) for row in summary.rows)
    assert (plain["deviation"], plain["smallest"], plain["largest"]) == (pytest.approx(14.5 / 7), 0.5, 4.0)
    assert math.isnan(plain["‖F‖ / ‖S‖"])
    assert residual["‖F‖ / ‖S‖"] == pytest.approx(0.5)
    assert residual["growth"] == pytest.approx(4.0)
    assert residual["growth, downsampling"] == pytest.approx(5.0)
    assert "0.99 %" in summary.notes[0]


def test_the_figure_shows_deviations_in_layer_order_and_sorted_and_the_ratios_of_residual_blocks():
    in_order, by_rank, ratios, growth = draw(pd.DataFrame(PLAIN + RESIDUAL)).axes
    (plain, _), (sorted_plain, _) = in_order.lines, by_rank.lines
    assert plain.get_ydata().tolist() == [1.0, 3.0, 2.0, 1.5, 0.5, 4.0, 2.5]
    assert sorted_plain.get_ydata().tolist() == [4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5]
    assert ratios.lines[0].get_xydata().tolist() == [[1, 1.0], [2, 0.3], [3, 0.25]]
    assert growth.lines[1].get_xydata().tolist() == [[2, 5.0]]  # the dot of the downsampling block


def test_plain_networks_alone_have_no_panels_for_ratios():
    assert len(draw(pd.DataFrame(PLAIN)).axes) == 2
