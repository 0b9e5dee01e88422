"""Means and contrasts over seeds, with intervals and one-sided tests; ratios with Fieller's set; power.

The unit is the seed: repetitions of a seed are averaged first, so that n counts distinct seeds. Networks are compared
by Welch's method throughout, chosen beforehand: equal seeds make a pair only if its results correlate, and with few
seeds a paired test then costs more power than it gains.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.bool_]]

CONFIDENCE = 0.95
POWER = 0.8
_SIGMA_CONFIDENCE = 0.8  # of the upper limit of a standard deviation, for planning
_FIELLER_ANGLES = 721  # in each direction; a gap of less than a quarter of a degree in Fieller's set could be missed
MAX_SEEDS = 10_000
"""Largest number of seeds that a plan considers."""
MAX_SEEDS_SHOWN = 10
"""Most seeds that are shown one by one: more cannot be told apart in a figure or read in a table."""

Interval = tuple[float, float]


class Sample(msgspec.Struct, frozen=True):
    """One measure of one network over its seeds; `values[i]` belongs to `seeds[i]`."""

    seeds: tuple[int, ...]
    """Distinct, in order."""
    values: tuple[float, ...]
    resolution: float = 0.0
    """Half the change that one image makes to a value: no difference smaller than it can be measured."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float | None]], *, resolution: float = 0.0) -> Self:
        """Build a sample from (seed, value) pairs: without missing values, and with repetitions of a seed averaged."""
        by_seed: dict[int, list[float]] = {}
        for seed, value in pairs:
            if value is not None and not math.isnan(value):
                by_seed.setdefault(seed, []).append(float(value))
        seeds = sorted(by_seed)
        return cls(tuple(seeds), tuple(fmean(by_seed[seed]) for seed in seeds), resolution)

    @property
    def mean(self) -> float:
        """Mean over the seeds, of which there is at least one."""
        return fmean(self.values)

    @property
    def variance(self) -> float:
        """Sample variance (divisor n − 1); NaN for n = 1, and exactly 0 for equal values."""
        n = len(self.values)
        if n > 1 and min(self.values) == max(self.values):  # the mean of equal numbers may be rounded
            return 0.0
        return math.fsum((value - self.mean) ** 2 for value in self.values) / (n - 1) if n > 1 else math.nan


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over independent values."""

    mean: float
    std: float | None = None
    """Sample standard deviation (divisor n − 1); None for n = 1."""
    interval: Interval | None = None
    """Student-t interval of the mean; None for n = 1."""


def estimate(values: Sequence[float], *, resolution: float = 0.0) -> Estimate:
    """Compute the mean, sample standard deviation and Student-t interval of at least one value.

    Args:
        values: independent values.
        resolution: the interval reaches at least this far from the mean.

    Source: Student 1908; the interval is mean ± t(n − 1) · std / √n.
    """
    n = len(values)
    mean = fmean(values)
    if n == 1:
        return Estimate(mean=mean)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = max(t_quantile(n - 1) * std / math.sqrt(n), resolution)
    return Estimate(mean=mean, std=std, interval=(mean - half, mean + half))


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """A weighted sum of the means of independent samples, such as a difference of two networks."""

    mean: float
    n: int
    """Number of seeds of the smallest sample."""
    standard_error: float | None = None
    """Not smaller than the resolution; None if any sample has a single seed."""
    freedom: float = math.nan
    """Welch-Satterthwaite degrees of freedom."""
    is_floored: bool = False
    """Whether the standard error is the resolution, because the seeds vary less."""
    is_degenerate: bool = False
    """Whether no sample varies over its seeds, so that nothing can be concluded from the spread."""

    @property
    def interval(self) -> Interval | None:
        """Two-sided 95 % interval; None without a standard error."""
        return self.interval_at(CONFIDENCE)

    def interval_at(self, confidence: float) -> Interval | None:
        """Two-sided interval; None without a standard error."""
        if self.standard_error is None:
            return None
        half = t_quantile(self.freedom, confidence) * self.standard_error
        return self.mean - half, self.mean + half

    def p_above(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the true value is at most `bound`; 1 without a standard error."""
        from scipy.special import stdtr

        if self.standard_error is None:
            return 1.0
        return float(stdtr(self.freedom, (bound - self.mean) / self.standard_error))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the true value is at least `bound`; 1 without a standard error."""
        return 1.0 if self.standard_error is None else 1.0 - self.p_above(bound)

    def p_within(self, margin: float) -> float:
        """p-value of two one-sided tests: small if the true value lies between −`margin` and `margin`.

        Source: Schuirmann 1987.
        """
        return max(self.p_above(-margin), self.p_below(margin))


def contrast(terms: Iterable[tuple[float, Sample]]) -> Contrast:
    """Compute the sum of weight × mean over independent samples, none of them empty.

    The standard error does not assume equal variances. It is not smaller than the resolution of the measure, because
    with few test images several seeds can give the same count.

    Source: Welch 1947; degrees of freedom: Satterthwaite 1946.
    """
    terms = list(terms)
    mean = math.fsum(weight * sample.mean for weight, sample in terms)
    n = min(len(sample.values) for _, sample in terms)
    if n < 2:
        return Contrast(mean=mean, n=n)
    parts = [(weight**2 * sample.variance / len(sample.values), len(sample.values) - 1) for weight, sample in terms]
    total = math.fsum(part for part, _ in parts)
    resolution = max(sample.resolution for _, sample in terms)
    freedom = float(min(freedom for _, freedom in parts))
    if total > 0:
        freedom = 1 / math.fsum((part / total) ** 2 / freedom for part, freedom in parts)
    return Contrast(
        mean=mean, n=n, standard_error=max(math.sqrt(total), resolution), freedom=freedom,
        is_floored=math.sqrt(total) < resolution, is_degenerate=total == 0,
    )  # fmt: skip


def difference(first: Sample, second: Sample) -> Contrast:
    """Subtract the mean of `second` from the mean of `first`; neither may be empty."""
    return contrast([(1.0, first), (-1.0, second)])


class RatioSet(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio of two contrasts and the set of ratios that the data do not reject."""

    value: float | None
    """The ratio; None if the denominator is zero."""
    kind: Literal["interval", "two rays", "everything", "none"]
    """`two rays`: up to `low` and from `high` on; `none`: no standard error."""
    low: float | None = None
    high: float | None = None


