"""Metrics of a classifier from its logits: counts, per-class precision and recall, calibration (no torch)."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

Logits = np.ndarray[Any, np.dtype[np.floating[Any]]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

NUM_ECE_BINS = 15  # Guo et al. 2017 (arXiv 1706.04599), table 1


class ClassMetrics(msgspec.Struct, frozen=True):
    """Counts of one class, and shares between 0 and 1 with 95 % Wilson intervals (NaN if the class is empty)."""

    name: str = msgspec.field(name="class")
    support: int
    """Number of examples of this class."""
    num_predicted: int
    """Number of examples predicted as this class."""
    num_correct: int
    precision: float
    """num_correct of num_predicted."""
    precision_low: float
    precision_high: float
    recall: float
    """num_correct of support."""
    recall_low: float
    recall_high: float
    f1: float
    """Harmonic mean of precision and recall; not a binomial proportion, so it has no Wilson interval."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Metrics of a classifier on a labelled set, in the order in which they are printed."""

    accuracy_pct: float
    num_correct: int
    num_examples: int
    error_pct: float
    accuracy_low_pct: float
    """End of the 95 % Wilson interval."""
    accuracy_high_pct: float
    loss: float
    """Mean cross-entropy in nats."""
    nll: float
    """Negative log-likelihood, which is the same number for a classifier."""
    brier: float
    """Mean over examples of the squared distance between probabilities and the one-hot label: 0 to 2."""
    ece_pct: float
    """Expected calibration error; see `expected_calibration_error_pct`."""
    mean_confidence: float
    """Mean of the largest softmax output, 0 to 1."""
    mean_entropy: float
    """Mean entropy of the softmax output, in nats."""
    per_class: tuple[ClassMetrics, ...]
    confusion_matrix: Labels
    """(C, C) counts; rows are the true class, columns the predicted one."""

    def to_dict(self) -> dict[str, Any]:
        """All metrics as plain data."""
        document: dict[str, Any] = msgspec.to_builtins(self, enc_hook=np.ndarray.tolist)
        return document


def evaluate_predictions(logits: Logits, labels: Labels, classes: Sequence[str]) -> Metrics:
    """Compute all metrics.

    The predicted class is the one with the largest logit, the first of ties. Probabilities are computed in float64.

    Args:
        logits: (N, C) finite, any floating-point type; N is at least 1.
        labels: (N,) integers, 0 to C−1.
        classes: names of the C classes.
    """
    num_examples, num_classes = len(labels), len(classes)
    assert logits.shape == (num_examples, num_classes), f"{logits.shape}, {num_examples} labels, {num_classes} classes"
    predicted = logits.argmax(axis=1)
    confusion = confusion_matrix(predicted, labels, num_classes)
    num_correct = int(confusion.trace())
    _, low, high = wilson_proportion(num_correct, num_examples)

    log_probability = log_softmax(logits)  # (N, C)
    probability = np.exp(log_probability)
    confidence = probability.max(axis=1)
    log_of_true = np.take_along_axis(log_probability, labels[:, None], axis=1)[:, 0]
    loss = float(-log_of_true.mean())
    return Metrics(
        accuracy_pct=100 * num_correct / num_examples,
        num_correct=num_correct,
        num_examples=num_examples,
        error_pct=100 * (num_examples - num_correct) / num_examples,
        accuracy_low_pct=100 * low,
        accuracy_high_pct=100 * high,
        loss=loss,
        nll=loss,
        # Σ(p − y)² = Σp² − 2·p_true + 1, without an (N, C) one-hot matrix
        brier=float((np.square(probability).sum(axis=1) - 2 * np.exp(log_of_true) + 1).mean()),
        ece_pct=expected_calibration_error_pct(confidence, predicted == labels),
        mean_confidence=float(confidence.mean()),
        mean_entropy=float(-(probability * log_probability).sum(axis=1).mean()),
        per_class=_per_class(confusion, classes),
        confusion_matrix=confusion,
    )


def confusion_matrix(predicted: Labels, labels: Labels, num_classes: int) -> Labels:
    """Counts (C, C) of true classes (rows) and predicted classes (columns), both (N,) from 0 to C−1."""
    pairs = labels.astype(np.int64) * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def wilson_proportion(successes: int, trials: int) -> tuple[float, float, float]:
    """`successes` / `trials` and the ends of its 95 % Wilson score interval; NaN without trials.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if trials == 0:
        return math.nan, math.nan, math.nan
    z = statistics.NormalDist().inv_cdf(0.975)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half_width = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # in theory these ends are exactly 0 and 1; rounding must not push them further
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == trials else (centre + half_width) / scale
    return share, low, high


def expected_calibration_error_pct(confidence: Floats, correct: Flags, num_bins: int = NUM_ECE_BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their size, in per cent.

    Bin m of M covers ((m−1)/M, m/M]: a confidence on an edge belongs to the lower bin, and 0 to the first.

    Args:
        confidence: (N,) largest softmax outputs, 0 to 1.
        correct: (N,) whether the prediction is correct.
        num_bins: M.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2, equation 3.
    """
    bins = confidence_bins(confidence, num_bins)
    surplus = np.bincount(bins, weights=confidence - correct, minlength=num_bins)
    return 100 * float(np.abs(surplus).sum()) / len(confidence)


def confidence_bins(confidence: Floats, num_bins: int = NUM_ECE_BINS) -> Labels:
    """Indices from 0, (N,), of the bins of `expected_calibration_error_pct`."""
    return np.searchsorted(np.arange(1, num_bins) / num_bins, confidence, side="left")


def log_softmax(logits: Logits) -> Floats:
    """Log-probabilities (N, C) of logits (N, C), in float64, without overflow."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _per_class(confusion: Labels, classes: Sequence[str]) -> tuple[ClassMetrics, ...]:
    supports, predictions, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    return tuple(
        ClassMetrics(
            name, support, num_predicted, num_correct,
            *wilson_proportion(num_correct, num_predicted), *wilson_proportion(num_correct, support),
            # 2PR/(P+R) in counts: also defined (0) if only one of P and R is
            f1=2 * num_correct / (support + num_predicted) if support + num_predicted else math.nan,
        )
        for name, support, num_predicted, num_correct in zip(
            classes, supports.tolist(), predictions.tolist(), hits.tolist(), strict=True
        )
    )  # fmt: skip
