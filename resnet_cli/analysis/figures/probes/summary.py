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
    """Lay out a summary, the numbers of a column with equal decimals; a narrow terminal hides the last columns first.

    A column with numbers that would lose their second digit has four significant digits instead.
    """
    cells = list(zip(*summary.rows, strict=True)) or [()] * len(summary.columns)
    columns = tuple(
        Column(header, "left" if any(isinstance(value, str) for value in values) else "right", rank=index)
        for index, (header, values) in enumerate(zip(summary.columns, cells, strict=True))
    )
    rows = zip(*map(_texts, cells), strict=True)
    return Table(title, columns, tuple(rows), tuple(summary.notes))


def _texts(values: Sequence[Cell]) -> list[str]:
    """The cells of one column as text."""
    sizes = [abs(value) for value in values if isinstance(value, float) and 0 < abs(value) < math.inf]
    decimals = 3 - math.floor(math.log10(max(sizes))) if sizes else 0
    is_fixed = 0 <= decimals <= 4 and min(sizes, default=1.0) >= 10 ** (1 - decimals)
    return [_text(value, f".{decimals}f" if is_fixed else ".4g") for value in values]


def _text(value: Cell, form: str) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return MISSING
    return (f"{value:{form}}" if isinstance(value, float) else f"{value:,}").replace("-", "−")
