"""From a measured contrast to a verdict: pure functions, whose error rates the tests simulate."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from resnet_cli.analysis.stats import Contrast, Interval, Sample, contrast, holm, seeds_needed, upper_sigma

ALPHA = 0.05
ALPHA_PER_LOOK = 0.02
"""Level of each test if the study is judged after 3, 5 and 10 seeds: the three together then have a level of 0.05."""

Status = Literal["supported", "refuted", "underpowered", "not measured"]
Family = Literal["confirmatory", "mechanistic", "deterministic"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for one claim."""

    value: float
    """Estimated effect, in `unit`; positive in the direction of the claim."""
    unit: str
    n: int
    """Distinct seeds of the smallest sample."""
    interval: Interval | None
    """Two-sided 95 % interval of the effect."""
    p_supported: float
    """One-sided p-value of the hypothesis that the effect is not beyond the margin of the claim."""
    p_refuted: float
    """p-value of the hypothesis that the claim holds."""
    margin: float = 0.0
    is_degenerate: bool = False
    """No seed differs from another, so that the spread says nothing."""
    planned: float = 0.0
    """Smallest effect of interest, as a distance from the margin; fixed beforehand."""
    sigma: float | None = None
    """Upper 80 % limit of the largest standard deviation over seeds; None if unknown."""
    seeds: Mapping[str, tuple[float, ...]] = {}
    """Value of each seed, by network, in the unit of the measure."""
    details: tuple[str, ...] = ()
    """Further results and cautions, one sentence each."""

    def seeds_needed(self, alpha: float = ALPHA) -> int | None:
        """Seeds per network for a power of 80 % to detect the planned effect; None if unknown."""
        if self.sigma is None:
            return None
        return seeds_needed(self.planned, self.sigma, alpha=alpha, num_means=len(self.seeds))


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Judgement of one claim."""

    status: Status
    reason: str
    """One clause."""
    p: float | None = None
    """p-value that decided, adjusted within its family."""


def effect_above(
    terms: Sequence[tuple[float, str, Sample]],
    *,
    unit: str,
    planned: float,
    margin: float = 0.0,
    no_effect_within: float | None = None,
    details: Sequence[str] = (),
) -> Finding:
    """Test whether a weighted sum of means lies above `margin`.

    The claim is refuted if the sum lies below 0, or within ± `no_effect_within`.

    Args:
        terms: weight, name of the network and sample; the weights are ±1.
        unit: unit of the sum.
        planned: smallest effect of interest, above the margin; the number of seeds needed is computed for it.
        margin: the effect that the claim must exceed.
        no_effect_within: equivalence margin (None: an equivalence test is not made).
        details: sentences to keep with the result.
    """
    result = contrast((weight, sample) for weight, _, sample in terms)
    refutations = [result.p_below(0.0)]
    if no_effect_within is not None:
        refutations.append(result.p_within(no_effect_within))
    return _finding(
        result, [sample for _, _, sample in terms], unit=unit, p_supported=result.p_above(margin),
        p_refuted=min(refutations), margin=margin, planned=planned - margin,
        seeds={name: sample.values for _, name, sample in terms}, details=tuple(details),
    )  # fmt: skip


def equivalence(
    terms: Sequence[tuple[float, str, Sample]],
    *,
    unit: str,
    low: float,
    high: float,
    details: Sequence[str] = (),
) -> Finding:
    """Test whether a weighted sum of means lies between `low` and `high`; refuted if it lies outside.

    The arguments are those of `effect_above`.
    """
    result = contrast((weight, sample) for weight, _, sample in terms)
    return _finding(
        result, [sample for _, _, sample in terms], unit=unit,
        p_supported=max(result.p_above(low), result.p_below(high)),
        p_refuted=min(1.0, 2 * min(result.p_below(low), result.p_above(high))),
        margin=low, planned=(high - low) / 2,
        seeds={name: sample.values for _, name, sample in terms}, details=tuple(details),
    )  # fmt: skip


def every(findings: Mapping[str, Finding], *, unit: str) -> Finding:
    """Combine the tests of a claim that says "all": supported if each is, refuted if any is.

    An intersection-union test needs no correction for the first; for the second, Holm's correction is used. The result
    shows the weakest part.
    """
    weakest = max(findings, key=lambda name: findings[name].p_supported)
    finding = findings[weakest]
    refuted = min(holm({name: one.p_refuted for name, one in findings.items()}).values())
    details = (f"weakest of {len(findings)}: {weakest}", *finding.details)
    return msgspec.structs.replace(finding, unit=unit, p_refuted=refuted, details=details)


def certain(holds: bool, *, value: float, unit: str, n: int, details: Sequence[str] = ()) -> Finding:
    """A finding without chance: a computation that either holds or does not."""
    return Finding(
        value=value, unit=unit, n=n, interval=None, p_supported=0.0 if holds else 1.0, p_refuted=1.0 if holds else 0.0,
        details=tuple(details),
    )  # fmt: skip


def _finding(
    result: Contrast, samples: Sequence[Sample], *, unit: str, p_supported: float, p_refuted: float, margin: float,
    planned: float, seeds: Mapping[str, tuple[float, ...]], details: tuple[str, ...],
) -> Finding:  # fmt: skip
    sigma = None
    if result.n > 1 and not result.is_degenerate:
        sigma = max(upper_sigma(math.sqrt(sample.variance), len(sample.values)) for sample in samples)
    return Finding(
        value=result.mean, unit=unit, n=result.n, interval=result.interval, p_supported=p_supported,
        p_refuted=p_refuted, margin=margin, is_degenerate=result.is_degenerate, planned=planned, sigma=sigma,
        seeds=seeds, details=details,
    )  # fmt: skip


def judge_family(findings: Mapping[str, Finding | None], *, alpha: float = ALPHA) -> dict[str, Verdict]:
    """Judge the claims of one family, with Holm's correction over those that were measured.

    Args:
        findings: by claim; None: not measured.
        alpha: level of the family.
    """
    measured = {name: finding for name, finding in findings.items() if finding is not None}
    supported = holm({name: finding.p_supported for name, finding in measured.items()})
    refuted = holm({name: finding.p_refuted for name, finding in measured.items()})
    return {
        name: Verdict(status="not measured", reason="no data")
        if finding is None
        else judge(finding, p_supported=supported[name], p_refuted=refuted[name], alpha=alpha)
        for name, finding in findings.items()
    }


def judge(finding: Finding, *, p_supported: float, p_refuted: float, alpha: float = ALPHA) -> Verdict:
    """Judge one claim by its adjusted p-values.

    Never "refuted" because a test was not significant, and never anything but "underpowered" on the strength of an
    interval of zero width.
    """
    if finding.is_degenerate:
        reason = "all seeds gave the same count, so the spread over seeds is unknown: use more test images"
        return Verdict(status="underpowered", reason=reason)
    if p_supported < alpha:
        return Verdict(status="supported", reason=f"the effect is above {finding.margin:.3g}", p=p_supported)
    if p_refuted < alpha:
        return Verdict(status="refuted", reason="the effect is absent or has the opposite sign", p=p_refuted)
    if finding.n < 2:
        return Verdict(status="underpowered", reason="one seed has no spread; train at least three")
    needed = finding.seeds_needed(alpha)
    seeds = f"about {needed} seeds" if needed else "more seeds"
    return Verdict(status="underpowered", reason=f"{seeds} per network would settle it", p=min(p_supported, p_refuted))
