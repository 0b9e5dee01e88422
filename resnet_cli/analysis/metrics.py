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


class Proportion(msgspec.Struct, frozen=True):
    """A binomial proportion with its 95 % interval, all between 0 and 1; NaN without trials."""

    value: float
    low: float
    high: float


class ClassMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and metrics of one class."""

    name: str
    support: int
    """Number of examples of this class."""
    num_predicted: int
    """Number of examples predicted as this class."""
    num_correct: int
    precision: Proportion
    """num_correct of num_predicted."""
    recall: Proportion
    """num_correct of support."""
    f1: float
    """Harmonic mean of precision and recall, 0 to 1; not a binomial proportion, so it has no Wilson interval."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Metrics of a classifier on a labelled set."""

    num_examples: int
    num_correct: int
    accuracy: Proportion
    loss: float
    """Mean cross-entropy in nats."""
    brier: float
    """Mean over examples of the squared distance between probabilities and the one-hot label: 0 to 2."""
    ece_pct: float
    """Expected calibration error; see `expected_calibration_error_pct`."""
    mean_confidence: float
    """Mean of the largest softmax output, 0 to 1."""
    mean_entropy: float
    """Mean entropy of the softmax output, in nats."""
    confusion: Labels
    """(C, C) counts; rows are the true class, columns the predicted one."""
    classes: tuple[ClassMetrics, ...]

    @property
    def accuracy_pct(self) -> float:
        """Correct examples in per cent."""
        return 100 * self.num_correct / self.num_examples

    @property
    def error_pct(self) -> float:
        """Wrong examples in per cent."""
        return 100 * (self.num_examples - self.num_correct) / self.num_examples

    def to_dict(self) -> dict[str, Any]:
        """Plain data with accuracy and counts first and one flat entry per class; undefined values are NaN."""
        return {
            "accuracy_pct": self.accuracy_pct,
            "num_correct": self.num_correct,
            "num_examples": self.num_examples,
            "error_pct": self.error_pct,
            "accuracy_low_pct": 100 * self.accuracy.low,
            "accuracy_high_pct": 100 * self.accuracy.high,
            "loss": self.loss,
            "nll": self.loss,  # the same number for a classifier
            "brier": self.brier,
            "ece_pct": self.ece_pct,
            "mean_confidence": self.mean_confidence,
            "mean_entropy": self.mean_entropy,
            "per_class": [_flat(one) for one in self.classes],
            "confusion_matrix": self.confusion.tolist(),
        }


def evaluate_predictions(logits: Logits, labels: Labels, classes: Sequence[str]) -> Metrics:
    """Compute all metrics.

    The predicted class is the one with the largest logit, the first of ties. Probabilities are computed in float64.

    Args:
        logits: (N, C) finite, any floating-point type.
        labels: (N,) integers, 0 to C−1.
        classes: names of the C classes.

    Raises:
        ValueError: the shapes do not fit, N is 0, a logit is not finite or a label is out of range.
    """
    _check(logits, labels, classes)
    num_classes = len(classes)
    predicted = logits.argmax(axis=1)
    correct = predicted == labels
    pairs = labels.astype(np.int64) * num_classes + predicted
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)

    log_probability = log_softmax(logits)  # (N, C)
    probability = np.exp(log_probability)
    confidence = probability.max(axis=1)
    log_of_true = np.take_along_axis(log_probability, labels[:, None], axis=1)[:, 0]
    of_true = np.exp(log_of_true)
    num_correct = int(np.trace(confusion))
    return Metrics(
        num_examples=len(labels),
        num_correct=num_correct,
        accuracy=wilson_proportion(num_correct, len(labels)),
        loss=float(-log_of_true.mean()),
        # Σ(p − y)² = Σp² − 2·p_true + 1, without an (N, C) one-hot matrix
        brier=float((np.square(probability).sum(axis=1) - 2 * of_true + 1).mean()),
        ece_pct=expected_calibration_error_pct(confidence, correct),
        mean_confidence=float(confidence.mean()),
        mean_entropy=float(-(probability * log_probability).sum(axis=1).mean()),
        confusion=confusion,
        classes=tuple(_class_metrics(name, index, confusion) for index, name in enumerate(classes)),
    )


def wilson_proportion(successes: int, trials: int) -> Proportion:
    """`successes` / `trials` with its 95 % Wilson score interval; NaN without trials.

    Raises:
        ValueError: `successes` is not between 0 and `trials`.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials are not a proportion")
    if trials == 0:
        return Proportion(math.nan, math.nan, math.nan)
    z = statistics.NormalDist().inv_cdf(0.975)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half_width = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # in theory these ends are exactly 0 and 1; rounding must not push them further
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == trials else (centre + half_width) / scale
    return Proportion(share, low, high)


def expected_calibration_error_pct(confidence: Floats, correct: Flags, num_bins: int = NUM_ECE_BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by their size, in per cent.

    Bin m of M covers ((m−1)/M, m/M]: a confidence on an edge belongs to the lower bin, and 0 to the first.

    Args:
        confidence: (N,) largest softmax outputs, 0 to 1.
        correct: (N,) whether the prediction is correct.
        num_bins: M.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2, equation 3.
    """
    inner_edges = np.arange(1, num_bins) / num_bins
    bins = np.searchsorted(inner_edges, confidence, side="left")
    surplus = np.bincount(bins, weights=confidence - correct, minlength=num_bins)
    return 100 * float(np.abs(surplus).sum()) / len(confidence)


def log_softmax(logits: Logits) -> Floats:
    """Log-probabilities (N, C) of logits (N, C), in float64, without overflow."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _class_metrics(name: str, index: int, confusion: Labels) -> ClassMetrics:
    num_correct = int(confusion[index, index])
    support = int(confusion[index].sum())
    num_predicted = int(confusion[:, index].sum())
    either = support + num_predicted
    return ClassMetrics(
        name=name,
        support=support,
        num_predicted=num_predicted,
        num_correct=num_correct,
        precision=wilson_proportion(num_correct, num_predicted),
        recall=wilson_proportion(num_correct, support),
        # 2PR/(P+R) in counts: also defined (0) if only one of P and R is
        f1=2 * num_correct / either if either else math.nan,
    )


def _flat(one: ClassMetrics) -> dict[str, Any]:
    return {
        "class": one.name,
        "support": one.support,
        "num_predicted": one.num_predicted,
        "num_correct": one.num_correct,
        "precision": one.precision.value,
        "precision_low": one.precision.low,
        "precision_high": one.precision.high,
        "recall": one.recall.value,
        "recall_low": one.recall.low,
        "recall_high": one.recall.high,
        "f1": one.f1,
    }


def _check(logits: Logits, labels: Labels, classes: Sequence[str]) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.shape[1] != len(classes) or len(labels) == 0:
        raise ValueError(f"logits {logits.shape}, labels {labels.shape} and {len(classes)} classes do not fit")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels {labels.min()} to {labels.max()} do not fit {len(classes)} classes")
