"""The language of --assert."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_cli.analysis.assertions import AssertionResult, parse_assertion
from resnet_cli.errors import UsageError

ROWS = [
    {"network": "plain-20", "arch": "plain", "seeds": [0], "acc": 90.84, "error": 4.0, "val": None, "nan": math.nan},
    {"network": "plain-56", "arch": "plain", "seeds": [0], "acc": 86.71, "error": 6.0, "val": 9.0, "nan": 1.0},
    {"network": "resnet-56", "arch": "resnet", "seeds": [0], "acc": 93.25, "error": 0.5, "val": 7.0, "nan": 1.0},
    {"network": "resnet-56-B", "arch": "resnet", "seeds": [0], "acc": 93.5, "error": 0.4, "val": 7.0, "nan": 1.0},
]


def _holds(text, rows=ROWS):
    return parse_assertion(text).evaluate(rows).holds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet-56.acc > plain-56.acc", True),
        ("resnet-56.acc < plain-56.acc", False),
        ("plain-56.error > plain-20.error + 1", True),
        ("plain-56.error>plain-20.error+2", False),
        ("plain-56.error >= plain-20.error + 2", True),
        ("plain-56.error <= 6", True),
        ("plain-20.error == 4", True),
        ("plain-20.error != 4.0", False),
        ("resnet-56-B.acc - resnet-56.acc == .25", True),
        ("plain-56.error-plain-20.error == 2", True),
        ("2 + 3 * 4 == 14", True),
        ("(2 + 3) * 4 == 20", True),
        ("8 / 4 / 2 == 1", True),
        ("8 - 4 - 2 == 2", True),
        ("-2 * -3 == 6", True),
        ("- - +5 == 5", True),
        ("1e2 == 100.", True),
        ("  -plain-20.error  <  0 ", True),
    ],
)
def test_a_check_is_arithmetic_with_the_usual_precedence(text, expected):
    assert _holds(text) is expected


def test_a_result_tells_both_values():
    assert parse_assertion("plain-56.error > plain-20.error * 2").evaluate(ROWS) == AssertionResult(
        check="plain-56.error > plain-20.error * 2", holds=False, left=6.0, right=8.0
    )


@pytest.mark.parametrize("comparison", [">", "<", "==", "!="])
@pytest.mark.parametrize("column", ["val", "nan"])
def test_a_check_on_what_was_not_measured_never_holds(comparison, column):
    result = parse_assertion(f"plain-20.{column} {comparison} 1").evaluate(ROWS)
    assert not result.holds
    assert (result.left, result.right) == (None, 1.0)
    assert result.reason == f"plain-20.{column} was not measured"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / (plain-20.error - 4) > 0", "it divides by zero"),
        ("1 > 1 / 0", "it divides by zero"),
        ("1e308 * 10 > 1", "1e+308 * 10 is beyond the range of numbers"),
    ],
)
def test_a_check_without_a_value_does_not_hold_and_says_why(text, reason):
    result = parse_assertion(text).evaluate(ROWS)
    assert not result.holds
    assert result.reason == reason


def test_an_unknown_network_names_those_that_are_there():
    with pytest.raises(UsageError, match=r"no complete run of resnet-110; there are plain-20, plain-56, resnet-56"):
        _holds("resnet-110.acc > 1")


def test_an_unknown_name_is_told_even_beside_a_missing_value():
    with pytest.raises(UsageError, match="resnet-110"):
        _holds("plain-20.val > resnet-110.acc")


def test_an_unknown_column_names_the_columns_that_are_numbers():
    with pytest.raises(UsageError, match=r"accuracy is not a column; use one of acc, error, val, nan$"):
        _holds("resnet-56.accuracy > 1")


@pytest.mark.parametrize("column", ["arch", "seeds"])
def test_a_column_of_text_cannot_be_compared(column):
    with pytest.raises(UsageError, match=f"{column} is not a number; use one of acc"):
        _holds(f"resnet-56.{column} > 1")


def test_a_network_of_several_groups_is_ambiguous():
    with pytest.raises(UsageError, match="plain-20 is ambiguous: 2 datasets or recipes"):
        _holds("plain-20.acc > 1", [*ROWS, ROWS[0]])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected at its end"),
        ("1", "a comparison was expected at its end"),
        ("1 >", "a number or network.column was expected at its end"),
        ("1 < 2 < 3", "its end was expected at <"),
        ("1 = 1", "cannot read '= 1'"),
        ("(1 > 2", "a closing parenthesis was expected at >"),
        ("(1 + 2 3) > 2", "a closing parenthesis was expected at 3"),
        ("1 + > 2", "expected at >"),
        ("resnet-56 > 1", "cannot read 'resnet-56 > 1'"),
        ("resnet-56.acc ** 2 > 1", "expected at *"),
        ("__import__('os') > 1", "cannot read"),
        ("1e999 > 1", "1e999 is too large"),
        ("(" * 60 + "1" + ")" * 60 + " > 0", "more than 50 parentheses"),
        ("1 + 2", "a comparison was expected at its end"),
        ("1 2 > 1", "a comparison was expected at 2"),
    ],
)
def test_a_malformed_check_says_where_and_gives_an_example(text, what):
    with pytest.raises(UsageError) as error:
        parse_assertion(text)
    assert what in error.value.message
    assert "resnet-56.test_accuracy_pct > plain-56" in error.value.hint


def test_a_very_long_sum_is_no_problem():
    assert _holds(" + ".join(["1"] * 20_000) + " == 20000")


words = st.sampled_from(
    ["1", "2.5", ".5", "1e3", "1e999", "0", "+", "-", "*", "/", "(", ")", ">", ">=", "<", "==", "!=", "=", " ",
     "plain-20.acc", "resnet-56.val", "resnet-56.arch", "nosuch-5.acc", "plain-20", ".", "\n", "é", "%"]
)  # fmt: skip


@given(st.text(max_size=40) | st.lists(words, max_size=12).map("".join))
def test_any_text_gives_a_result_or_a_usage_error(text):
    try:
        result = parse_assertion(text).evaluate(ROWS)
    except UsageError:
        return
    assert isinstance(result, AssertionResult)
    assert result.check == text


numbers = st.floats(0.1, 10).map(lambda x: f"{x:.3f}")
expressions = st.recursive(
    numbers,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join)
        | inner.map(lambda text: f"({text})")
        | inner.map(lambda text: f"-({text})")
    ),
    max_leaves=8,
)


@given(expressions, expressions)
def test_values_are_those_python_gives(left, right):
    result = parse_assertion(f"{left} > {right}").evaluate([])
    if result.reason is None:
        assert result.left == eval(left)  # noqa: S307 - the oracle; the text is made of numbers and signs above
        assert result.right == eval(right)  # noqa: S307
        assert result.holds == (result.left > result.right)
