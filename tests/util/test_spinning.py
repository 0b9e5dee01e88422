"""The bound on spinning threads: set before PyTorch is loaded, unless the user chose otherwise."""

import os
import subprocess
import sys

import pytest

from resnet_cli.util import spinning
from resnet_cli.util.spinning import SPIN_COUNT, bound_spinning

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what the test sets is removed afterwards
        monkeypatch.delenv(name)


def test_spinning_is_bounded_before_pytorch_is_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    bound_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT
    assert spinning.spinning().value == f"at most {SPIN_COUNT} times"


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")])
def test_what_the_user_set_is_kept_and_recorded(monkeypatch, name, value):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv(name, value)
    bound_spinning()
    assert {key: os.environ.get(key) for key in VARIABLES} == {**dict.fromkeys(VARIABLES), name: value}
    assert spinning.spinning() == (f"{name}={value}", "set in the environment")


def test_nothing_is_set_once_pytorch_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", spinning)
    bound_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert spinning.spinning().value == "default"


def test_every_command_bounds_spinning_before_pytorch_is_loaded():
    script = (
        "import os, sys; from resnet_cli.cli.app import main; sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "except SystemExit: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == f"{SPIN_COUNT} False"
