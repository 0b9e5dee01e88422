"""Planning: which effects a number of seeds detects, and how many seeds an effect needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from resnet_cli.analysis.claims.catalogue import CLAIMS, Claim
from resnet_cli.analysis.claims.decisions import ALPHA, LOGARITHM, Rule, quantity
from resnet_cli.analysis.claims.document import claim_named
from resnet_cli.analysis.claims.evidence import load_evidence
from resnet_cli.analysis.frames import Study
from resnet_cli.analysis.tables import Column, Report, Table
from resnet_cli.errors import InputError, UsageError

SCHEMA_VERSION = 1
SEEDS = (3, 5, 10)
"""Numbers of seeds that are shown unless one is given."""


class Spread(msgspec.Struct, frozen=True):
    """Standard deviation over seeds that a plan assumes, in the unit of the measure."""

    sigma: float
    source: str
    """Where it comes from."""
    num_parts: int = 1
    """Number of parts of a claim that all must be supported, such as classes."""


def measured_spreads(study: Study, name: str, *, warn: Callable[[str], None]) -> list[Spread]:
    """Upper 80 % limit of the largest standard deviation over seeds of a claim's measure, for each group of runs.

    Args:
        study: loaded with metrics.
        name: of the claim.
        warn: receives one line for each file of a probe that cannot be used.

    Raises:
        InputError: no group has the measure for two seeds.
    """
    (claim, _), spreads = _testable(name), []
    for group, evidence in load_evidence(study, warn=warn).items():
        finding = claim.test(evidence)
        if finding is not None and finding.sigma is not None:
            source = f"upper 80 % limit from {finding.n} seeds: {group.label}"
            spreads.append(Spread(finding.sigma, source, finding.num_parts))
    if not spreads:
        raise InputError(
            f"--runs has no two seeds with different results for {name}",
            hint=f"give --sigma, or measure it: {claim.command}",
        )
    return spreads


def power_document(
    name: str, spreads: Sequence[Spread], seeds: Sequence[int], *, alpha: float = ALPHA
) -> dict[str, Any]:
    """Compute detectable effects and the seeds needed for a claim.

    Args:
        name: of the claim.
        spreads: one plan for each.
        seeds: numbers of seeds per network, at least 2 each.
        alpha: level of the family of claims.

    Returns:
        `schema_version`, `claim`, `measure`, `rule`, `unit`, `margin`, `planned_effect`, `family`, `family_size`,
        `alpha` and `plans`, each with `sigma`, `source`, `seeds_needed` and `seeds_needed_in_family` (None: more than
        10,000) and `detectable`: one row per number of seeds with `seeds`, `effect` and `effect_in_family`. The latter
        are for the strictest level of Holm's method, alpha / family_size. The power is 80 %.

    Raises:
        UsageError: there is no such claim, or it involves no chance.
    """
    claim, rule = _testable(name)
    size = sum(other.family == claim.family for other in CLAIMS)
    return {
        "schema_version": SCHEMA_VERSION, "claim": name, "measure": claim.measure, "rule": claim.rule_text,
        "unit": rule.unit, "margin": rule.margin, "planned_effect": rule.planned, "family": claim.family,
        "family_size": size, "alpha": alpha, "plans": [_plan(rule, spread, seeds, alpha, size) for spread in spreads],
    }  # fmt: skip


def _plan(rule: Rule, spread: Spread, seeds: Sequence[int], alpha: float, size: int) -> dict[str, Any]:
    sigma, num_parts = spread.sigma, spread.num_parts
    return {
        "sigma": sigma, "source": spread.source,
        "seeds_needed": rule.seeds_needed(sigma, alpha=alpha, num_parts=num_parts),
        "seeds_needed_in_family": rule.seeds_needed(sigma, alpha=alpha / size, num_parts=num_parts),
        "detectable": [
            {
                "seeds": n, "effect": rule.detectable(sigma, n, alpha=alpha, num_parts=num_parts),
                "effect_in_family": rule.detectable(sigma, n, alpha=alpha / size, num_parts=num_parts),
            }
            for n in seeds
        ],
    }  # fmt: skip


def _testable(name: str) -> tuple[Claim, Rule]:
    claim = claim_named(name)
    if claim.rule is None:
        raise UsageError(f"--claim {name} involves no chance", hint=f"{claim.command} decides it with one seed")
    return claim, claim.rule


def power_report(document: Mapping[str, Any]) -> Report:
    """Lay out a document of `power_document`: one table per plan."""
    return Report(tuple(_table(document, plan) for plan in document["plans"]), tuple(_notes(document)))


def _table(document: Mapping[str, Any], plan: Mapping[str, Any]) -> Table:
    columns = (
        Column("seeds per network"), Column("smallest effect detected, claim alone"),
        Column(f"as one of {document['family_size']} {document['family']} claims"),
    )  # fmt: skip
    unit = document["unit"]
    rows = [
        (str(row["seeds"]), quantity(row["effect"], unit), quantity(row["effect_in_family"], unit))
        for row in plan["detectable"]
    ]
    planned = quantity(document["planned_effect"], unit)
    alone, among = _count(plan["seeds_needed"]), _count(plan["seeds_needed_in_family"])
    needed = f"Seeds per network needed to detect {planned}: {alone} for the claim alone, {among} in its family."
    sigma = f"{plan['sigma']:.3g} {'(natural logarithm)' if unit.startswith(LOGARITHM) else unit}".rstrip()
    title = f"{document['claim']}: standard deviation over seeds σ = {sigma}, {plan['source']}"
    return Table(title, columns, tuple(rows), (needed,))


def _notes(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"Measure: {document['measure']}. Supported: {document['rule']}."
    yield (
        f"Power 80 %, one-sided level {document['alpha']:g}; for the family, the strictest level of Holm's method, "
        f"{document['alpha'] / document['family_size']:.2g}."
    )


def _count(seeds: int | None) -> str:
    return "more than 10,000" if seeds is None else f"{seeds:,}"
