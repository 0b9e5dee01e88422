"""Sorting and filtering of rows by column: `--sort` and `--filter`."""

import difflib
import fnmatch
import math
import operator
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from resnet_cli.errors import UsageError
from resnet_cli.util.text import shorten

Row = TypeVar("Row", bound=Mapping[str, Any])

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_OPERATOR = r"(!=|<=|>=|==|=|<|>)"
_CONDITION = re.compile(rf"([A-Za-z][\w-]*){_OPERATOR}(.*)", re.DOTALL)
_EXAMPLE = 'write it like "depth=56 status=complete" or "lr<0.1"'
_NOTHING = "none"
_MAX_LENGTH = 1000


def parse_sort(sort: str | None, columns: Collection[str]) -> tuple[str | None, bool]:
    """Parse `--sort` into a column and whether the order is descending; raise `UsageError` for an unknown column."""
    if sort is None:
        return None, False
    column = sort.removeprefix("-")
    if column not in columns:
        raise UsageError(f"unknown column --sort={shorten(sort)}", hint=_closest(column, columns))
    return column, sort.startswith("-")


def sort_rows(rows: Sequence[Row], column: str | None, is_descending: bool) -> list[Row]:
    """Sort `rows` by `column` (None: keep their order); rows without a value come last. The sort is stable."""
    if column is None:
        return list(rows)
    present = [row for row in rows if row[column] is not None]
    missing = [row for row in rows if row[column] is None]
    return sorted(present, key=lambda row: row[column], reverse=is_descending) + missing


class Condition(msgspec.Struct, frozen=True):
    """One condition of `--filter`: `depth=56`, `lr<0.1`, `network!=plain-*`."""

    column: str
    operator: str
    value: float | str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether the condition holds for `row`. A missing value equals `none` and is in no order."""
        actual = row[self.column]
        if self.operator in _ORDER:
            return actual is not None and _ORDER[self.operator](actual, self.value)
        return (self.operator == "!=") != self._equals(actual)

    def _equals(self, actual: Any) -> bool:
        if isinstance(self.value, str):
            # "[" is not special here, since names of datasets contain it
            return fnmatch.fnmatchcase(_text(actual), self.value.lower().replace("[", "[[]"))
        return actual is not None and bool(actual == self.value)


def parse_filters(texts: Iterable[str], columns: Mapping[str, type]) -> list[Condition]:
    """Parse conditions separated by blanks, such as `depth=56 status=complete`; values with blanks need quotes.

    Args:
        texts: values of `--filter`.
        columns: the name of each column, with `float` for numbers and `str` for everything else.

    Raises:
        UsageError: a condition is malformed, or compares an unknown column, or a number with text.
    """
    return [_condition(term, columns) for text in texts for term in _terms(text)]


def _terms(text: str) -> list[str]:
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"--filter {shorten(text, 40)!r} is longer than {_MAX_LENGTH} characters")
    try:
        terms = shlex.split(re.sub(rf"\s*{_OPERATOR}\s*", r"\1", text))
    except ValueError as error:
        raise UsageError(f"--filter {text!r}: {str(error).lower()}", hint=_EXAMPLE) from None
    if not terms:
        raise UsageError(f"--filter {text!r} contains no condition", hint=_EXAMPLE)
    return terms


def _condition(term: str, columns: Mapping[str, type]) -> Condition:
    match = _CONDITION.fullmatch(term)
    if match is None:
        raise UsageError(f"--filter {term!r} is not a condition", hint=_EXAMPLE)
    column, sign, value = match[1].replace("-", "_"), match[2].replace("==", "="), match[3]
    if column not in columns:
        raise UsageError(f"--filter {term!r}: unknown column {match[1]}", hint=_closest(column, columns))
    if columns[column] is str or (value.lower() == _NOTHING and sign in ("=", "!=")):
        return Condition(column, sign, value)
    return Condition(column, sign, _number(term, column, value))


def _number(term: str, column: str, text: str) -> float:
    for kind in (int, float):  # whole numbers exactly, such as seeds of 63 bits
        try:
            number = kind(text)
        except ValueError:
            continue
        if not math.isnan(number):
            return number
    raise UsageError(f"--filter {term!r}: {column} is a number, and {text!r} is not", hint=_EXAMPLE)


def _closest(name: str, columns: Collection[str]) -> str:
    nearest = difflib.get_close_matches(shorten(name), columns, n=3, cutoff=0)
    return f"the closest columns are {', '.join(nearest)}"


def _text(value: Any) -> str:
    """The text that a value is compared as, in lower case."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or _NOTHING
    return _NOTHING if value is None else str(value).lower()
