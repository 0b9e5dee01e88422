"""The language of `--assert`: comparisons of sums and products of numbers and `network.column` values."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from resnet_cli.errors import UsageError

Row = Mapping[str, Any]

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<value>[A-Za-z]+-[0-9]+(?:-[A-Za-z]+)?\.[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<comparison>>=|<=|==|!=|>|<)"
    r"|(?P<sign>[-+*/()])"
    r")"
)
_MAX_NESTING = 50
_EXAMPLE = 'write it like "resnet-56.test_accuracy_pct > plain-56.test_accuracy_pct + 1"'


class AssertionResult(msgspec.Struct, frozen=True, kw_only=True):
    """A check and what came of it."""

    check: str
    """As it was written."""
    holds: bool
    left: float | None
    """Value left of the comparison; None where it has none."""
    right: float | None
    reason: str | None = None
    """Why it does not hold, where a value is missing; one line."""


class _UndefinedError(Exception):
    """An expression has no value."""


Values = Mapping[str, float]
Expression = Callable[[Values], float]


class Assertion(msgspec.Struct, frozen=True):
    """A parsed check."""

    text: str
    left: Expression
    comparison: str
    right: Expression
    names: tuple[str, ...]
    """Every `network.column` in it."""

    def evaluate(self, rows: Sequence[Row]) -> AssertionResult:
        """Compare the values of `rows`, the `networks` of a `study_document`.

        A check on a value that was not measured does not hold, whatever the comparison.

        Raises:
            UsageError: a network or column is not known, is not a number, or the network is in
                several groups.
        """
        found = {name: self._value(name, rows) for name in self.names}
        values = {name: value for name, value in found.items() if value is not None}
        sides: list[float | None] = []
        reason = None
        for side in (self.left, self.right):
            try:
                sides.append(side(values))
            except KeyError as error:
                sides.append(None)
                reason = reason or f"{error.args[0]} was not measured"
            except _UndefinedError as error:
                sides.append(None)
                reason = reason or str(error)
        left, right = sides
        holds = left is not None and right is not None and _COMPARISONS[self.comparison](left, right)
        return AssertionResult(check=self.text, holds=holds, left=left, right=right, reason=reason)

    def _value(self, name: str, rows: Sequence[Row]) -> float | None:
        network, _, column = name.partition(".")
        found = [row for row in rows if row["network"] == network]
        if not found:
            known = ", ".join(dict.fromkeys(str(row["network"]) for row in rows))
            raise self._error(f"no complete run of {network}", f"there are {known}")
        value = found[0].get(column)
        if column not in found[0] or isinstance(value, str | list):
            columns = ", ".join(name for name in found[0] if not isinstance(found[0][name], str | list))
            what = "is not a number" if column in found[0] else "is not a column"
            raise self._error(f"{column} {what}", f"use one of {columns}")
        if len(found) > 1:
            raise self._error(
                f"{network} is ambiguous: {len(found)} datasets or recipes have one",
                "compare the runs of one dataset and recipe at a time",
            )
        return None if value is None or math.isnan(value) else float(value)

    def _error(self, what: str, hint: str) -> UsageError:
        return UsageError(f"--assert {self.text!r}: {what}", hint=hint)


def parse_assertion(text: str) -> Assertion:
    """Parse `EXPRESSION COMPARISON EXPRESSION`.

    The comparison is one of `>`, `>=`, `<`, `<=`, `==`, `!=`. An expression is made of numbers
    and `network.column` values (`plain-56.train_clean_error_pct`) with `+`, `-`, `*`, `/` and
    parentheses.

    Raises:
        UsageError: `text` is anything else; the message says where.
    """
    return _Parser(text).check()


class _Parser:
    """Recursive descent over the tokens of one check."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nesting = 0
        self.names: list[str] = []
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"cannot read {text[position:].strip()[:20]!r}")
            self.tokens.append((match.lastgroup or "", match[0].strip()))
            position = match.end()
        self.tokens.append(("end", "its end"))
        self.at = 0

    def error(self, what: str) -> UsageError:
        return UsageError(f"--assert {self.text!r}: {what}", hint=_EXAMPLE)

    def next(self) -> tuple[str, str]:
        token = self.tokens[self.at]
        self.at += token[0] != "end"
        return token

    def take(self, *signs: str) -> str | None:
        kind, sign = self.tokens[self.at]
        if kind == "sign" and sign in signs:
            self.at += 1
            return sign
        return None

    def check(self) -> Assertion:
        left = self.sum()
        kind, comparison = self.next()
        if kind != "comparison":
            raise self.error(f"a comparison was expected at {comparison}, one of {' '.join(_COMPARISONS)}")
        right = self.sum()
        kind, word = self.next()
        if kind != "end":
            raise self.error(f"its end was expected at {word}")
        return Assertion(self.text, left, comparison, right, tuple(dict.fromkeys(self.names)))

    def sum(self) -> Expression:
        return self.operations(self.product, "+", "-")

    def product(self) -> Expression:
        return self.operations(self.factor, "*", "/")

    def operations(self, operand: Callable[[], Expression], *signs: str) -> Expression:
        first = operand()
        rest: list[tuple[str, Expression]] = []
        while sign := self.take(*signs):
            rest.append((sign, operand()))
        if not rest:
            return first

        # a loop, not one closure in another: a sum may have thousands of terms
        def value(values: Values) -> float:
            total = first(values)
            for sign, term in rest:
                total = _apply(sign, total, term(values))
            return total

        return value

    def factor(self) -> Expression:
        is_negative = False
        while sign := self.take("-", "+"):
            is_negative ^= sign == "-"
        inner = self.atom()
        return (lambda values: -inner(values)) if is_negative else inner

    def atom(self) -> Expression:
        kind, word = self.next()
        if kind == "number":
            number = float(word)
            if math.isinf(number):
                raise self.error(f"{word} is too large")
            return lambda values: number
        if kind == "value":
            self.names.append(word)
            return lambda values: values[word]
        if word != "(":
            raise self.error(f"a number or network.column was expected at {word}")
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise self.error(f"more than {_MAX_NESTING} parentheses are open")
        inner = self.sum()
        self.nesting -= 1
        if self.take(")") is None:
            raise self.error(f"a closing parenthesis was expected at {self.next()[1]}")
        return inner


def _apply(sign: str, left: float, right: float) -> float:
    if sign == "/" and right == 0:
        raise _UndefinedError("it divides by zero")
    result = _ARITHMETIC[sign](left, right)
    if not math.isfinite(result):
        raise _UndefinedError(f"{left:g} {sign} {right:g} is beyond the range of numbers")
    return result
