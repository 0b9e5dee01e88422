"""Position of a run in its study, as it passes from one process to another."""

import pytest

from resnet_cli.util.progress import StudyPosition


def test_a_position_passes_through_the_environment_unchanged(monkeypatch):
    position = StudyPosition(number=2, num_runs=12, done=1 / 3, share=0.1)
    for name, value in position.to_environment().items():
        monkeypatch.setenv(name, value)
    assert StudyPosition.from_environment() == position


@pytest.mark.parametrize("value", [None, "", "1 2", "1 2 x y", "1 2 0.5 0.5 0.5"])
def test_a_run_without_a_valid_position_is_not_part_of_a_study(monkeypatch, value):
    (name,) = StudyPosition(1, 1, 0.0, 1.0).to_environment()
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    assert StudyPosition.from_environment() is None
