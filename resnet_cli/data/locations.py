"""Folders of datasets and of decoded images on this machine."""

import contextlib
import os
from pathlib import Path

import platformdirs

from resnet_cli.errors import ConfigError

DATA_VARIABLE = "RESNET_DATA"


def data_folder(data_dir: Path | None) -> Path:
    """The folder of datasets: `data_dir` if given, else `$RESNET_DATA`, else the user's cache folder.

    Raises:
        ConfigError: the cache folder is needed, but the account has no home folder.
    """
    return data_dir or named_data_folder() or cache_folder()


def named_data_folder() -> Path | None:
    """The folder in `$RESNET_DATA`; None if the variable is unset or empty."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """The cache folder of this program, as is usual on the platform; it need not exist yet.

    Raises:
        ConfigError: the account has no home folder.
    """
    with contextlib.suppress(RuntimeError):  # older versions of platformdirs return an unexpanded tilde instead
        folder = platformdirs.user_cache_path("resnet-cli", appauthor=False, opinion=False)
        if folder.is_absolute():
            return folder
    raise ConfigError("this account has no home folder for datasets", hint=f"use --data-dir or set {DATA_VARIABLE}")
