"""Modules of `benchmarks/`, which is no package."""

import importlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
NAME = "test GPU"


def module(name):
    """Import `on_gpu` or `gpu.<name>`."""
    return importlib.import_module(name)
