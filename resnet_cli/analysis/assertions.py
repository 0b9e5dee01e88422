"""`--assert`: comparisons of sums and products of numbers and `network.column` values."""

import ast
import difflib
import math
import operator
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from resnet_cli.errors import UsageError
from resnet_cli.util.text import shorten

Row = Mapping[str, Any]

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
_ARITHMETIC: Mapping[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}  # fmt: skip
_ALLOWED_NODES = (
    ast.Expression, ast.Compare, ast.BinOp, ast.UnaryOp, ast.UAdd, ast.USub, ast.Constant, *_COMPARISONS, *_ARITHMETIC,
)  # fmt: skip
_NAME = re.compile(r"(?<![\w.])([A-Za-z]+-[0-9]+(?:-[A-Za-z]+)?\.[A-Za-z_][A-Za-z0-9_]*)")
_MAX_LENGTH = 1000
_MAX_OPERATIONS = 100  # evaluation is recursive
_EXAMPLE = 'write it like "resnet-56.test_accuracy_pct > plain-56.test_accuracy_pct + 1"'


class AssertionResult(msgspec.Struct, frozen=True):
    """Outcome of one assertion."""

    assertion: str
    """Its text."""
    holds: bool
    left: float | None
    """Value on the left of the comparison; None if undefined."""
    right: float | None
    reason: str | None = None
    """One line on why a value is undefined."""


class _UndefinedError(Exception):
    """An expression has no value."""


class Assertion(msgspec.Struct, frozen=True):
    """A parsed assertion."""

    text: str
    comparison: ast.Compare

    def evaluate(self, rows: Sequence[Row]) -> AssertionResult:
        """Compare values of `rows`, the `networks` of a `study_document`.

        An assertion about a value that was not measured does not hold, regardless of the comparison.

        Raises:
            UsageError: a network or column is unknown, a column is not numeric, or several groups
                contain the network.
        """
        constants = (node.value for node in ast.walk(self.comparison) if isinstance(node, ast.Constant))
        values = {name: self._value(name, rows) for name in constants if isinstance(name, str)}
        sides: list[float | None] = []
        reasons = []
        for side in (self.comparison.left, self.comparison.comparators[0]):
            try:
                sides.append(_evaluate(side, values))
            except _UndefinedError as error:
                sides.append(None)
                reasons.append(str(error))
        left, right = sides
        compare = _COMPARISONS[type(self.comparison.ops[0])]
        holds = left is not None and right is not None and compare(left, right)
        return AssertionResult(self.text, holds, left, right, reasons[0] if reasons else None)

    def _value(self, name: str, rows: Sequence[Row]) -> float | None:
        network, _, column = name.partition(".")
        matching = [row for row in rows if row["network"] == network]
        if not matching:
            known = ", ".join(dict.fromkeys(str(row["network"]) for row in rows))
            raise _error(self.text, f"no complete run of {network}", f"use one of {known}")
        row = matching[0]
        if column not in row or isinstance(row[column], str | list):
            numeric = [name for name, value in row.items() if not isinstance(value, str | list)]
            nearest = ", ".join(difflib.get_close_matches(column, numeric, cutoff=0))
            problem = f"column {column} is not numeric" if column in row else f"unknown column {column}"
            raise _error(self.text, problem, f"the closest numeric columns are {nearest}")
        if len(matching) > 1:
            problem = f"{network} is ambiguous: {len(matching)} groups of runs (datasets or recipes) contain it"
            raise _error(self.text, problem, "compare the runs of one dataset and recipe at a time")
        return None if row[column] is None else float(row[column])


def parse_assertion(text: str) -> Assertion:
    """Parse `EXPRESSION COMPARISON EXPRESSION`.

    The comparison is `>`, `>=`, `<`, `<=`, `==` or `!=`. An expression consists of numbers and
    `network.column` values (`plain-56.train_clean_error_pct`) with `+`, `-`, `*`, `/` and parentheses.

    Raises:
        UsageError: `text` has any other form or is too long.
    """
    if len(text) > _MAX_LENGTH:
        raise _error(shorten(text, 40), f"longer than {_MAX_LENGTH} characters", "split it into several --assert")
    # Names contain a hyphen, so they become strings; parentheses prevent concatenation of adjacent strings.
    source = _NAME.sub(r"('\1')", text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _error(text, "not a comparison of two expressions", _EXAMPLE) from None
    nodes = list(ast.walk(tree))
    for node in nodes:
        if not isinstance(node, _ALLOWED_NODES) or (isinstance(node, ast.Constant) and not _is_operand(node.value)):
            segment = ast.get_source_segment(source, node) or type(node).__name__
            shown = shorten(segment.replace("('", "").replace("')", ""), 40)
            raise _error(text, f"{shown} is not a number, network.column, + - * / or comparison", _EXAMPLE)
    num_comparisons = sum(len(node.ops) for node in nodes if isinstance(node, ast.Compare))
    if not isinstance(tree.body, ast.Compare) or num_comparisons != 1:
        raise _error(text, "exactly one comparison is required", _EXAMPLE)
    if sum(isinstance(node, ast.BinOp | ast.UnaryOp) for node in nodes) > _MAX_OPERATIONS:
        raise _error(text, f"more than {_MAX_OPERATIONS} operations", "split it into several --assert")
    return Assertion(text, tree.body)


def _is_operand(value: object) -> bool:
    """Whether a constant is a `network.column` name or a number within the range of floats."""
    if isinstance(value, str):
        return _NAME.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and value <= sys.float_info.max


def _evaluate(node: ast.expr, values: Mapping[str, float | None]) -> float:
    match node:
        case ast.Constant(value=str() as name):
            if (measured := values[name]) is None:
                raise _UndefinedError(f"{name} was not measured")
            return measured
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=operation, operand=operand):
            value = _evaluate(operand, values)
            return -value if isinstance(operation, ast.USub) else value
        case ast.BinOp(left=first, op=kind, right=second):
            left, right = _evaluate(first, values), _evaluate(second, values)
            sign, function = _ARITHMETIC[type(kind)]
            if sign == "/" and right == 0:
                raise _UndefinedError("division by zero")
            result = function(left, right)
            if not math.isfinite(result):
                raise _UndefinedError(f"{left:g} {sign} {right:g} is out of range")
            return result
    raise AssertionError(f"parse_assertion let {node} through")


def _error(text: str, problem: str, hint: str) -> UsageError:
    return UsageError(f"--assert {text!r}: {problem}", hint=hint)
