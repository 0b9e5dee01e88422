"""Datasets are in the folder that the user names, else in the platform's cache folder."""

from pathlib import Path

import pytest

from resnet_cli.data.locations import data_folder
from resnet_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("data_dir", "variable", "expected"),
    [
        (Path("/given"), "/elsewhere", Path("/given")),
        (None, "/elsewhere", Path("/elsewhere")),
        (None, "~/data", Path.home() / "data"),
        (None, "", Path("/cache/resnet-cli")),
    ],
)
def test_data_dir_wins_over_the_environment_which_wins_over_the_cache_folder(data_dir, variable, expected, monkeypatch):
    monkeypatch.setenv("RESNET_DATA", variable)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_folder(data_dir) == expected


def test_an_account_without_a_home_folder_is_asked_for_a_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ConfigError, match="no home folder for datasets; use data_dir or set RESNET_DATA"):
        data_folder(None)
