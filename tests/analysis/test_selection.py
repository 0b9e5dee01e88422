"""Sorting and filtering of rows by column."""

import pytest

from resnet_cli.analysis.selection import parse_filters, parse_sort, sort_rows
from resnet_cli.errors import UsageError

COLUMNS = {"network": str, "shortcut": str, "milestones": str, "dataset": str, "deterministic": str,
           "depth": float, "lr": float, "seed": float, "test_accuracy_pct": float}  # fmt: skip
ROW = {"network": "plain-56", "shortcut": "none", "milestones": [80, 120], "dataset": "CIFAR-10 [x]",
       "deterministic": True, "depth": 56, "lr": 0.1, "seed": 2**62 + 1, "test_accuracy_pct": None}  # fmt: skip


def holds(text):
    return all(condition.holds(ROW) for condition in parse_filters([text], COLUMNS))


@pytest.mark.parametrize(
    "text",
    [
        "depth=56", "depth==56", "depth!=20", "depth>20 lr<=0.1", "lr=1e-1", "depth = 56", "depth >= 56 lr = 0.1",
        "network=plain-*", "network=PLAIN-56", "network!=resnet*", "shortcut=none", "milestones=80,120",
        "deterministic=true", "test_accuracy_pct=none", "test-accuracy-pct=none", "depth!=none",
        "test_accuracy_pct!=90", f"seed={2**62 + 1}", f"seed!={2**62}", "dataset='CIFAR-10 [x]'", "network>=plain",
    ],
)  # fmt: skip
def test_a_row_fulfils_these_conditions(text):
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "depth=20", "depth=56 lr=0.2", "network=plain", "network!=plain-*", "test_accuracy_pct>0",
        "test_accuracy_pct<=100", "depth=none", "deterministic=false", "milestones=none", "dataset=CIFAR-10*y",
    ],
)  # fmt: skip
def test_a_row_does_not_fulfil_these_conditions(text):
    assert not holds(text)


def test_several_filters_must_all_hold():
    assert len(parse_filters(["depth=56", "lr<1 seed>0"], COLUMNS)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depht=56", "unknown column depht; the closest columns are depth, "),
        ("accuracy>90", "the closest columns are test_accuracy_pct"),
        ("depth=deep", "depth is a number, and 'deep' is not"),
        ("lr<none", "lr is a number, and 'none' is not"),
        ("lr<nan", "lr is a number, and 'nan' is not"),
        ("depth", "'depth' is not a condition; write it like"),
        ("56=depth", "is not a condition"),
        ("", "contains no condition"),
        ("network='plain", "no closing quotation"),
        ("depth=" + "9" * 2000, "is longer than 1000 characters"),
    ],
)
def test_a_malformed_filter_is_wrong_usage(text, message):
    with pytest.raises(UsageError) as caught:
        parse_filters([text], COLUMNS)
    assert str(caught.value).startswith("filter ")
    assert message in str(caught.value)


def test_rows_are_sorted_by_a_column_in_either_direction_and_missing_values_come_last():
    rows = [{"lr": value, "name": name} for name, value in (("a", 0.1), ("b", None), ("c", 0.05), ("d", 0.1))]
    ascending = sort_rows(rows, *parse_sort("lr", ["lr"]))
    descending = sort_rows(rows, *parse_sort("-lr", ["lr"]))
    assert ["".join(row["name"] for row in some) for some in (ascending, descending)] == ["cadb", "adcb"]
    assert sort_rows(rows, *parse_sort(None, ["lr"])) == rows


def test_sorting_by_an_unknown_column_suggests_three():
    with pytest.raises(UsageError, match=r"unknown column sort=-acc; the closest columns are (\w+, ){2}\w+$"):
        parse_sort("-acc", COLUMNS)
