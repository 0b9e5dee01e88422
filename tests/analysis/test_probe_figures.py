"""Summaries and figures of probes show the rows they are given."""

import io

import numpy as np
import pandas as pd
import pytest

from resnet_cli.analysis.figures.probes import bn, calibration, capacity
from resnet_cli.probes.calibration import measure_calibration


def identified(rows, label="plain-8", network="plain-8"):
    identity = {"label": label, "network": network, "which": "last", "dataset": "digits", "seed": 0}
    return pd.DataFrame([{**identity, **row} for row in rows])


@pytest.fixture
def bn_frame():
    errors = {("running", "train"): 50.0, ("running", "test"): 60.0, ("re-estimated", "train"): 40.0,
              ("re-estimated", "test"): 45.0}  # fmt: skip
    rows = [{"statistics": kind, "split": split, "error_pct": error} for (kind, split), error in errors.items()]
    halved = [row | {"error_pct": row["error_pct"] / 2} for row in rows]
    # a label can be the name of a folder
    return pd.concat([identified(rows), identified(halved, "a_$\\frac{$\x1b[31m", "resnet-8")], ignore_index=True)


def saved(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def test_the_summary_of_bn_has_both_errors_of_each_network_in_order(bn_frame):
    summary = bn.table(bn_frame)
    assert summary.columns[1:3] == ["train error %, running", "train error %, re-estimated"]
    assert summary.rows[0] == ["plain-8", 50, 40, 60, 45]
    assert summary.rows[1][1:] == [25, 20, 30, 22.5]


def test_the_figure_of_bn_joins_the_two_errors_of_each_network(bn_frame):
    figure = bn.draw(bn_frame)
    train = figure.axes[0]
    assert [list(line.get_xdata()) for line in train.lines if len(line.get_xdata()) == 2] == [[50, 40], [25, 20]]
    assert train.get_xlim()[1] > 51  # no marker is cut
    assert len(saved(figure)) > 1000


@pytest.fixture
def calibration_frame():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    logits = 2 * (rng.normal(size=(300, 3)) + np.eye(3)[labels])
    rows = [row for scaling in ("none", "temperature") for row in measure_calibration(logits, labels, scaling=scaling)]
    return identified(rows)


def test_the_summary_of_calibration_has_one_row_per_scaling_with_the_mean_temperature(calibration_frame):
    summary = calibration.table(calibration_frame)
    overall = calibration_frame[calibration_frame["bin"].isna()]
    assert [row[1] for row in summary.rows] == ["none", "temperature"]
    assert [row[3] for row in summary.rows] == overall["gap_pct"].tolist()
    assert summary.rows[1][-1] == pytest.approx(overall.iloc[1][["temperature_1", "temperature_2"]].mean())


def test_the_reliability_diagram_draws_accuracy_against_confidence_of_bins_with_enough_images(calibration_frame):
    figure = calibration.draw(calibration_frame)
    for axes, scaling in zip(figure.axes, ("none", "temperature"), strict=True):
        rows = calibration_frame[calibration_frame["bin"].notna() & (calibration_frame["num_images"] >= 5)]
        rows = rows[rows["scaling"] == scaling]
        line = axes.lines[1]  # after the diagonal
        assert list(line.get_xdata()) == rows["confidence_pct"].tolist()
        assert list(line.get_ydata()) == rows["accuracy_pct"].tolist()
    assert len(saved(figure)) > 1000


def capacity_rows(num_epochs):
    rows = []
    for statistics, trained in (("initial", 30.0), ("matched", 6.0)):
        base = {"statistics": statistics, "epoch": 0, "split": "train", "num_changed": 0, "max_logit_difference": 0.0}
        rows += [
            base | {"built_depth": 8, "mode": "eval", "error_pct": 5.0},
            base | {"built_depth": 20, "mode": "eval", "error_pct": 5.0, "max_logit_difference": 1e-6},
            base | {"built_depth": 8, "mode": "train", "error_pct": 4.0},
            base | {"built_depth": 20, "mode": "train", "error_pct": trained, "max_logit_difference": 2.0},
            base | {"built_depth": 20, "mode": "eval", "split": "test", "error_pct": 99.0},
        ]
        rows += [
            base | {"built_depth": 20, "mode": "fine-tuned", "epoch": epoch, "error_pct": 5.0 - epoch}
            for epoch in range(1, num_epochs + 1)
        ]
    return identified(rows)


@pytest.mark.parametrize("num_epochs", [0, 2])
def test_summary_and_figure_of_capacity_show_both_networks_training_mode_and_fine_tuning(num_epochs):
    frame = capacity_rows(num_epochs)
    last = 5.0 - num_epochs if num_epochs else None
    assert capacity.table(frame).rows == [
        ["plain-8", "plain-20", "initial", 5, 5, 0, 1e-6, 30, 2, last],
        ["plain-8", "plain-20", "matched", 5, 5, 0, 1e-6, 6, 2, last],
    ]
    figure = capacity.draw(frame)
    tuned = [4, 3][:num_epochs]
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[5, 5, 30, *tuned], [5, 5, 6, *tuned]]
    assert len(saved(figure)) > 1000
