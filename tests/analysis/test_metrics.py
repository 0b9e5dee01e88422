"""Metrics agree with scikit-learn, scipy and arithmetic done by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from resnet_cli.analysis.metrics import (
    Metrics,
    evaluate_predictions,
    expected_calibration_error_pct,
    log_softmax,
    wilson_proportion,
)

CLASSES = ("cat", "dog", "frog", "ship")


@pytest.fixture(scope="module")
def predictions():
    """Logits (500, 4) float32 and labels (500,); about half of the predictions are correct."""
    random = np.random.default_rng(7)
    labels = random.integers(0, 4, 500)
    logits = random.normal(size=(500, 4)).astype(np.float32)
    logits[np.arange(500), labels] += 1.0
    return logits, labels


@pytest.fixture(scope="module")
def metrics(predictions) -> Metrics:
    return evaluate_predictions(*predictions, CLASSES)


def test_accuracy_and_error_are_divided_from_the_same_counts(predictions, metrics):
    logits, labels = predictions
    assert metrics.num_examples == 500
    assert metrics.num_correct == sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))
    assert metrics.accuracy_pct == 100 * metrics.num_correct / 500
    assert metrics.error_pct == 100 * (500 - metrics.num_correct) / 500


def test_confusion_matrix_equals_sklearns_with_true_classes_as_rows(predictions, metrics):
    logits, labels = predictions
    np.testing.assert_array_equal(metrics.confusion_matrix, confusion_matrix(labels, logits.argmax(axis=1)))
    assert metrics.confusion_matrix.dtype == np.int64
    assert not np.array_equal(
        metrics.confusion_matrix, metrics.confusion_matrix.T
    )  # otherwise a transposed matrix would pass


def test_precision_recall_f1_support_and_loss_equal_sklearns(predictions, metrics):
    logits, labels = predictions
    expected = precision_recall_fscore_support(labels, logits.argmax(axis=1))
    ours = [(c.precision, c.recall, c.f1, c.support) for c in metrics.per_class]
    np.testing.assert_allclose(np.array(ours).T, expected, rtol=1e-12)
    assert metrics.loss == pytest.approx(log_loss(labels, np.exp(log_softmax(logits))), rel=1e-12)


def test_every_class_has_wilson_intervals_of_its_own_counts(metrics):
    for index, one in enumerate(metrics.per_class):
        num_correct = metrics.confusion_matrix[index, index]
        precision = wilson_proportion(num_correct, metrics.confusion_matrix[:, index].sum())
        assert (one.precision, one.precision_low, one.precision_high) == precision
        recall = wilson_proportion(num_correct, metrics.confusion_matrix[index].sum())
        assert (one.recall, one.recall_low, one.recall_high) == recall
    _, low, high = wilson_proportion(metrics.num_correct, 500)
    assert (metrics.accuracy_low_pct, metrics.accuracy_high_pct) == (100 * low, 100 * high)


def test_a_share_of_nothing_is_undefined():
    metrics = evaluate_predictions(np.array([[2.0, 1.0, 0.0]] * 2), np.array([0, 1]), "abc")
    _, never_predicted, absent = metrics.per_class
    assert (never_predicted.recall, never_predicted.f1, never_predicted.num_predicted) == (0.0, 0.0, 0)
    assert absent.support == 0
    assert math.isnan(never_predicted.precision)
    assert math.isnan(never_predicted.precision_low)
    assert all(map(math.isnan, (absent.precision, absent.recall_high, absent.f1)))


def test_calibration_error_equals_a_value_computed_by_hand():
    # three bins: (0, 1/3], (1/3, 2/3], (2/3, 1]
    confidence = np.array([0.30, 0.50, 0.60, 0.90, 0.95, 1.00])
    correct = np.array([False, True, False, True, True, False])
    # |0.30−0|·1/6 + |0.55−0.5|·2/6 + |0.95−2/3|·3/6
    assert expected_calibration_error_pct(confidence, correct, 3) == pytest.approx(
        100 * (0.30 / 6 + 0.05 * 2 / 6 + (0.95 - 2 / 3) * 3 / 6)
    )


def test_a_confidence_on_a_bin_edge_belongs_to_the_lower_bin():
    # with two bins, 0.5 and 0.4 share the lower bin
    confidence, correct = np.array([0.4, 0.5, 0.9]), np.array([True, False, True])
    expected = 100 * (abs(0.4 + 0.5 - 1) + abs(0.9 - 1)) / 3
    assert expected_calibration_error_pct(confidence, correct, 2) == pytest.approx(expected)
    assert expected != pytest.approx(100 * (abs(0.4 - 1) + abs(0.5 + 0.9 - 1)) / 3)


def test_calibration_error_of_the_metrics_uses_fifteen_bins(predictions, metrics):
    logits, labels = predictions
    probability = np.exp(log_softmax(logits))
    total = 0.0
    for m in range(1, 16):
        inside = [i for i, p in enumerate(probability.max(axis=1)) if (m - 1) / 15 < p <= m / 15]
        if inside:
            accuracy = np.mean([logits[i].argmax() == labels[i] for i in inside])
            total += len(inside) * abs(accuracy - probability[inside].max(axis=1).mean())
    assert metrics.ece_pct == pytest.approx(100 * total / 500)


def test_brier_score_confidence_and_entropy_equal_values_computed_by_hand():
    rows = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    metrics = evaluate_predictions(np.log(rows), np.array([0, 2]), "abc")
    first = 0.3**2 + 0.2**2 + 0.1**2
    second = 0.25**2 + 0.5**2 + 0.75**2
    assert metrics.brier == pytest.approx((first + second) / 2)
    assert metrics.mean_confidence == pytest.approx(0.6)
    assert metrics.mean_entropy == pytest.approx(-(rows * np.log(rows)).sum() / 2)


def test_huge_logits_do_not_overflow():
    metrics = evaluate_predictions(np.array([[1e30, 0.0], [500.0, -500.0]], np.float32), np.array([0, 1]), "ab")
    assert metrics.loss == pytest.approx(500.0)
    assert metrics.mean_entropy == pytest.approx(0.0)
    assert metrics.brier == pytest.approx(1.0)


def test_the_first_of_tied_logits_is_the_prediction():
    metrics = evaluate_predictions(np.zeros((2, 2)), np.array([0, 1]), "ab")
    np.testing.assert_array_equal(metrics.confusion_matrix, [[1, 0], [1, 0]])


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_scipys(counts):
    share, low, high = wilson_proportion(*counts)
    expected = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= share <= high <= 1


def test_to_dict_has_counts_first_and_one_flat_entry_per_class(metrics):
    document = metrics.to_dict()
    assert list(document)[:3] == ["accuracy_pct", "num_correct", "num_examples"]
    assert document["nll"] == document["loss"]
    assert document["accuracy_low_pct"] < document["accuracy_pct"] < document["accuracy_high_pct"]
    assert document["confusion_matrix"] == metrics.confusion_matrix.tolist()
    dog = document["per_class"][1]
    assert dog["class"] == "dog"
    assert dog["recall_low"] < dog["recall"] < dog["recall_high"]
    assert dog["precision"] == dog["num_correct"] / dog["num_predicted"]
