"""Verdicts on the claims, and what was not measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_cli.analysis.claims import claims_report
from resnet_cli.analysis.report.blocks import Block, Paragraph, Verdicts

_MAX_SEEDS = 10
_INTRODUCTION = (
    "Each claim has a fixed rule. It is supported if the effect lies beyond the "
    "margin of the rule, refuted if the opposite was shown, and underpowered if these runs cannot decide it: a missing "
    "effect is never inferred from a large p. Sources: the report is V. R. Shinde, Deep Residual Learning for Image "
    "Recognition: Implementation and Analysis (2025), and the analysis is A Mathematical Analysis of the ResNet "
    "Architecture."
)
NONE_JUDGED = "No claim was judged: claims compare plain with residual networks of one dataset and recipe."


def verdicts(document: Mapping[str, Any] | None) -> list[Block]:
    """One table of verdicts per group; `document` is that of `claims_document`, None if nothing can be judged."""
    if document is None:
        return [Paragraph(NONE_JUDGED)]
    blocks: list[Block] = [Paragraph(_INTRODUCTION)]
    rows = iter(document["claims"])
    for table in claims_report(document).tables:  # its rows are those of the document, in the same order
        headers = [column.header for column in table.columns]
        shown = [{**next(rows), "cells": dict(zip(headers, cells, strict=True))} for cells in table.rows]
        level = f"Level {document['alpha']:g} for each family of claims."
        blocks.append(
            Verdicts(table.title, [_judged(row) for row in shown], (table.footnotes[0], level, *shown[0]["provenance"]))
        )
    return blocks


def _judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the lines that explain its verdict."""
    seeds = [
        f"{name} {', '.join(f'{value:.4g}'.replace('-', '−') for value in values)}"
        for name, values in row["seeds"].items()
    ]
    lines = [
        ("Measure", row["measure"]), ("Rule", row["rule"]), ("Reason", _reason(row)),
        *([("Seeds", "; ".join(seeds))] if seeds and max(map(len, row["seeds"].values())) <= _MAX_SEEDS else []),
        *(("Note", text) for text in (*row["details"], row["caveat"]) if text),
    ]  # fmt: skip
    return {**row, "lines": lines}


def _reason(row: Mapping[str, Any]) -> str:
    return "no data" if row["status"] == "not measured" else row["reason"]


def missing_claims(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Name, sentence and command of each claim that was not measured, with its group if there are several."""
    groups = {(row["dataset"], row["recipe"], row["fingerprint"]) for row in claims}
    return [
        (
            row["claim"] + (f" ({row['dataset']}, {row['recipe']})" if len(groups) > 1 else ""),
            row["sentence"], row["command"],
        )
        for row in claims if row["status"] == "not measured"
    ]  # fmt: skip
