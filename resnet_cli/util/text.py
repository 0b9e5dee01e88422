"""Text that is safe in any file and on any terminal."""

import json
import os
import re
import shlex
from typing import Any

import msgspec

_MARKDOWN = str.maketrans(
    {"|": "\\|", "\\": "\\\\", "`": "\\`", "*": "\\*", "_": "\\_", "~": "\\~", "<": "&lt;", "&": "&amp;"}
)


def json_text(value: Any, *, ascii_only: bool = False) -> str:
    """Encode `value` as an indented JSON document that ends with a line break; NaN and infinity become null.

    Characters that could control a terminal are escaped, which any JSON reader undoes; with `ascii_only`, so are all
    characters outside ASCII.
    """
    text = msgspec.json.format(encode_json(value), indent=2).decode()
    # such characters occur in strings only
    if text.isascii() and "\x7f" not in text:
        return text + "\n"
    is_kept = str.isascii if ascii_only else str.isprintable
    return "".join(c if (is_kept(c) and c != "\x7f") or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n"


def encode_json(value: Any) -> bytes:
    """Encode `value` as JSON; a byte of a file name that is not UTF-8 becomes an escape such as `\\udcff`."""
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


def printable(text: str) -> str:
    """`text` on one line, with control characters, including those of terminal escapes, replaced by escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def csv_text(text: str) -> str:
    """`text` on one line for a cell of a CSV file, with an apostrophe before what a spreadsheet would calculate.

    Source: OWASP, CSV Injection (https://owasp.org/www-community/attacks/CSV_Injection).
    """
    return ("'" if text.startswith(("=", "+", "-", "@")) else "") + printable(text)


def markdown_text(text: str) -> str:
    """`text` on one line for a paragraph or table cell in Markdown, with all markup escaped."""
    return printable(text).translate(_MARKDOWN).replace("](", "]\\(")


def shell_text(argument: str) -> str:
    """`argument` as a word of a shell command on one line; control characters in the quotes of bash and zsh."""
    if argument.isprintable():
        return shlex.quote(argument)
    characters = (chr(byte) for byte in os.fsencode(argument))
    is_plain = re.compile(r"[\w/.-]", re.ASCII).match
    return "$'" + "".join(c if is_plain(c) else f"\\x{ord(c):02x}" for c in characters) + "'"


def shorten(text: str, max_length: int = 200) -> str:
    """`text`, cut to `max_length` characters with an ellipsis as the last one."""
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def shorten_middle(text: str, max_length: int) -> str:
    """`text`, cut to `max_length` characters with an ellipsis in place of the middle; four fifths are of the end."""
    if len(text) <= max_length:
        return text
    end = max(1, (max_length - 1) * 4 // 5)
    return f"{text[: max_length - 1 - end]}…{text[-end:]}"


def one_line(error: BaseException) -> str:
    """The message of `error` on one line of at most 200 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shorten(" ".join(str(error).split()) or type(error).__name__)


def value_text(value: Any) -> str:
    """A setting as text: `yes` or `no`, items separated by commas, `none` for no value and for an empty list."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def duration(seconds: float) -> str:
    """A duration with two units at most: `9.4 s`, `45 s`, `12 min 05 s`, `3 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
