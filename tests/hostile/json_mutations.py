"""Damage to run.json and summary.json: every field removed or of another type, and other texts altogether."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from damage import ESCAPES, MARKUP, Change, Mutation, rewrite

from resnet_cli.config import RunConfig
from resnet_cli.rundir import METRICS_COLUMNS, DatasetRecord, ModelRecord, RunRecord, Summary

JSON_FILES = ("run.json", "summary.json")
_HUGE_TEXT = "ABCDEFG " * 200_000

# Raw JSON in place of a value, so that numbers can stand there that no encoder writes.
_VALUES = {
    "null": "null", "true": "true", "a list": "[[]]", "an object": '{"a": {}}', "negative": "-1", "zero": "0",
    "a fraction": "0.5", "1e308": "1e308", "1e400": "1e400", "NaN": "NaN", "-Infinity": "-Infinity",
    "thirty digits": "9" * 30, "five thousand digits": "9" * 5000, "2**63": str(2**63), "empty text": '""',
    "escapes": json.dumps(ESCAPES), "markup": json.dumps(MARKUP), "huge text": json.dumps(_HUGE_TEXT),
    "a lone surrogate": '"\\ud800"', "a thousand brackets": "[" * 1000 + "]" * 1000,
}  # fmt: skip
_MARK = "@@here@@"


def set_field(file: str, path: tuple[Any, ...], raw: str | None) -> Change:
    """Set the field at `path` to `raw` JSON; None removes it."""

    def apply(run: Path, _: random.Random) -> None:
        document = json.loads((run / file).read_bytes())
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        if raw is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = _MARK
        (run / file).write_text(json.dumps(document).replace(f'"{_MARK}"', raw or ""), encoding="utf-8")

    return apply


FIELDS: dict[str, list[tuple[str, ...]]] = {
    "run.json": [
        *((name,) for name in RunRecord.__struct_fields__),
        *(("config", name) for name in RunConfig.__struct_fields__),
        *(("dataset", name) for name in DatasetRecord.__struct_fields__),
        *(("model", name) for name in ModelRecord.__struct_fields__),
        ("environment", "device_name"), ("environment", "torch"), ("decisions", "device"),
        ("decisions", "precision", "value"),
    ],
    "summary.json": [
        *((name,) for name in Summary.__struct_fields__),
        *((row, name) for row in ("last", "best") for name in METRICS_COLUMNS),
    ],
}  # fmt: skip
_NEVER_JSON = ("1e400", "NaN", "-Infinity", "five thousand digits", "a lone surrogate")


def mutations_of_json_fields(rng: random.Random) -> Iterator[Mutation]:
    """Every field removed, and set to a sample of wrong values."""
    for file, paths in FIELDS.items():
        for path in paths:
            where = f"{file} {'.'.join(path)}"
            yield Mutation(f"{where} removed", set_field(file, path, None), is_refused=False)
            for what in rng.sample(sorted(_VALUES), 3):
                change = set_field(file, path, _VALUES[what])
                yield Mutation(f"{where} is {what}", change, is_refused=what in _NEVER_JSON)


def mutations_of_json_texts() -> Iterator[Mutation]:
    for file in JSON_FILES:
        texts: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
            "has a byte order mark": (lambda text: b"\xef\xbb\xbf" + text, True),
            "is UTF-16": (lambda text: text.decode().encode("utf-16"), True),
            "is UTF-32": (lambda text: text.decode().encode("utf-32"), True),
            "is twice itself": (lambda text: text + text, True),
            "is nested a hundred thousand deep": (lambda _: b'{"config":' * 100_000, True),
            "is a list": (lambda _: b"[]", True),
            "is null": (lambda _: b"null", True),
            "is a number": (lambda _: b"1e400", True),
            "is a text": (lambda _: json.dumps(ESCAPES).encode(), True),
            "has NULs": (lambda text: text.replace(b" ", b"\0"), True),
            "has a comment": (lambda text: b"// mine\n" + text, True),
            "has every key twice": (lambda text: text.replace(b"{", b'{"run_id": 1,', 1), False),
            "has a million more keys": (lambda text: text.replace(b"{", b"{" + _many_keys(), 1), False),
            "has carriage returns": (lambda text: text.replace(b"\n", b"\r\n"), False),
        }  # fmt: skip
        for what, (change, is_refused) in texts.items():
            yield Mutation(f"{file} {what}", rewrite(file, change), is_refused)
        for version in ("2", "1000000000", "0", "-1", "1.5", '"1"', "true", "null", "9" * 400):
            change = set_field(file, ("schema_version",), version)
            yield Mutation(f"{file} is of schema version {version[:10]}", change, is_refused=True)
    for name, value in {
        "display_name": ESCAPES, "fingerprint": MARKUP, "location": "/dev/zero", "name": "../../etc",
    }.items():  # fmt: skip
        change = set_field("run.json", ("dataset", name), json.dumps(value))
        yield Mutation(f"run.json dataset.{name} is {value[:9]!r}", change, is_refused=name == "name")


def _many_keys() -> bytes:
    return b"".join(b'"k%d":0,' % number for number in range(1_000_000))
