"""Messages of a child process to its study."""

import socket

import msgspec
import pytest

from resnet_cli.launch.channel import Channel, Message, Position, Warned


@pytest.fixture
def ends():
    """The two ends of a channel: that of the study, and the child's."""
    study, child = socket.socketpair()
    study.setblocking(False)
    yield study, Channel(child)
    study.close()
    child.close()


def received(study):
    return [msgspec.json.decode(line, type=Message) for line in study.recv(2**16).splitlines()]


def test_messages_arrive_in_order(ends):
    study, channel = ends
    channel.send(Position(0.5, "epoch 1/2", 100.0, 12.5))
    channel.send(Warned("the disk is nearly full"))
    assert received(study) == [Position(0.5, "epoch 1/2", 100.0, 12.5), Warned("the disk is nearly full")]


def test_positions_that_follow_each_other_closely_are_omitted_but_warnings_are_not(ends):
    study, channel = ends
    for part in range(10):
        channel.send(Position(part / 10, "epoch 1/2"))
    channel.send(Warned("one"))
    channel.send(Warned("two"))
    assert received(study) == [Position(0.0, "epoch 1/2"), Warned("one"), Warned("two")]


def test_a_study_that_does_not_read_never_keeps_its_child_waiting(ends):
    study, channel = ends
    for _ in range(10_000):
        channel.send(Warned("x" * 1000))
    assert study.recv(10).startswith(b'{"type":')


def test_a_child_whose_study_is_gone_goes_on(ends):
    study, channel = ends
    study.close()
    for _ in range(2):  # the first one may still be buffered
        assert channel.send(Warned("nobody reads this")) is None
