"""A complete run for the tests of run directories."""

import pytest

from resnet_cli.rundir import Attempt, Decision


@pytest.fixture
def attempt():
    """A factory of records of a process that began at the given step."""

    def make(step):
        return Attempt(
            started_at="2026-01-02T03:04:05+00:00", argv=("resnet", "train"), tool_version="0.1.0", step=step,
            environment={"torch": "2.10.0", "git_dirty": None}, decisions={"device": Decision("cpu", "no GPU")},
        )  # fmt: skip

    return make


@pytest.fixture
def run(make_run, tmp_path, attempt):
    """A complete run of three epochs in one attempt, with gradient norms, on few test images."""
    run = make_run(tmp_path / "run", arch="plain", depth=8, limit_test=40, gradflow=True)
    run.append_attempt(attempt(0))
    return run
