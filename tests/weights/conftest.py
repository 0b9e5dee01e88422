"""Fixtures of the tests of weight files."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Compute with one thread, which is faster for networks of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.bin"
