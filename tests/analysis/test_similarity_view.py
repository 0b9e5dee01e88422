"""Table and figure of similarity show neighbouring blocks, linear probes and the matrix of CKA."""

import numpy as np
import pandas as pd
import pytest

from resnet_cli.analysis.figures.probes.similarity import draw, table

STAGES = (0, 1, 2, 3)


def rows_of(label, network, accuracies):
    """CKA 1 − distance / 10 between four representations, and their accuracies."""
    cka = [
        {"quantity": "cka", "block_index": i, "stage": i, "other": j, "cka": 1 - abs(i - j) / 10, "num_images": 100}
        for i in STAGES for j in STAGES
    ]  # fmt: skip
    probes = [
        {"quantity": "linear probe", "block_index": i, "stage": i, "accuracy_pct": value, "low_pct": value - 4,
         "high_pct": value + 4, "num_images": 100}
        for i, value in enumerate(accuracies)
    ]  # fmt: skip
    return pd.DataFrame([*cka, *probes]).assign(label=label, network=network)


@pytest.fixture
def frame():
    networks = [("a", "plain-8", (50, 60, 70, 80)), ("b", "plain-8", (52, 62, 72, 82)), ("c", "resnet-8", (9, 9, 9, 9))]
    return pd.concat([rows_of(*network) for network in networks], ignore_index=True)


def test_the_table_has_the_accuracy_at_the_end_of_each_stage(frame):
    summary = table(frame)
    assert summary.rows[0] == ["a", pytest.approx(0.9), 50, 60, 70, 80]
    assert "± 4.0 points, from 100 test images" in summary.notes[1]


def test_the_figure_has_curves_per_network_and_a_matrix_of_its_first_run(frame):
    *matrices, _, left, right = draw(frame).axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [(0, 51), (1, 61), (2, 71), (3, 81)])
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (46, 86)  # over runs and their intervals
    np.testing.assert_allclose(right.lines[0].get_xydata(), [(1, 0.9), (2, 0.9), (3, 0.9)])
    assert [axes.get_title(loc="left") for axes in matrices] == ["a", "c"]
    np.testing.assert_allclose(matrices[0].images[0].get_array()[0], [1, 0.9, 0.8, 0.7])
