"""From a measured contrast to a verdict: pure functions, whose error rates are simulated."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from resnet_cli.analysis.stats import (
    MAX_SEEDS,
    POWER,
    Contrast,
    Interval,
    Sample,
    contrast,
    detectable_effect,
    holm,
    seeds_needed,
    upper_sigma,
)

ALPHA = 0.05
ALPHA_PER_LOOK = 0.02
"""Level of each test if a study is judged after 3, 5 and 10 seeds: together, the three looks have a level of 0.05."""
_LOOKS = 3
MIN_SEEDS = 3
"""Fewer seeds per network decide nothing: the spread of two says next to nothing about that of the next."""

LOGARITHM = "log "
"""Beginning of the unit of effects that are natural logarithms."""
LARGEST_LOG = 700.0

Status = Literal["supported", "refuted", "underpowered", "not measured"]
Family = Literal["confirmatory", "mechanistic", "deterministic"]


def alpha_per_look(looks: int) -> float:
    """Level of the tests of each family, if a study is judged `looks` times while seeds are added."""
    return ALPHA if looks == 1 else ALPHA_PER_LOOK if looks <= _LOOKS else ALPHA / looks


def amount(effect: float, unit: str, *, sign: str = "") -> str:
    """Write an effect with three digits; the exponential of a logarithm, as a factor.

    Args:
        effect: in `unit`.
        unit: begins with `LOGARITHM` for a natural logarithm.
        sign: `+` to show the sign of positive numbers too.
    """
    if unit.startswith(LOGARITHM):
        return f"×{math.exp(min(effect, LARGEST_LOG)):.3g}"
    return f"{effect:{sign}.3g}".replace("-", "−")


def quantity(effect: float, unit: str, *, sign: str = "") -> str:
    """Write an effect with its unit: `1.5 pp`, or `×1.5` if it is a logarithm; arguments as for `amount`."""
    name = "" if unit.startswith(LOGARITHM) else unit
    return f"{amount(effect, unit, sign=sign)} {name}".rstrip()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What an effect must be for a claim to be supported or refuted; docs/claims.md says when rules were changed."""

    unit: str
    """Unit of the effect."""
    margin: float = 0.0
    """Supported: the effect is above it."""
    upper: float | None = None
    """Supported: the effect is also below it (None: no upper limit)."""
    absent_below: float = 0.0
    """Refuted: the effect is below it. Not above `margin`."""
    no_effect_within: float | None = None
    """Refuted: the effect is within ± this (None: not tested)."""
    planned: float
    """Smallest effect that a study should detect, above `margin`; the number of seeds needed is computed for it."""
    num_networks: int = 2
    """Number of networks whose means are added or subtracted."""

    def __str__(self) -> str:
        if self.upper is not None:
            return f"{self.claimed}; refuted if outside"
        within = "" if self.no_effect_within is None else f" or {self.negligible}"
        return f"{self.claimed}; refuted if below {self.quantity(self.absent_below)}{within}"

    def quantity(self, effect: float) -> str:
        """Write an effect with its unit."""
        return quantity(effect, self.unit)

    @property
    def claimed(self) -> str:
        """The effects that the claim speaks of: `above 0.5 pp`, `between ×1.6 and ×2.5`, `worse by at most 1 pp`."""
        if self.upper is not None:
            return f"between {self.quantity(self.margin)} and {self.quantity(self.upper)}"
        return (
            f"worse by at most {self.quantity(-self.margin)}"
            if self.margin < 0
            else f"above {self.quantity(self.margin)}"
        )

    @property
    def negligible(self) -> str:
        """The range of effects that count as none: `within ±0.2 pp`, or `within a factor of 1.05`."""
        assert self.no_effect_within is not None
        if self.unit.startswith(LOGARITHM):
            return f"within a factor of {math.exp(self.no_effect_within):.3g}"
        return f"within ±{self.quantity(self.no_effect_within)}"

    def _power(self, num_parts: int = 1) -> float:
        # all tests must succeed: those of every part, and for an interval those at both of its ends
        return 1 - (1 - POWER) / num_parts / (1 if self.upper is None else 2)

    def seeds_needed(self, sigma: float, *, alpha: float = ALPHA, num_parts: int = 1) -> int | None:
        """Seeds per network for a power of 80 % at the planned effect; None if 10,000 do not suffice.

        Args:
            sigma: standard deviation over seeds, of the noisiest network.
            alpha: level of the test.
            num_parts: number of parts that all must be supported.
        """
        found = seeds_needed(
            self.planned - self.margin, sigma, alpha=alpha, num_means=self.num_networks, target=self._power(num_parts)
        )
        return None if found is None else max(found, MIN_SEEDS)

    def detectable(self, sigma: float, n: int, *, alpha: float = ALPHA, num_parts: int = 1) -> float:
        """Smallest effect that n ≥ 2 seeds per network detect with a power of 80 %; other arguments as above."""
        target = self._power(num_parts)
        distance = detectable_effect(sigma, n, alpha=alpha, num_means=self.num_networks, target=target)
        return self.margin + distance


