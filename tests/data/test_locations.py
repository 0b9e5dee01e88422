"""Datasets lie where the user says, else where the platform's custom puts them."""

import sys
from pathlib import Path

import pytest

from resnet_cli.data.locations import cache_folder, data_folder
from resnet_cli.errors import ConfigError


def test_a_given_folder_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("RESNET_DATA", "/elsewhere")
    assert data_folder(Path("/given")) == Path("/given")


def test_the_environment_wins_over_the_cache_folder(monkeypatch):
    monkeypatch.setenv("RESNET_DATA", "/elsewhere")
    assert data_folder(None) == Path("/elsewhere")


def test_a_tilde_in_the_environment_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("RESNET_DATA", "~/data")
    assert data_folder(None) == Path.home() / "data"


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("RESNET_DATA", "")
    assert data_folder(None) == cache_folder()


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/resnet-cli"),
        ("darwin", "Library/Caches/resnet-cli"),
        ("win32", "AppData/Local/resnet-cli"),
    ],
)
def test_each_platform_has_its_own_cache_folder(platform, folder, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path.home() / folder


def test_an_absolute_xdg_folder_is_used_and_a_relative_one_ignored(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert cache_folder() == Path("/fast/resnet-cli")
    monkeypatch.setenv("XDG_CACHE_HOME", "fast")
    assert cache_folder() == Path.home() / ".cache/resnet-cli"


def test_an_account_without_a_home_is_told_to_name_a_folder(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match=r"no home folder.*--data-dir"):
        data_folder(None)
