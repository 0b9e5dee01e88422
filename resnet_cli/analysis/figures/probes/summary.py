"""What the summary of a probe consists of."""

from collections.abc import Sequence
from typing import NamedTuple

Cell = str | int | float | None


class Summary(NamedTuple):
    """The table that `resnet probe` prints: one row per network, or a few."""

    columns: Sequence[str]
    """Headers with units: `error %`."""
    rows: Sequence[Sequence[Cell]]
    """Values in the order of `columns`. Numbers are formatted when printed; None and NaN are shown as a dash."""
    notes: Sequence[str] = ()
    """Sentences below the table."""
