"""Where datasets and decoded images lie on this machine."""

import os
import sys
from pathlib import Path

from resnet_cli.errors import ConfigError

DATA_VARIABLE = "RESNET_DATA"
_APP = "resnet-cli"


def data_folder(data_dir: Path | None) -> Path:
    """The folder of datasets: `data_dir` where given, else `$RESNET_DATA`, else the user's cache folder.

    Raises:
        ConfigError: none of the three is known (an account without a home folder).
    """
    return data_dir or named_data_folder() or cache_folder()


def named_data_folder() -> Path | None:
    """The folder in `$RESNET_DATA`; None where the variable is unset or empty."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """The user's cache folder of this program, by the custom of the platform; it need not exist yet.

    Source: XDG Base Directory Specification, which also asks that a relative `$XDG_CACHE_HOME` be ignored.

    Raises:
        ConfigError: the account has no home folder.
    """
    if sys.platform == "win32":
        named, default = os.environ.get("LOCALAPPDATA"), "AppData/Local"
    elif sys.platform == "darwin":
        named, default = None, "Library/Caches"
    else:
        named, default = os.environ.get("XDG_CACHE_HOME"), ".cache"
    if named and Path(named).is_absolute():
        return Path(named) / _APP
    try:
        return Path.home() / default / _APP
    except RuntimeError as error:
        raise ConfigError(
            "this account has no home folder to keep datasets in", hint=f"use --data-dir or set {DATA_VARIABLE}"
        ) from error
