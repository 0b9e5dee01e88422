"""Means, differences and ratios over seeds, with the intervals that the number of seeds allows."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 10_000
_BOOTSTRAP_SEED = 0

Method = Literal["paired", "Welch", "single"]
Interval = tuple[float, float]


class Sample(msgspec.Struct, frozen=True):
    """One measure of one network over its seeds; `values[i]` belongs to `seeds[i]`."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, float | None]]) -> "Sample":
        """From (seed, value) pairs; those without a value are left out."""
        kept = sorted((seed, float(value)) for seed, value in pairs if value is not None and not math.isnan(value))
        return cls(tuple(seed for seed, _ in kept), tuple(value for _, value in kept))

    @property
    def has_distinct_seeds(self) -> bool:
        """Whether no seed occurs twice, which pairing needs."""
        return len(set(self.seeds)) == len(self.seeds)

    def by_seed(self) -> dict[int, float]:
        """Value of each seed, which must be distinct."""
        return dict(zip(self.seeds, self.values, strict=True))


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over `n` independent values."""

    mean: float
    n: int
    std: float | None = None
    """Sample standard deviation (divisor n − 1); None for n = 1."""
    interval: Interval | None = None
    """Student-t interval of the mean; None for n = 1."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """First minus second."""

    mean: float
    n: tuple[int, int]
    """Values used of the first and of the second."""
    method: Method
    std: float | None = None
    """Standard deviation of the paired differences; None for the other methods."""
    interval: Interval | None = None
    """None for `single`."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio of two differences: the gap of deep networks over the gap of shallow ones."""

    value: float | None
    """None when the shallow gap is zero."""
    n: int
    """Seeds in the smallest of the four samples, as used."""
    interval: Interval | None = None
    """Percentile bootstrap interval over seeds; None for n = 1 or when unbounded."""
    is_unbounded: bool = False
    """The interval of the shallow gap includes zero, so the ratio has no finite interval."""


def estimate(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean, sample standard deviation and Student-t interval of at least one value.

    Source: Student 1908; the interval is mean ± t(n − 1) · std / √n.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean=mean, n=1)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(n - 1, confidence) * std / math.sqrt(n)
    return Estimate(mean=mean, n=n, std=std, interval=(mean - half, mean + half))


def difference(first: Sample, second: Sample, *, confidence: float = CONFIDENCE) -> Difference | None:
    """First minus second, by the sharpest method that the seeds allow.

    `paired` over the seeds that both have, when these are at least two and at least half of the
    smaller sample: two networks of one seed saw the same batches. Otherwise `Welch` over all
    values, which assumes neither pairs nor equal variances. With a single value on either side
    there is no interval (`single`).

    Args:
        first, second: in the same unit; the difference has it too.
        confidence: of the interval, two-sided.

    Returns:
        None when either sample is empty.

    Source: Welch 1947, with the Welch-Satterthwaite degrees of freedom.
    """
    if not first.values or not second.values:
        return None
    pairs = _pairs(first, second)
    if pairs is not None:
        differences = [a - b for a, b in zip(pairs[0].values, pairs[1].values, strict=True)]
        paired = estimate(differences, confidence=confidence)
        n = (paired.n, paired.n)
        return Difference(mean=paired.mean, n=n, method="paired", std=paired.std, interval=paired.interval)
    a, b = estimate(first.values), estimate(second.values)
    mean, n = a.mean - b.mean, (a.n, b.n)
    if a.std is None or b.std is None:
        return Difference(mean=mean, n=n, method="single")
    variances = a.std**2 / a.n, b.std**2 / b.n
    total = sum(variances)
    half = 0.0
    if total > 0:
        shares = variances[0] / total, variances[1] / total
        freedom = 1 / (shares[0] ** 2 / (a.n - 1) + shares[1] ** 2 / (b.n - 1))
        half = t_quantile(freedom, confidence) * math.sqrt(total)
    return Difference(mean=mean, n=n, method="Welch", interval=(mean - half, mean + half))


def sampling_standard_error_pp(first_pct: float, second_pct: float, num_test: int) -> float:
    """Binomial standard error of a difference of two accuracies, from the finite test set alone.

    It treats the two networks' errors as independent. They are tested on the same images, so
    the true error of the difference is rather smaller.

    Args:
        first_pct, second_pct: accuracies or error rates, in percent.
        num_test: number of test images.

    Returns:
        Percentage points.
    """
    variance = sum(p * (100 - p) / num_test for p in (first_pct, second_pct))
    return math.sqrt(max(variance, 0.0))


def amplification(
    deep: tuple[Sample, Sample], shallow: tuple[Sample, Sample], *, confidence: float = CONFIDENCE
) -> Ratio | None:
    """How many times larger the gap of the deep pair is than the gap of the shallow pair.

    Each gap is that of `difference`. The interval is a percentile bootstrap over seeds, with a
    fixed generator: networks with the same seeds are resampled jointly, others by themselves.
    At a handful of seeds such an interval is too narrow; it is quoted with its n. It is given
    up as unbounded when the shallow gap is not distinguishable from zero: then the ratio can be
    anything.

    Args:
        deep: (residual, plain) of the greater depth.
        shallow: (residual, plain) of the lesser depth.
        confidence: of the interval, two-sided.

    Returns:
        None when a sample is empty.

    Source: Efron 1979; that a ratio has no limits when its denominator may be zero: Fieller 1954.
    """
    above, below = difference(*deep, confidence=confidence), difference(*shallow, confidence=confidence)
    if above is None or below is None:
        return None
    n = min(*above.n, *below.n)
    value = above.mean / below.mean if below.mean else None
    if below.interval is None or n < 2:
        return Ratio(value=value, n=n)
    numerators, denominators = _resampled_gaps(deep, shallow)
    if below.interval[0] <= 0 <= below.interval[1] or denominators.min() <= 0 <= denominators.max():
        return Ratio(value=value, n=n, is_unbounded=True)
    import numpy as np

    tail = (1 - confidence) / 2
    low, high = np.quantile(numerators / denominators, [tail, 1 - tail])
    return Ratio(value=value, n=n, interval=(float(low), float(high)))


def t_quantile(freedom: float, confidence: float) -> float:
    """The t with `confidence` of Student's distribution between −t and t."""
    # scipy.special, not scipy.stats, whose import takes a second of a command that runs for less
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _resampled_gaps(*pairs: tuple[Sample, Sample]) -> list["np.ndarray[Any, np.dtype[np.float64]]"]:
    """First minus second of each pair in every resample, each (BOOTSTRAP_RESAMPLES,)."""
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
    """Both samples at the seeds they share, when pairing is worth it."""
    shared = tuple(sorted(set(first.seeds) & set(second.seeds)))
    is_enough = len(shared) >= 2 and 2 * len(shared) >= min(len(first.values), len(second.values))
    if not (is_enough and first.has_distinct_seeds and second.has_distinct_seeds):
        return None
    at_first, at_second = first.by_seed(), second.by_seed()
    return (
        Sample(shared, tuple(at_first[seed] for seed in shared)),
        Sample(shared, tuple(at_second[seed] for seed in shared)),
    )
