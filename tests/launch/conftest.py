"""Fixtures for tests of child processes."""

import sys

import pytest


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Replace Python by a shell script, which receives `-m resnet_cli` and the arguments of its task."""

    def replace(*lines):
        script = tmp_path / "python"
        script.write_text("\n".join(["#!/bin/sh", *lines]))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        return tmp_path

    return replace
