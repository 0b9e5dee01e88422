"""JSON that can be written anywhere and shown on any terminal, whatever text is in it."""

import json
from typing import Any

import msgspec


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """`value` as an indented JSON document that ends with a line break; NaN and infinity become null.

    A character that a terminal might take for a command is escaped, which changes nothing for a reader of JSON;
    with `ascii_only` every one that is not ASCII.
    """
    text = msgspec.json.format(encode_json(value), indent=2).decode()
    # within strings alone: what is outside of them is ASCII and line breaks
    if text.isascii() and "\x7f" not in text:
        return text + "\n"
    is_kept = str.isascii if ascii_only else str.isprintable
    return "".join(c if (is_kept(c) and c != "\x7f") or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n"


def encode_json(value: Any) -> bytes:
    """`value` as JSON; a byte of a file name that is not UTF-8, which is no character, becomes the text `\\udcff`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(msgspec.to_builtins(value)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(inner) for inner in value]
    return value
