"""How long the CPU threads of PyTorch spin while they wait for each other."""

import os
import sys
from typing import NamedTuple

SPIN_COUNT = "3000"
"""Value of GOMP_SPINCOUNT; chosen by benchmarks/spin_count.py."""

_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class Spinning(NamedTuple):
    """The setting of this process."""

    value: str
    reason: str


def bound_spinning() -> None:
    """Let waiting threads sleep soon, unless the user chose otherwise; must be called before PyTorch is loaded.

    libgomp, through which PyTorch's threads wait, spins about 300,000 times before a thread sleeps. If another process
    needs the core, training then becomes several times slower (docs/performance.md). Child processes inherit the
    setting.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def spinning() -> Spinning:
    """The setting that PyTorch found when it was loaded, with its reason."""
    if os.environ.get("GOMP_SPINCOUNT") == SPIN_COUNT and "OMP_WAIT_POLICY" not in os.environ:
        return Spinning(f"at most {SPIN_COUNT} times", "waiting threads soon leave the core to other processes")
    for name in _VARIABLES:
        if name in os.environ:
            return Spinning(f"{name}={os.environ[name]}", "set in the environment")
    return Spinning("default", "PyTorch was loaded before this tool could set GOMP_SPINCOUNT")