class Term(NamedTuple):
    """One network in a sum of means."""

    weight: float
    """1 or −1."""
    network: str
    sample: Sample


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for one claim."""

    value: float
    """Estimated effect, in `unit`; positive in the direction of the claim."""
    unit: str
    n: int
    """Distinct seeds of the smallest sample."""
    interval: Interval | None = None
    """Two-sided 95 % interval of the effect."""
    standard_error: float | None = None
    """That of the interval, in its unit; not smaller than the resolution of the measure. None without an interval."""
    freedom: float | None = None
    """Degrees of freedom of the interval, by Welch and Satterthwaite for several networks; None without an interval."""
    p_supported: float
    """p-value of the hypothesis that the effect is not what the claim says."""
    p_refuted: float
    """p-value of the hypothesis that the claim holds."""
    p_negligible: float = 1.0
    """p-value of the hypothesis that the effect is outside ± `Rule.no_effect_within`."""
    rule: Rule | None = None
    """None for a computation without chance."""
    is_degenerate: bool = False
    """No seed differs from another, so the spread over seeds is unknown."""
    sigma: float | None = None
    """Upper 80 % limit of the largest standard deviation over seeds; None if unknown."""
    seeds: Mapping[str, tuple[float, ...]] = {}
    """Value of each seed, by network, in the unit of the measure."""
    part: str = ""
    """The part of a claim about several that this describes."""
    num_parts: int = 1
    """Number of parts of such a claim."""
    obstacle: str = ""
    """Why more seeds would not decide; empty if they would."""
    details: tuple[str, ...] = ()
    """Further results and cautions."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Judgement of one claim."""

    status: Status
    reason: str
    """One clause."""
    p: float | None = None
    """p-value that decided, adjusted within its family; of an undecided claim, the smaller of both."""
    seeds_needed: int | None = None
    """Seeds per network that detect the planned effect with a power of 80 % at the strictest level of Holm's method;
    None if unknown."""


def effect_found(rule: Rule, terms: Sequence[Term], details: Sequence[str] = ()) -> Finding:
    """Test a weighted sum of means against a rule.

    A sum with fewer than `MIN_SEEDS` seeds, or without any variation over its seeds, supports and refutes nothing.

    Args:
        rule: for the sum.
        terms: at least one, none with an empty sample.
        details: kept with the result.
    """
    samples = [term.sample for term in terms]
    result = contrast((term.weight, term.sample) for term in terms)
    has_spread = result.n > 1 and not result.is_degenerate
    if result.is_floored:
        details = (*details, "the seeds vary less than the resolution of the measure, which is the standard error")
    decides = has_spread and result.n >= MIN_SEEDS
    p_supported, p_refuted, p_negligible = _p_values(rule, result) if decides else (1.0, 1.0, 1.0)
    return Finding(
        value=result.mean, unit=rule.unit, n=result.n, interval=result.interval,
        standard_error=result.standard_error, freedom=None if result.standard_error is None else result.freedom,
        p_supported=p_supported, p_refuted=p_refuted, p_negligible=p_negligible, rule=rule,
        is_degenerate=result.is_degenerate,
        sigma=max(upper_sigma(math.sqrt(one.variance), len(one.values)) for one in samples) if has_spread else None,
        seeds={term.network: term.sample.values for term in terms}, details=tuple(details),
    )  # fmt: skip


def _p_values(rule: Rule, result: Contrast) -> tuple[float, float, float]:
    """p-values of `Finding`: p_supported, p_refuted and p_negligible."""
    if rule.upper is not None:
        outside = 2 * min(result.p_below(rule.margin), result.p_above(rule.upper))
        return max(result.p_above(rule.margin), result.p_below(rule.upper)), min(1.0, outside), 1.0
    negligible = 1.0 if rule.no_effect_within is None else result.p_within(rule.no_effect_within)
    # Both parts are at least p_below(no_effect_within), so their minimum keeps the level for effects beyond it.
    return result.p_above(rule.margin), min(result.p_below(rule.absent_below), negligible), negligible


