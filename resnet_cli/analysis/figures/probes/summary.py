"""What the summary of a probe consists of, and its layout as a table."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from resnet_cli.analysis.tables.layout import MISSING, Column, Table

Cell = str | int | float | None


class Summary(NamedTuple):
    """The table that `resnet probe` prints: one row per network, or a few."""

    columns: Sequence[str]
    """Headers with units: `error %`."""
    rows: Sequence[Sequence[Cell]]
    """Values in the order of `columns`. Numbers are formatted when printed; None and NaN are shown as a dash."""
    notes: Sequence[str] = ()
    """Sentences below the table."""


def text_table(title: str, summary: Summary) -> Table:
    """Lay out a summary with formatted numbers; on a narrow terminal, the last columns are hidden first."""
    is_text = [any(isinstance(row[index], str) for row in summary.rows) for index in range(len(summary.columns))]
    columns = tuple(
        Column(header, "left" if text else "right", rank=index)
        for index, (header, text) in enumerate(zip(summary.columns, is_text, strict=True))
    )
    return Table(title, columns, tuple(tuple(map(_cell, row)) for row in summary.rows), tuple(summary.notes))


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
