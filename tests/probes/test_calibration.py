"""Calibration agrees with closed forms and with scikit-learn."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from resnet_cli.probes.calibration import fit_temperature, measure_calibration, scale_by_temperature


def two_classes(margin, accuracy, n=400):
    """Logits of `n` images, all with the same margin, of which a share `accuracy` is predicted correctly."""
    labels = np.arange(n) % 2
    answers = labels.copy()
    answers[: round(n * (1 - accuracy))] ^= 1
    return margin * np.eye(2)[answers], labels


@pytest.fixture
def noisy():
    """Overconfident logits of 600 images and 5 classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 600)
    return (3 * (rng.normal(size=(600, 5)) + 1.5 * np.eye(5)[labels])).astype(np.float32), labels


@pytest.mark.parametrize(("margin", "accuracy"), [(4.0, 0.75), (0.5, 0.9), (12.0, 0.6)])
def test_the_temperature_of_equal_margins_is_the_margin_divided_by_the_logit_of_the_accuracy(margin, accuracy):
    logits, labels = two_classes(margin, accuracy)
    expected = margin / math.log(accuracy / (1 - accuracy))
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-4)


def test_a_network_without_errors_gets_a_temperature_that_makes_every_confidence_one():
    logits, labels = two_classes(1.0, 1.0)
    temperature = fit_temperature(logits, labels)
    assert 0.01 <= temperature < 0.05
    assert softmax(logits / temperature, axis=1).max() == 1


def test_each_half_is_scaled_by_the_temperature_of_the_other(noisy):
    logits, labels = noisy
    scaled, temperatures = scale_by_temperature(logits, labels)
    used = (logits / scaled)[:, 0]
    for own, other in (temperatures, temperatures[::-1]):
        half = np.isclose(used, other, rtol=1e-6)
        assert half.sum() == pytest.approx(300, abs=3)
        assert fit_temperature(logits[half], labels[half]) == pytest.approx(own, rel=1e-6)
        assert np.bincount(labels[half]) == pytest.approx(np.bincount(labels) / 2, abs=1)
    assert all(temperature > 1 for temperature in temperatures), "the logits are overconfident"


def test_temperature_scaling_of_overconfident_logits_lowers_nll_and_gap_but_keeps_every_prediction(noisy):
    before, after = (measure_calibration(*noisy, scaling=scaling)[0] for scaling in ("none", "temperature"))
    assert after["nll"] < before["nll"]
    assert abs(after["gap_pct"]) < before["gap_pct"]
    assert after["accuracy_pct"] == before["accuracy_pct"]
    assert (before["temperature_1"], before["temperature_2"]) == (1, 1)


def test_measures_over_all_images_are_those_of_scikit_learn_and_their_definitions(noisy):
    logits, labels = noisy
    row = measure_calibration(logits, labels)[0]
    p = softmax(logits.astype(np.float64), axis=1)
    assert row["bin"] is None
    assert row["nll"] == pytest.approx(log_loss(labels, p))
    assert row["brier"] == pytest.approx(np.mean(np.sum((p - np.eye(5)[labels]) ** 2, axis=1)))
    assert row["entropy"] == pytest.approx(np.mean(-np.sum(p * np.log(p), axis=1)))
    correct = p.argmax(1) == labels
    assert row["gap_pct"] == pytest.approx(100 * (p.max(1).mean() - correct.mean()))
    assert row["gap_pct"] > 0


def test_the_reliability_diagram_is_that_of_scikit_learn(noisy):
    logits, labels = noisy
    p = softmax(logits.astype(np.float64), axis=1)
    accuracy, confidence = calibration_curve(p.argmax(1) == labels, p.max(1), n_bins=15)
    every, *bins = measure_calibration(logits, labels)
    np.testing.assert_allclose([row["accuracy_pct"] / 100 for row in bins], accuracy)
    np.testing.assert_allclose([row["confidence_pct"] / 100 for row in bins], confidence)
    assert [row["bin"] for row in bins] == sorted({math.ceil(value * 15) for value in p.max(1)})
    ece = sum(row["num_images"] * abs(row["gap_pct"]) for row in bins) / 600
    assert every["ece_pct"] == pytest.approx(ece)
    assert sum(row["num_images"] for row in bins) == every["num_images"] == 600