def every(findings: Mapping[str, Finding]) -> Finding:
    """Combine the tests of a claim that says "all": supported if each part is, refuted if any is.

    An intersection-union test needs no correction for the first; Holm's method corrects the second. The result
    describes the part that contradicts the claim most clearly, if one does, else the weakest part.
    """
    weakest = max(findings, key=lambda name: findings[name].p_supported)
    refuted = holm({name: one.p_refuted for name, one in findings.items()})
    worst = min(refuted, key=lambda name: refuted[name])
    shown, part = (worst, worst) if refuted[worst] < ALPHA else (weakest, f"{weakest} (weakest of {len(findings)})")
    return msgspec.structs.replace(
        findings[shown], part=part, num_parts=len(findings), p_supported=findings[weakest].p_supported,
        p_refuted=refuted[worst], p_negligible=1.0,
    )  # fmt: skip


def certain(holds: bool, *, value: float, unit: str, n: int, details: Sequence[str] = ()) -> Finding:
    """A finding without chance: a computation that either holds or does not."""
    p_supported, p_refuted = (0.0, 1.0) if holds else (1.0, 0.0)
    return Finding(value=value, unit=unit, n=n, p_supported=p_supported, p_refuted=p_refuted, details=tuple(details))


def judge_family(findings: Mapping[str, Finding | None], *, alpha: float = ALPHA) -> dict[str, Verdict]:
    """Judge the claims of one family, with Holm's correction over all of them.

    Those that were not measured count too, so that measuring another claim never takes a verdict back.

    Args:
        findings: by claim; None: not measured.
        alpha: level of the family.
    """
    supported = holm({name: finding.p_supported if finding else 1.0 for name, finding in findings.items()})
    refuted = holm({name: finding.p_refuted if finding else 1.0 for name, finding in findings.items()})
    return {
        name: Verdict(status="not measured", reason="no data")
        if finding is None
        else judge(finding, p_supported=supported[name], p_refuted=refuted[name], alpha=alpha, family=len(findings))
        for name, finding in findings.items()
    }


def judge_certain(finding: Finding | None, criterion: str) -> Verdict:
    """Judge a claim that a computation decides by a criterion, given in words."""
    if finding is None:
        return Verdict(status="not measured", reason="no data")
    if finding.p_supported == 0:
        return Verdict(status="supported", reason=criterion)
    return Verdict(status="refuted", reason=f"not true: {criterion}")


def judge(finding: Finding, *, p_supported: float, p_refuted: float, alpha: float = ALPHA, family: int = 1) -> Verdict:
    """Judge one claim by its adjusted p-values.

    Never "refuted" because a test was not significant.

    Args:
        finding: with a rule.
        p_supported: adjusted p-value of the finding.
        p_refuted: likewise.
        alpha: level of the family.
        family: number of tests in the family. Seeds are planned for the strictest level of Holm's method.
    """
    rule = finding.rule
    assert rule is not None
    needed = None
    if finding.sigma is not None and not finding.obstacle:
        needed = rule.seeds_needed(finding.sigma, alpha=alpha / family, num_parts=finding.num_parts)
    status: Status = "underpowered"
    is_tested = finding.sigma is not None and min(finding.p_supported, finding.p_refuted) < 1
    p: float | None = min(p_supported, p_refuted) if is_tested else None
    if p_supported < alpha:
        status, reason, p = "supported", rule.claimed, p_supported
    elif p_refuted < alpha:
        status, reason, p = "refuted", _refuted(finding, rule, alpha), p_refuted
    elif finding.obstacle:
        reason = finding.obstacle
    elif finding.is_degenerate:
        reason = "the seeds of each network have equal values, so their spread is unknown; measure on more images"
    elif finding.n < MIN_SEEDS:
        reason = f"{'one seed has' if finding.n == 1 else 'two seeds have'} no reliable spread; train at least three"
    else:
        reason = _undecided(finding, rule, needed)
    return Verdict(
        status=status, reason=f"{finding.part}: {reason}" if finding.part else reason, p=p, seeds_needed=needed
    )


def _refuted(finding: Finding, rule: Rule, alpha: float) -> str:
    if rule.upper is not None:
        return f"not {rule.claimed}"
    if finding.p_negligible < alpha:
        return f"no effect: {rule.negligible}"
    if rule.margin < 0:
        return f"worse by more than {rule.quantity(-rule.absent_below)}"
    return f"below {rule.quantity(rule.absent_below)}"


def _undecided(finding: Finding, rule: Rule, needed: int | None) -> str:
    aim, harder = f"detect the planned effect of {rule.quantity(rule.planned)}", "a smaller one"
    if rule.margin < 0:
        aim, harder = f"show that it is {rule.claimed}", "a difference near that limit"
    if needed is None:
        return f"at this spread, it would take more than {MAX_SEEDS:,} seeds per network to {aim}"
    if needed <= finding.n:
        return f"{finding.n} seeds per network suffice to {aim}; {harder} needs more"
    return f"{needed:,} seeds per network would {aim}"