def fieller(numerator: Contrast, denominator: Contrast) -> RatioSet:
    """Compute Fieller's 95 % set of a ratio of two independent contrasts.

    It contains the ratios ρ around the estimate up to the first ones, on either side, for which numerator − ρ ·
    denominator differs from zero by Welch's test. As its degrees of freedom depend on ρ, with two or three seeds there
    can be further such ratios beyond; they are left out. The ratio is written as the tangent of an angle, so that the
    set is an arc; its ends are found on ever finer grids.

    Source: Fieller 1954.
    """
    import numpy as np
    from scipy.special import stdtrit

    a, b = numerator, denominator
    value = a.mean / b.mean if b.mean else None
    if a.standard_error is None or b.standard_error is None:
        return RatioSet(value=value, kind="none")
    variances = np.square([a.standard_error, b.standard_error])
    freedoms = np.array([a.freedom, b.freedom])

    def is_rejected(angles: Any) -> Any:
        weights = np.stack([np.cos(angles), np.sin(angles)])  # of numerator and, with the other sign, denominator
        parts = np.square(weights).T * variances
        total = parts.sum(axis=-1)
        with np.errstate(invalid="ignore"):
            freedom = np.square(total) / (np.square(parts) / freedoms).sum(axis=-1)
        limit = stdtrit(np.nan_to_num(freedom, nan=1.0), (1 + CONFIDENCE) / 2) * np.sqrt(total)
        return np.abs(a.mean * weights[0] - b.mean * weights[1]) > limit

    estimate = math.atan2(a.mean, b.mean)
    ends = []
    for side in (-1, 1):
        angles = estimate + side * np.linspace(0, math.pi, _FIELLER_ANGLES)
        for _ in range(8):  # of which the last is as fine as floating-point numbers
            rejected = np.flatnonzero(is_rejected(angles))
            if not len(rejected):
                return RatioSet(value=value, kind="everything")
            first = max(int(rejected[0]), 1)
            angles = np.linspace(angles[first - 1], angles[first], 65)
        ends.append(float(angles[0]))
    # the tangent is infinite at odd multiples of π/2
    has_infinity = math.floor(ends[0] / math.pi + 0.5) != math.floor(ends[1] / math.pi + 0.5)
    low, high = sorted(map(math.tan, ends))
    return RatioSet(value=value, kind="two rays" if has_infinity else "interval", low=low, high=high)


