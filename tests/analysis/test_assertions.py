"""The language of `--assert`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_cli.analysis.assertions import AssertionResult, parse_assertion
from resnet_cli.errors import UsageError

ROWS = [
    {"network": "plain-20", "arch": "plain", "seeds": [0], "acc": 90.84, "error": 4.0, "val": None},
    {"network": "plain-56", "arch": "plain", "seeds": [0], "acc": 86.71, "error": 6.0, "val": 9.0},
    {"network": "resnet-56", "arch": "resnet", "seeds": [0], "acc": 93.25, "error": 0.5, "val": 7.0},
    {"network": "resnet-56-B", "arch": "resnet", "seeds": [0], "acc": 93.5, "error": 0.4, "val": 7.0},
]


def evaluate(text, rows=ROWS):
    return parse_assertion(text).evaluate(rows)


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
def test_an_assertion_is_arithmetic_with_the_usual_precedence(text, expected):
    assert evaluate(text).holds is expected


def test_the_result_of_an_assertion_contains_the_values_on_both_sides():
    text = "plain-56.error > plain-20.error * 2"
    assert evaluate(text) == AssertionResult(text, holds=False, left=6.0, right=8.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((f"plain-20.val {sign} 1", "plain-20.val was not measured") for sign in (">", "<", "==", "!=")),
        ("1 / (plain-20.error - 4) > 0", "division by zero"),
        ("1e308 * 10 > 1", "1e+308 * 10 is out of range"),
    ],
)
def test_an_assertion_about_an_undefined_value_does_not_hold_whatever_the_comparison(text, reason):
    result = evaluate(text)
    assert (result.holds, result.left, result.reason) == (False, None, reason)
    assert result.right is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet-110.acc > 1", "no complete run of resnet-110; use one of plain-20, plain-56, resnet-56, resnet-56-B"),
        ("plain-20.val > resnet-110.acc", "no complete run of resnet-110"),
        ("resnet-56.errors > 1", "unknown column errors; the closest numeric columns are error, "),
        ("resnet-56.arch > 1", "column arch is not numeric; the closest numeric columns are "),
        ("resnet-56.seeds > 1", "column seeds is not numeric"),
    ],
)
def test_an_unknown_network_or_column_in_an_assertion_is_wrong_usage_and_suggests_valid_ones(text, message):
    with pytest.raises(UsageError) as error:
        evaluate(text)
    assert message in str(error.value)


def test_the_error_for_an_unknown_column_in_an_assertion_suggests_three_columns():
    rows = [{"network": "plain-20", **{f"column_{i}": 1.0 for i in range(40)}}]
    with pytest.raises(UsageError) as error:
        evaluate("plain-20.column > 1", rows)
    assert error.value.hint.count("column_") == 3


def test_an_assertion_about_a_network_in_several_groups_of_runs_is_ambiguous():
    with pytest.raises(UsageError, match="plain-20 is ambiguous: 2 groups of runs"):
        evaluate("plain-20.acc > 1", [*ROWS, ROWS[0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a comparison"),
        ("1", "exactly one comparison"),
        ("1 + 2", "exactly one comparison"),
        ("1 < 2 < 3", "exactly one comparison"),
        ("(1 > 2) > 1", "exactly one comparison"),
        ("1 >", "not a comparison"),
        ("1 = 1", "not a comparison"),
        ("(1 > 2", "not a comparison"),
        ("1 2 > 1", "not a comparison"),
        ("1or 2 > 1", "not a comparison"),
        ("resnet-56 > 1", "resnet is not a number, network.column"),
        ("resnet-56.acc ** 2 > 1", "Pow is not"),
        ("plain-20.acc plain-20.val > 1", "plain-20.acc plain-20.val is not"),
        ("__import__(os) > 1", "__import__(os) is not"),
        ("'plain-20' > 1", "'plain-20' is not"),
        ("'plain-20.acc' > 1", "not a comparison"),
        ("b'x' > 1", "b'x' is not"),
        ("True > 0", "True is not"),
        ("1e999 > 1", "1e999 is not"),
        ("9" * 900 + " > 1", "is not a number"),
        ("(" * 400 + "1" + ")" * 400 + " > 0", "not a comparison"),
        ("-" * 900 + "1 > 0", "more than 100 operations"),
        ("+".join("1" * 200) + " > 0", "more than 100 operations"),
        ("1 > 0" + " " * 1000, "longer than 1000 characters"),
    ],
)
def test_a_malformed_assertion_is_wrong_usage(text, message):
    with pytest.raises(UsageError) as error:
        parse_assertion(text)
    assert message in error.value.message
    assert error.value.hint


words = st.sampled_from(
    ["1", "2.5", ".5", "1e3", "1e999", "0", "+", "-", "*", "/", "(", ")", ">", ">=", "<", "==", "!=", "=", " ",
     "plain-20.acc", "resnet-56.val", "resnet-56.arch", "nosuch-5.acc", "plain-20", ".", "\n", "é", "%"]
)  # fmt: skip


@given(st.text(max_size=40) | st.lists(words, max_size=12).map("".join))
def test_any_assertion_gives_a_result_or_a_usage_error(text):
    try:
        result = evaluate(text)
    except UsageError:
        return
    assert isinstance(result, AssertionResult)
    assert result.assertion == text


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
def test_values_of_assertions_equal_those_of_python(left, right):
    result = evaluate(f"{left} > {right}", [])
    if result.reason is None:
        assert result.left == eval(left)  # noqa: S307 - the text consists of the numbers and signs above
        assert result.right == eval(right)  # noqa: S307
        assert result.holds == (result.left > result.right)
