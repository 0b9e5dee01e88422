"""Means, differences and ratios over seeds, with intervals where the number of seeds permits them."""

import math
from collections.abc import Container, Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 10_000
_BOOTSTRAP_SEED = 0

Interval = tuple[float, float]


class Sample(msgspec.Struct, frozen=True):
    """One measure of one network over its seeds; `values[i]` belongs to `seeds[i]`."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float | None]]) -> "Sample":
        """Build a sample from (seed, value) pairs, without pairs whose value is missing."""
        kept = sorted((seed, float(value)) for seed, value in pairs if value is not None)
        return cls(tuple(seed for seed, _ in kept), tuple(value for _, value in kept))

    @property
    def has_distinct_seeds(self) -> bool:
        """Whether no seed occurs twice, as pairing requires."""
        return len(set(self.seeds)) == len(self.seeds)

    def restricted_to(self, seeds: Container[int]) -> "Sample":
        """Return the part of the sample that has `seeds`."""
        return Sample.of(pair for pair in zip(self.seeds, self.values, strict=True) if pair[0] in seeds)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over independent values."""

    mean: float
    std: float | None = None
    """Sample standard deviation (divisor n − 1); None for n = 1."""
    interval: Interval | None = None
    """Student-t interval of the mean; None for n = 1."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A difference of two means, first minus second."""

    mean: float
    n: int
    """Number of values used from the smaller sample."""
    method: Literal["paired", "Welch", "single"]
    std: float | None = None
    """Standard deviation of paired differences; None for other methods."""
    interval: Interval | None = None
    """Interval of the difference; None for the method `single`."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio of two differences: the gap between deep networks divided by the gap between shallow ones."""

    value: float | None
    """The ratio; None if the shallow gap is zero."""
    n: int
    """Number of values used from the smallest of the four samples."""
    interval: Interval | None = None
    """Percentile bootstrap interval over seeds; None if n = 1 or if unbounded."""
    is_unbounded: bool = False
    """Whether the interval of the shallow gap includes zero, so that the ratio has no finite interval."""


def estimate(values: Sequence[float]) -> Estimate:
    """Compute the mean, sample standard deviation and Student-t interval of at least one value.

    Source: Student 1908; the interval is mean ± t(n − 1) · std / √n.
    """
    n = len(values)
    mean = fmean(values)
    if n == 1:
        return Estimate(mean=mean)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(n - 1) * std / math.sqrt(n)
    return Estimate(mean=mean, std=std, interval=(mean - half, mean + half))


def difference(first: Sample, second: Sample) -> Difference:
    """Subtract the mean of `second` from the mean of `first`, with the narrowest valid interval.

    The method is `paired` over shared seeds, if these are at least two and at least half of the
    smaller sample: two networks with the same seed are trained on the same batches. Otherwise it is
    `Welch` over all values, which assumes neither pairs nor equal variances. With a single value
    in either sample there is no interval (`single`). Neither sample may be empty.

    Source: Welch 1947, with the Welch-Satterthwaite degrees of freedom.
    """
    if pairs := _pairs(first, second):
        paired = estimate([a - b for a, b in zip(pairs[0].values, pairs[1].values, strict=True)])
        n = len(pairs[0].values)
        return Difference(mean=paired.mean, n=n, method="paired", std=paired.std, interval=paired.interval)
    a, b = estimate(first.values), estimate(second.values)
    mean, sizes = a.mean - b.mean, (len(first.values), len(second.values))
    if a.std is None or b.std is None:
        return Difference(mean=mean, n=min(sizes), method="single")
    variances = a.std**2 / sizes[0], b.std**2 / sizes[1]
    total = sum(variances)
    half = 0.0
    if total > 0:
        shares = variances[0] / total, variances[1] / total
        freedom = 1 / (shares[0] ** 2 / (sizes[0] - 1) + shares[1] ** 2 / (sizes[1] - 1))
        half = t_quantile(freedom) * math.sqrt(total)
    return Difference(mean=mean, n=min(sizes), method="Welch", interval=(mean - half, mean + half))


def sampling_standard_error_pp(first_pct: float, second_pct: float, num_test: int) -> float:
    """Compute the binomial standard error of a difference of two accuracies that is due to `num_test` test images.

    The errors of the two networks are treated as independent. Both are tested on the same images, so
    the true standard error of the difference is usually smaller.
    """
    return math.sqrt(sum(p * (100 - p) / num_test for p in (first_pct, second_pct)))


def amplification(deep: tuple[Sample, Sample], shallow: tuple[Sample, Sample]) -> Ratio:
    """Divide the gap between a deep pair of networks by the gap between a shallow pair.

    Each gap is computed by `difference`. The interval is a percentile bootstrap over seeds with a
    fixed generator: networks with the same seeds are resampled jointly, others independently.
    With few seeds this interval is too narrow, so it is reported with its n. If the interval of the
    shallow gap includes zero, the ratio can take any value and is reported as unbounded.

    Args:
        deep: (residual, plain) at the greater depth; neither is empty.
        shallow: (residual, plain) at the smaller depth; neither is empty.

    Source: Efron 1979; unbounded ratios: Fieller 1954.
    """
    above, below = difference(*deep), difference(*shallow)
    n = min(above.n, below.n)
    value = above.mean / below.mean if below.mean else None
    if below.interval is None or n < 2:
        return Ratio(value=value, n=n)
    numerators, denominators = _resampled_gaps(deep, shallow)
    if below.interval[0] <= 0 <= below.interval[1] or denominators.min() <= 0 <= denominators.max():
        return Ratio(value=value, n=n, is_unbounded=True)
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(numerators / denominators, [tail, 1 - tail])
    return Ratio(value=value, n=n, interval=(float(low), float(high)))


def t_quantile(freedom: float) -> float:
    """Return the t for which the interval from −t to t covers `CONFIDENCE` of Student's distribution."""
    # Importing scipy.stats would take longer than the command itself.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _resampled_gaps(*pairs: tuple[Sample, Sample]) -> list["np.ndarray[Any, np.dtype[np.float64]]"]:
    """Resample the gap, first minus second, of each pair; each result has shape (BOOTSTRAP_RESAMPLES,)."""
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(_BOOTSTRAP_SEED))
    picks_of: dict[tuple[int, ...], np.ndarray[Any, np.dtype[np.int64]]] = {}
    gaps = []
    for pair in pairs:
        means = []
        for sample in _pairs(*pair) or pair:
            picks = picks_of.get(sample.seeds)
            if picks is None:
                picks = rng.integers(0, len(sample.values), size=(BOOTSTRAP_RESAMPLES, len(sample.values)))
            if sample.has_distinct_seeds:
                picks_of[sample.seeds] = picks
            means.append(np.asarray(sample.values)[picks].mean(axis=1))
        gaps.append(means[0] - means[1])
    return gaps


def _pairs(first: Sample, second: Sample) -> tuple[Sample, Sample] | None:
    """Restrict both samples to their shared seeds; None if too few seeds are shared."""
    shared = set(first.seeds) & set(second.seeds)
    is_enough = len(shared) >= 2 and 2 * len(shared) >= min(len(first.values), len(second.values))
    if not (is_enough and first.has_distinct_seeds and second.has_distinct_seeds):
        return None
    return first.restricted_to(shared), second.restricted_to(shared)