def image_sampling_error_pp(first: "Matrix", second: "Matrix") -> float:
    """Standard error, in percentage points, of a difference of accuracies that is due to the choice of test images.

    It is a paired quantity, since both networks are tested on the same images. With one seed each it is
    √(b + c − (b − c)²/N) / N, for the counts b and c of images that only one of the networks classifies correctly.

    Args:
        first: whether each image was classified correctly, (seeds, N).
        second: the same images for another network, (seeds, N).
    """
    per_image = first.mean(axis=0) - second.mean(axis=0)
    return 100 * float(per_image.std()) / math.sqrt(len(per_image))


def mcnemar(first: "np.ndarray[Any, np.dtype[np.bool_]]", second: "np.ndarray[Any, np.dtype[np.bool_]]") -> float:
    """Exact two-sided p-value of McNemar's test that two runs are right equally often on such images.

    It compares two runs, not two architectures: with another seed, each would answer differently.

    Args:
        first: whether each image was classified correctly, (N,).
        second: the same images for another run, (N,).

    Source: McNemar 1947; the exact form is a sign test of the images on which only one run is right.
    """
    from scipy.special import bdtr

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def two_way_bootstrap(
    first: "Matrix", second: "Matrix", *, draws: int = 2000, confidence: float = CONFIDENCE
) -> Interval:
    """Percentile interval of a difference of accuracies, in percentage points, over new seeds and new test images.

    Seeds are drawn for each network, images for both together. With three seeds the interval is too narrow; it shows
    how much the choice of images adds.

    Args:
        first: whether each image was classified correctly, (seeds, N), or its mean over repetitions of a seed.
        second: the same images for another network, (seeds, N).
        draws: number of resamples; the random numbers are the same in every call.
        confidence: coverage in large samples.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    images = first.shape[1]
    weights = rng.multinomial(images, np.full(images, 1 / images), size=draws) / images  # (draws, N)
    means = []
    for matrix in (first, second):
        seeds = len(matrix)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds  # (draws, seeds)
        means.append(np.einsum("ds,ds->d", of_seeds, weights @ matrix.T.astype(float)))
    low, high = np.quantile(100 * (means[0] - means[1]), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p-values of a family of tests so that each can be compared with the level of the family.

    Source: Holm 1979.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def upper_sigma(std: float, n: int) -> float:
    """Upper 80 % confidence limit of a standard deviation that was estimated from n values; 2.1 `std` for n = 3."""
    from scipy.special import chdtri

    return std * math.sqrt((n - 1) / float(chdtri(n - 1, _SIGMA_CONFIDENCE)))


def power(effect: float, sigma: float, n: int, *, alpha: float, num_means: int = 2) -> float:
    """Power of a one-sided test of a contrast of `num_means` means with weights ±1 over n seeds each.

    Args:
        effect: true distance from the margin.
        sigma: standard deviation of each sample.
        n: seeds per sample, at least 2.
        alpha: level of the test.
        num_means: 2 for a difference, 4 for a difference of differences.
    """
    from scipy.special import nctdtr, stdtrit

    freedom = num_means * (n - 1)
    if sigma == 0:
        return 1.0 if effect > 0 else alpha
    noncentrality = effect / (sigma * math.sqrt(num_means / n))
    return 1.0 - float(nctdtr(freedom, noncentrality, stdtrit(freedom, 1 - alpha)))


def seeds_needed(effect: float, sigma: float, *, alpha: float, num_means: int = 2, target: float = POWER) -> int | None:
    """Smallest number of seeds per network for the power `target`; None if 10,000 do not suffice.

    The other arguments are those of `power`. `effect` must come from a plan, never from the observed difference.
    """
    choices = range(2, MAX_SEEDS + 1)
    found = bisect_left(
        choices, True, key=lambda n: effect > 0 and power(effect, sigma, n, alpha=alpha, num_means=num_means) >= target
    )
    return choices[found] if found < len(choices) else None


def detectable_effect(sigma: float, n: int, *, alpha: float, num_means: int = 2, target: float = POWER) -> float:
    """Effect that a test detects with the power `target`, in the unit of `sigma`; other arguments as in `power`."""
    from scipy.special import nctdtrinc, stdtrit

    freedom = num_means * (n - 1)
    return sigma * math.sqrt(num_means / n) * float(nctdtrinc(freedom, 1 - target, stdtrit(freedom, 1 - alpha)))


def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Return the t for which the interval from −t to t covers `confidence` of Student's distribution."""
    # Importing scipy.stats would take longer than the command itself.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))
