"""Durations, shortened text, and JSON that is valid and free of control characters for any text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_cli.util.text import csv_text, duration, encode_json, json_text, markdown_text, shorten, shorten_middle


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_shortened_text_has_the_given_length_with_its_ellipsis():
    assert [shorten("abcd", length) for length in (3, 4)] == ["ab…", "abcd"]


_ANY_TEXT = st.text() | st.text("\x7f\x80\x9b\u202e\u2028\U000e0001\U0001f600é")


@given(st.dictionaries(_ANY_TEXT, _ANY_TEXT), st.booleans())
def test_json_keeps_every_text_and_contains_no_terminal_escapes(value, ascii_only):
    text = json_text(value, ascii_only=ascii_only)
    assert json.loads(text) == value
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.isascii() or not ascii_only


def test_file_names_that_are_not_utf8_become_valid_json_escapes():
    assert json.loads(encode_json({"a\udcff": ["b\udc80", 1]})) == {"a\\udcff": ["b\\udc80", 1]}
    assert json.loads(json_text(("\udcff",))) == ["\\udcff"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_become_null(number):
    assert json.loads(json_text([number, 0.1])) == [None, 0.1]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "\\t=1"),
        ("CIFAR-10", "CIFAR-10"),
        ("a\nb", "a\\nb"),
    ],
)
def test_a_text_that_a_spreadsheet_would_calculate_is_marked_as_text(text, cell):
    assert csv_text(text) == cell


def test_markup_and_line_breaks_are_escaped_in_markdown():
    assert markdown_text("<b>*a*_b_|`&\n[x](y)\x1b") == "&lt;b>\\*a\\*\\_b\\_\\|\\`&amp;\\\\n[x]\\(y)\\\\x1b"


def test_a_long_text_is_shortened_in_the_middle_and_keeps_most_of_its_end():
    assert shorten_middle("runs/plain-56", 13) == "runs/plain-56"
    assert shorten_middle("runs/plain-56", 11) == "ru…plain-56"
    assert [len(shorten_middle("runs/plain-56", most)) for most in (12, 6, 2)] == [12, 6, 2]
