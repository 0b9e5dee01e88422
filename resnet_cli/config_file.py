"""Configurations as TOML files: one flat table with the fields of `RunConfig`, and the initial weights if any."""

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any

from resnet_cli.config import FIELDS, RunConfig, check_field
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.util.files import read_bytes
from resnet_cli.util.text import one_line, printable, shorten

INIT_FROM = "init_from"
"""Key of a path: the run directory or weight file of `--init-from`."""
MAX_CONFIG_FILE_BYTES = 2**20


def config_toml(config: RunConfig, *, init_from: Path | None = None) -> str:
    """Write a configuration as TOML, one line per field; fields that are None are omitted.

    Args:
        config: the configuration.
        init_from: run directory or weight file to start from; None: random weights.
    """
    values = {name: value for name, value in config.to_dict().items() if value is not None}
    if init_from:
        values[INIT_FROM] = str(init_from)
    return "".join(f"{name} = {toml_value(value)}\n" for name, value in values.items())


def read_config_file(path: Path) -> dict[str, Any]:
    """Read the fields of a TOML file, each with a valid type and value.

    A file as `config_toml` writes it also gives the fields that it omits, as None. Any other file may give any subset
    of the fields. Either may also have the key `INIT_FROM`.

    Raises:
        InputError: the file cannot be read, is not TOML, or contains an unknown field or an invalid value.
    """
    data = read_bytes(path, MAX_CONFIG_FILE_BYTES)
    try:
        values = tomllib.loads(data.decode())
        for name, value in values.items():
            _check(name, value)
    except ConfigError as error:
        raise InputError(f"{path}: {error}") from error
    except RecursionError:
        raise InputError(f"{path} is not a valid TOML file: it is nested too deeply") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise InputError(f"{path} is not a valid TOML file: {one_line(error)}") from error
    if all(name in values for name, field in FIELDS.items() if not field.is_optional):
        return {**dict.fromkeys(FIELDS), **values}
    return values


def _check(name: str, value: Any) -> None:
    if name == INIT_FROM:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"--init-from must be a path (got {shorten(repr(value), 60)})")
        return
    if name not in FIELDS:
        similar = difflib.get_close_matches(name, FIELDS, n=3, cutoff=0.7)
        raise ConfigError(
            f"unknown key {printable(name)!r}",
            hint=f"did you mean {' or '.join(similar)}?" if similar else f"the keys are {', '.join(FIELDS)}",
        )
    check_field(name, value)
    # TOML has whole numbers of any size, JSON files of a run directory do not
    if any(type(item) is int and abs(item) >= 2**63 for item in (value if isinstance(value, list) else [value])):
        raise ConfigError(f"{name} is too large")


def toml_value(value: Any) -> str:
    """Write text, a number, a truth value or a list of them in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # the escapes of JSON strings are a subset of TOML's
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in quoted)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)
