"""What a classifier's outputs are worth: counts, per-class precision and recall, calibration (no torch)."""

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
    """A binomial proportion with its 95 % Wilson interval, all between 0 and 1; NaN where nothing was counted."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, trials: int) -> "Proportion":
        """`successes` out of `trials`."""
        low, high = wilson_interval(successes, trials)
        return cls(successes / trials if trials else math.nan, low, high)


class ClassMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How one class was recognised."""

    name: str
    support: int
    """Number of examples of this class."""
    num_predicted: int
    """Number of examples, of whatever class, that were taken for this one."""
    num_correct: int
    precision: Proportion
    """num_correct of num_predicted; NaN when nothing was taken for this class."""
    recall: Proportion
    """num_correct of support; NaN when there is no example of this class."""
    f1: float
    """Harmonic mean of precision and recall, 0 to 1. It is no binomial proportion, so it has no Wilson interval."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything that labels and logits say about a classifier."""

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
        """Correct examples in percent: one division of two counts."""
        return 100 * self.num_correct / self.num_examples

    @property
    def error_pct(self) -> float:
        """Wrong examples in percent: one division of two counts."""
        return 100 * (self.num_examples - self.num_correct) / self.num_examples

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood in nats: for a classifier the same number as the loss."""
        return self.loss

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the counts first, the classes flat; undefined values are NaN."""
        return {
            "accuracy_pct": self.accuracy_pct,
            "num_correct": self.num_correct,
            "num_examples": self.num_examples,
            "error_pct": self.error_pct,
            "accuracy_low_pct": 100 * self.accuracy.low,
            "accuracy_high_pct": 100 * self.accuracy.high,
            "loss": self.loss,
            "nll": self.nll,
            "brier": self.brier,
            "ece_pct": self.ece_pct,
            "mean_confidence": self.mean_confidence,
            "mean_entropy": self.mean_entropy,
            "per_class": [_flat(one) for one in self.classes],
            "confusion_matrix": self.confusion.tolist(),
        }


def evaluate_predictions(logits: Logits, labels: Labels, classes: Sequence[str]) -> Metrics:
    """Measure predictions.

    The predicted class is the largest logit, the first of equals. Probabilities are computed in float64.

    Args:
        logits: (N, C) finite, of any float type.
        labels: (N,) integers, 0 to C−1.
        classes: C names.

    Raises:
        ValueError: the shapes do not fit, there is no example, a logit is not finite or a label out of range.
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
        accuracy=Proportion.of(num_correct, len(labels)),
        loss=float(-log_of_true.mean()),
        # Σ(p − y)² = Σp² − 2·p_true + 1, without an (N, C) one-hot matrix
        brier=float((np.square(probability).sum(axis=1) - 2 * of_true + 1).mean()),
        ece_pct=expected_calibration_error_pct(confidence, correct),
        mean_confidence=float(confidence.mean()),
        mean_entropy=float(-(probability * log_probability).sum(axis=1).mean()),
        confusion=confusion,
        classes=tuple(_class_metrics(name, index, confusion) for index, name in enumerate(classes)),
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a binomial proportion; (NaN, NaN) without trials.

    Args:
        successes: count, 0 to `trials`.
        trials: count.
        confidence: coverage, strictly between 0 and 1.

    Returns:
        Lower and upper end, between 0 and 1.

    Raises:
        ValueError: a count or the confidence is out of its range.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not 0 <= successes <= trials or not 0 < confidence < 1:
        raise ValueError(f"no interval for {successes} of {trials} at confidence {confidence}")
    if trials == 0:
        return math.nan, math.nan
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half_width = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # both ends are exact in theory where nothing or everything succeeded; rounding must not push them past it
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == trials else (centre + half_width) / scale
    return low, high


def expected_calibration_error_pct(confidence: Floats, correct: Flags, num_bins: int = NUM_ECE_BINS) -> float:
    """The mean gap between confidence and accuracy over equal-width bins, weighted by their size, in percent.

    Bin m of M holds confidences in ((m−1)/M, m/M]: a confidence on an edge belongs to the lower bin,
    and 0 to the first.

    Args:
        confidence: (N,) largest softmax outputs, 0 to 1.
        correct: (N,) whether the prediction was right.
        num_bins: M.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2, equation 3.
    """
    inner_edges = np.arange(1, num_bins) / num_bins
    bins = np.searchsorted(inner_edges, confidence, side="left")
    surplus = np.bincount(bins, weights=confidence - correct, minlength=num_bins)
    return 100 * float(np.abs(surplus).sum()) / len(confidence)


def log_softmax(logits: Logits) -> Floats:
    """Log-probabilities (N, C) of logits (N, C), in float64; the row maximum is taken out first: nothing overflows."""
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
        precision=Proportion.of(num_correct, num_predicted),
        recall=Proportion.of(num_correct, support),
        # 2PR/(P+R) written in counts, which is defined (0) where only one of P and R is
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
