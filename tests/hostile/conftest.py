"""Fixtures of the hostile tests: a launcher of processes, and a run to compare with."""

import pytest
from killing import Subject
from launching import Launcher


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """Starts `resnet` in forked processes that can be killed."""
    launcher = Launcher(tmp_path_factory.mktemp("output"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def subject(zygote, tmp_path_factory):
    """Six epochs of a residual network, with the result of an uninterrupted run."""
    subject = Subject(tmp_path_factory.mktemp("runs"), "resnet", epochs=6)
    subject.train_straight(zygote)
    return subject
