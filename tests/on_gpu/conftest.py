"""Makes the modules of `benchmarks/` importable, as they are for its scripts."""

import pytest
from slot_modules import FOLDER


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
