"""Verdicts on all claims as one document and as tables."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from resnet_cli.analysis.claims.catalogue import CLAIMS, DEPTHS, Claim
from resnet_cli.analysis.claims.decisions import (
    ALPHA,
    LARGEST_LOG,
    LOGARITHM,
    Finding,
    Verdict,
    amount,
    judge_certain,
    judge_family,
    quantity,
)
from resnet_cli.analysis.claims.evidence import Evidence, load_evidence
from resnet_cli.analysis.frames import Study
from resnet_cli.analysis.tables import Column, Report, Table
from resnet_cli.errors import UsageError

SCHEMA_VERSION = 1
MISSING = "—"

CLAIM_COLUMNS = (
    "claim", "status", "reason", "value", "unit", "low", "high", "standard_error", "freedom", "margin", "p",
    "p_supported", "p_refuted", "n", "seeds_needed", "family", "same_test_as",
    "sentence", "source", "measure", "rule", "command", "caveat", "details", "dataset", "recipe", "fingerprint",
    "shallow_depth", "deep_depth",
)  # fmt: skip
"""Columns of the CSV format."""


def claims_document(
    study: Study, *, alpha: float = ALPHA, warn: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Judge every claim in every group of runs that has plain and residual networks.

    Args:
        study: loaded with metrics.
        alpha: level of each family of claims.
        warn: receives one line for each file of a probe that cannot be used.

    Returns:
        `schema_version`; `claims`, one row per group and claim with the keys `CLAIM_COLUMNS`, `seeds` (the value of
        each seed, by network) and `provenance` (settings that differ between the runs); p is adjusted by Holm's method,
        p_supported and p_refuted are not; a claim that is `same_test_as` another has its verdict and belongs to no
        family; `skipped`, the runs that were not used.

    Raises:
        UsageError: no group has plain and residual networks.
    """
    rows = []
    for group, evidence in load_evidence(study, warn=warn).items():
        shallow, deep = evidence.networks.depths
        place = {
            "dataset": group.dataset, "recipe": group.recipe, "fingerprint": group.fingerprint,
            "shallow_depth": shallow, "deep_depth": deep, "provenance": list(evidence.provenance),
        }  # fmt: skip
        rows += [{**row, **place} for row in judge_claims(evidence, alpha=alpha)]
    if not rows:
        raise UsageError(
            "claims need plain and residual networks with the same dataset and recipe",
            hint="train the missing networks, for example with resnet reproduce",
        )
    return {
        "schema_version": SCHEMA_VERSION, "alpha": alpha, "claims": rows,
        "skipped": msgspec.to_builtins(study.skipped),
    }  # fmt: skip


def judge_claims(evidence: Evidence, *, alpha: float = ALPHA) -> list[dict[str, Any]]:
    """Judge all claims, in the order of the catalogue, with Holm's correction within each family."""
    # A test that two claims share must not count twice in a family.
    same = {"degradation-warmup": "degradation"} if evidence.is_warmed_up else {}
    findings = {claim.name: claim.test(evidence) for claim in CLAIMS}
    verdicts: dict[str, Verdict] = {}
    for family in ("confirmatory", "mechanistic"):
        members = {
            claim.name: None if claim.name in same else findings[claim.name]
            for claim in CLAIMS
            if claim.family == family
        }
        verdicts |= judge_family(members, alpha=alpha)
    verdicts |= {
        claim.name: judge_certain(findings[claim.name], claim.criterion) for claim in CLAIMS if claim.rule is None
    }
    verdicts |= {name: verdicts[other] for name, other in same.items()}
    return [_row(claim, findings[claim.name], verdicts[claim.name], same.get(claim.name)) for claim in CLAIMS]


def _row(claim: Claim, finding: Finding | None, verdict: Verdict, same_test_as: str | None) -> dict[str, Any]:
    low, high = (finding.interval if finding else None) or (None, None)
    rule = finding.rule if finding else claim.rule
    reason = f"measure it: {claim.command}" if verdict.status == "not measured" else verdict.reason
    if same_test_as:
        reason = f"the same test as {same_test_as}, since these runs were warmed up: {verdict.reason}"
    return {
        "claim": claim.name, "status": verdict.status, "reason": reason,
        "value": finding.value if finding else None, "unit": rule.unit if rule else finding.unit if finding else None,
        "low": low, "high": high, "standard_error": finding.standard_error if finding else None,
        "freedom": finding.freedom if finding else None, "margin": rule.margin if rule else None, "p": verdict.p,
        "p_supported": finding.p_supported if finding else None, "p_refuted": finding.p_refuted if finding else None,
        "n": finding.n if finding else None, "seeds_needed": verdict.seeds_needed,
        "family": None if same_test_as else claim.family, "same_test_as": same_test_as,
        "sentence": claim.sentence, "source": claim.source, "measure": claim.measure,
        "rule": claim.rule_text, "command": claim.command, "caveat": claim.caveat,
        "details": list(finding.details) if finding else [],
        "seeds": {name: list(values) for name, values in finding.seeds.items()} if finding else {},
    }  # fmt: skip


def check_claims(names: Sequence[str], option: str) -> None:
    """Raise a `UsageError` that names the option unless every value of it is a claim."""
    for name in names:
        claim_named(name, option)


