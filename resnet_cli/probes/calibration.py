"""Whether a network's confidence agrees with its accuracy, from its test predictions alone; needs no torch.

The confidence of a prediction is its largest softmax output. The rows are measured on the outputs as they are
(scaling `none`), and on outputs divided by a temperature (scaling `temperature`): one number that minimises the
cross-entropy. The temperature is cross-fitted. The test images are divided into two halves with equal shares of each
class; the temperature fitted on one half is applied to the other, so no image is used for its own temperature.

Columns:

- scaling: `none` or `temperature`
- bin: from 1, for the images whose confidence is in ((bin − 1) / 15, bin / 15]; empty for all images. Bins without
  images have no row. These rows are the data of a reliability diagram.
- num_images
- accuracy_pct, confidence_pct: shares in per cent
- gap_pct: confidence − accuracy, in percentage points; positive if the network is overconfident
- entropy: mean entropy of the softmax outputs, in nats
- nll: mean negative log-likelihood, in nats
- brier: mean squared distance between softmax outputs and one-hot label, 0 to 2
- ece_pct: expected calibration error over 15 bins, in percentage points. It has no sign and is biased upwards.
- temperature_1, temperature_2: temperatures fitted on the two halves; 1 without scaling
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from resnet_cli.analysis.metrics import (
    Floats,
    Labels,
    Logits,
    confidence_bins,
    evaluate_predictions,
    log_softmax,
)
from resnet_cli.config import RunConfig
from resnet_cli.data.dataset import stratified_indices
from resnet_cli.probes.base import Probe, Row, Settings, StoredPredictions
from resnet_cli.util.seeding import derive_seed

NONE, TEMPERATURE = "none", "temperature"

# Guo et al. find temperatures between 1 and 3. A network without errors has no optimum: its fit ends at a bound.
_LOG_BOUNDS = (np.log(0.01), np.log(100.0))


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The T between 0.01 and 100 for which softmax(logits / T) has the lowest negative log-likelihood.

    Args:
        logits: (N, C), finite.
        labels: (N,), 0 to C−1.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 4.2.
    """

    def nll(log_temperature: float) -> float:
        log_probability = log_softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return float(-np.take_along_axis(log_probability, labels[:, None], axis=1).mean())

    # the negative log-likelihood is convex in 1/T, so it has one minimum in log T too
    found = minimize_scalar(nll, bounds=_LOG_BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def scale_by_temperature(logits: Logits, labels: Labels, seed: int = 0) -> tuple[Floats, tuple[float, float]]:
    """Divide each half of the logits by the temperature fitted on the other half.

    Args:
        logits: (N, C), finite.
        labels: (N,), 0 to C−1.
        seed: seed of the division into halves.

    Returns:
        The scaled logits (N, C), and the temperatures fitted on the first and on the second half.
    """
    is_first = np.zeros(len(labels), dtype=bool)
    is_first[stratified_indices(labels, len(labels) // 2, derive_seed(seed, "probe", "halves"))] = True
    first, second = (fit_temperature(logits[half], labels[half]) for half in (is_first, ~is_first))
    return logits.astype(np.float64) / np.where(is_first, second, first)[:, None], (first, second)


def measure_calibration(logits: Logits, labels: Labels, *, scaling: str = NONE, seed: int = 0) -> list[Row]:
    """Rows for all images and for each bin that has images; the docstring of this module defines the columns."""
    temperatures = 1.0, 1.0
    if scaling == TEMPERATURE:
        logits, temperatures = scale_by_temperature(logits, labels, seed)
    bins = confidence_bins(np.exp(log_softmax(logits).max(axis=1)))
    groups: list[tuple[int | None, Any]] = [(None, slice(None))]
    groups += [(int(number) + 1, bins == number) for number in np.unique(bins)]
    return [
        {
            "scaling": scaling,
            "bin": number,
            **_metrics(logits[chosen], labels[chosen]),
            "temperature_1": temperatures[0],
            "temperature_2": temperatures[1],
        }
        for number, chosen in groups
    ]


def _metrics(logits: Logits, labels: Labels) -> Row:
    found = evaluate_predictions(logits, labels, [""] * logits.shape[1])
    return {
        "num_images": found.num_examples,
        "accuracy_pct": found.accuracy_pct,
        "confidence_pct": 100 * found.mean_confidence,
        "gap_pct": 100 * found.mean_confidence - found.accuracy_pct,
        "entropy": found.mean_entropy,
        "nll": found.nll,
        "brier": found.brier,
        "ece_pct": found.ece_pct,
    }


def _units(config: RunConfig, settings: Settings) -> list[str]:
    return [NONE, TEMPERATURE]


def _measure(stored: StoredPredictions, unit: str) -> list[Row]:
    predictions = stored.predictions
    return measure_calibration(predictions.logits, predictions.labels, scaling=unit, seed=stored.seed)


PROBE = Probe(reference="Guo et al. 2017 (arXiv 1706.04599)", units=_units, measure=_measure, needs="predictions")
