"""What the tests of hostile circumstances share: a process that starts others fast, and a run to compare with."""

import pytest
from killing import Subject
from zygote import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """Starts `resnet` in processes that can be killed."""
    zygote = Zygote(tmp_path_factory.mktemp("output"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def subject(zygote, tmp_path_factory):
    """Six epochs of a residual network, with the run that nothing happened to."""
    subject = Subject(tmp_path_factory.mktemp("runs"), "resnet", epochs=6)
    subject.train_straight(zygote)
    return subject
