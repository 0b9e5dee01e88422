"""Fixtures of the tests of weight files."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def computing(one_thread):
    """Every test of this folder computes with one thread."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.bin"