def claim_named(name: str, option: str = "--claim") -> Claim:
    """Return the claim with this name; raise `UsageError` for an unknown one."""
    known = {claim.name: claim for claim in CLAIMS}
    if name not in known:
        similar = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(similar)}?" if similar else f"choose from {', '.join(known)}"
        raise UsageError(f"{option}: unknown claim {name!r}", hint=hint)
    return known[name]


def claims_report(document: Mapping[str, Any]) -> Report:
    """Lay out a document of `claims_document`: one table per group."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in document["claims"]:
        groups.setdefault((row["dataset"], row["recipe"], row["fingerprint"]), []).append(row)
    columns = (
        Column("claim", "left"), Column("verdict", "left"), Column("effect"), Column("95 % interval", rank=2),
        Column("n"), Column("p (Holm)", rank=1), Column("reason", "left", is_text=True), Column("margin"),
        Column("sentence", "left", is_text=True), Column("measure", "left", is_text=True), Column("source", "left"),
    )  # fmt: skip
    notes = (
        "Effect: in the direction of the claim; ×: a ratio; pp: percentage points. n counts seeds. p: one-sided, "
        "adjusted within the confirmatory or the mechanistic family.",
        f"Level {document['alpha']:g} for each family. --explain CLAIM gives the definition, the rule and the data.",
    )
    tables = [
        Table(
            f"Verdicts: {_runs(rows[0])}",
            columns,
            tuple(map(_cells, rows)),
            (*notes, *_depth_notes(rows[0]), *rows[0]["provenance"]),
        )
        for rows in groups.values()
    ]
    return Report(tuple(tables), ())


def _runs(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}, {row['recipe']}; shallow: {row['shallow_depth']} layers, deep: {row['deep_depth']}"


def _depth_notes(row: Mapping[str, Any]) -> list[str]:
    if (row["shallow_depth"], row["deep_depth"]) == DEPTHS:
        return []
    shallow, deep = DEPTHS
    return [f"The report compares {shallow} and {deep} layers; these verdicts apply to the depths above only."]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = MISSING if row["low"] is None else f"[{_short(row, 'low')}, {_short(row, 'high')}]"
    p = MISSING if row["p"] is None else ("<0.001" if row["p"] < 0.001 else f"{row['p']:.3f}")
    return (
        row["claim"], row["status"], _with_unit(row, "value"), interval,
        MISSING if row["n"] is None else str(row["n"]), p, row["reason"], _with_unit(row, "margin"), row["sentence"],
        row["measure"], row["source"],
    )  # fmt: skip


def _short(row: Mapping[str, Any], key: str) -> str:
    return amount(row[key], row["unit"] or "", sign="+")


def _with_unit(row: Mapping[str, Any], key: str) -> str:
    return MISSING if row[key] is None else quantity(row[key], row["unit"] or "", sign="+")


def _of_seed(value: float, row: Mapping[str, Any]) -> float:
    """The value of one seed, without the logarithm of measures that have one."""
    return math.exp(min(value, LARGEST_LOG)) if row["unit"].startswith(LOGARITHM) else value


def _unit(row: Mapping[str, Any]) -> str:
    return str(row["unit"] or "").removeprefix(LOGARITHM)


def explanation(row: Mapping[str, Any]) -> list[str]:
    """Explain one row of `claims`: definition, rule, data and how the verdict came about, as lines of text."""
    lines = [
        f"{row['claim']}: {row['status']}; {row['reason']}",
        f"  sentence   {row['sentence']} ({row['source']})",
        f"  measure    {row['measure']}",
        f"  rule       {row['rule']}",
        f"  family     {row['family'] or 'none: the same test as ' + row['same_test_as']}",
        f"  runs       {_runs(row)}",
    ]
    if row["value"] is not None:
        interval = "" if row["low"] is None else f", 95 % interval {_short(row, 'low')} to {_short(row, 'high')}"
        effect = f"{_short(row, 'value')} {_unit(row)}".rstrip()
        lines.append(f"  effect     {effect}{interval}, n = {row['n']}")
        lines += [
            f"  {name:<10} {', '.join(f'{_of_seed(value, row):.4g}' for value in values)}"
            for name, values in row["seeds"].items()
        ]
        if row["standard_error"]:
            what = "its logarithm" if row["unit"].startswith(LOGARITHM) else "the effect"
            method = " (Welch, Satterthwaite)" if len(row["seeds"]) > 1 else ""
            lines.append(
                f"  precision  standard error of {what}: {row['standard_error']:.3g}; "
                f"degrees of freedom: {row['freedom']:.3g}{method}"
            )
        if row["p"] is not None:
            single = f"{row['p_supported']:.3g} for the claim and {row['p_refuted']:.3g} against it"
            lines.append(f"  p          {row['p']:.3g} by Holm's method within the family; before it, {single}")
        if row["seeds_needed"]:
            plan = f"{row['seeds_needed']:,} seeds per network detect the planned effect with a power of 80 %"
            lines.append(f"  plan       {plan}")
    details = (*row["details"], row["caveat"], *_depth_notes(row), *row["provenance"])
    lines += [f"  note       {detail}" for detail in details if detail]
    if row["status"] == "not measured":
        lines.append(f"  measure it {row['command']}")
    return lines
