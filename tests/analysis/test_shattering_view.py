"""Table and figure of shattered gradients show decay and cosines."""

import numpy as np
import pandas as pd
import pytest

from resnet_cli.analysis.figures.probes.shattering import draw, table


def rows_of(label, network, slope):
    """Two lines whose autocorrelations are on average 1 − slope × distance; noises fall with slopes 10 and 1."""
    curves = [
        {"quantity": "autocorrelation", "series": series, "line": line, "lag": lag, "distance": lag / 10,
         "autocorrelation": 1 - (slope + shift) * lag / 10}
        for series, slope in (("network", slope), ("white", 10.0), ("brown", 1.0))
        for line, shift in ((1, -0.1), (2, 0.1))
        for lag in range(5)
    ]  # fmt: skip
    cosines = [
        {"quantity": "cosine", "layer": layer, "stage": stage, "block": 0, "cosine": cosine, "loss": 2.3,
         "batch_size": 50.0}
        for layer, stage, cosine in (("all", None, 0.5), ("conv1", 0, 0.25), ("fc", 4, 0.75))
    ]  # fmt: skip
    return pd.DataFrame([*curves, *cosines]).assign(label=label, network=network)


@pytest.fixture
def frame():
    return pd.concat([rows_of("a", "plain-8", 4.0), rows_of("b", "resnet-8", 2.0)], ignore_index=True)


def test_the_table_has_the_decay_of_networks_and_noise(frame):
    plain, residual, white, brown = table(frame).rows
    assert plain == ["a", pytest.approx(0.6), pytest.approx(0.125), 0.5, 2.3, 50]
    assert residual[1:3] == pytest.approx([0.8, 0.25])
    assert white[:3] == ["white noise", pytest.approx(0), pytest.approx(0.05)]
    assert np.isnan(brown[2])  # 0.6 at the longest lag
    assert "lag 1 is 0.1 of the line" in table(frame).notes[0]


def test_the_figure_has_curves_of_networks_and_noise_and_a_cosine_per_layer(frame):
    left, right = draw(frame).axes
    lines = {line.get_label(): line for line in left.lines}
    assert list(lines) == ["plain-8", "resnet-8", "white noise", "brown noise"]
    np.testing.assert_allclose(lines["plain-8"].get_ydata(), [1, 0.6, 0.2, -0.2, -0.6])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [(1, 0.25), (2, 0.75)])
