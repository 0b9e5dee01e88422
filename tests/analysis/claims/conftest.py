"""Run directories with stored rows of probes."""

import pytest


@pytest.fixture
def add_bn(add_probe):
    """A function that stores a clean training error with re-estimated statistics."""

    def add(run, error_pct, **options):
        rows = [
            {"statistics": statistics, "split": "train", "loss": 0.1, "error_pct": error_pct, "num_images": 1437}
            for statistics in ("running", "re-estimated")
        ]
        return add_probe(run, "bn", rows, **options)

    return add
