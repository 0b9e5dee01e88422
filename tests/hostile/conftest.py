"""Fixtures of the hostile tests: a launcher of processes, and runs to compare with and to damage."""

import functools

import pytest
from killing import Subject
from launching import Launcher

from resnet_cli.data.digits import load_digits
from resnet_cli.recipes import make_config
from resnet_cli.session import train

_load_digits = functools.cache(load_digits)


@pytest.fixture(autouse=True)
def digits_are_read_once(monkeypatch):
    monkeypatch.setattr("resnet_cli.data.digits.load_digits", _load_digits)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A complete run of the smallest network."""
    path = tmp_path_factory.mktemp("trained") / "run"
    train(make_config("demo", arch="plain", depth=8, epochs=1, limit_train=130, limit_test=40), path)
    return path


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """Starts `resnet` in forked processes that can be killed."""
    launcher = Launcher(tmp_path_factory.mktemp("output"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def subject(zygote, tmp_path_factory):
    """Six epochs of three small steps of a residual network, with the result of an uninterrupted run."""
    subject = Subject(tmp_path_factory.mktemp("runs"), "resnet", epochs=6, limit_train=60, batch_size=24)
    subject.train_straight(zygote)
    return subject
