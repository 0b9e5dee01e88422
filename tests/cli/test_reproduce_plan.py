"""`resnet reproduce` records the plan of a study before it trains."""

import pytest

from resnet_cli.analysis.claims.plan import StudyPlan, read_plan
from resnet_cli.cli.app import run
from resnet_cli.errors import ExitCode
from resnet_cli.study import StudyResults


@pytest.fixture
def reproduce(monkeypatch, tmp_path):
    """A function that runs the command without training."""
    document = dict.fromkeys(("networks", "gaps", "depth_gaps", "amplification", "skipped", "notes"), ())
    monkeypatch.setattr("resnet_cli.study.run_study", lambda *_, **__: [])
    monkeypatch.setattr("resnet_cli.study.write_results", lambda *_, **__: StudyResults(document, "table", [], []))
    return lambda *options: run(["reproduce", "--out", str(tmp_path / "study"), *options])


def test_the_plan_is_the_number_of_seeds_and_one_look_unless_given(reproduce, tmp_path):
    assert reproduce("--seeds", "0,1,2") == ExitCode.DONE
    assert read_plan(tmp_path / "study") == StudyPlan(seeds=3, looks=1)


def test_a_plan_for_more_seeds_and_several_looks_is_kept_when_seeds_are_added(reproduce, tmp_path, capsys):
    assert reproduce("--seeds", "0,1,2", "--planned-seeds", "10", "--looks", "3") == ExitCode.DONE
    assert reproduce("--seeds", "0,1,2,3,4") == ExitCode.DONE
    assert read_plan(tmp_path / "study") == StudyPlan(seeds=10, looks=3)
    assert "warning" not in capsys.readouterr().err


def test_more_seeds_than_planned_give_a_warning(reproduce, capsys):
    reproduce("--seeds", "0")
    assert reproduce("--seeds", "0,1") == ExitCode.DONE
    assert "planned 1 seeds, not 2" in capsys.readouterr().err


def test_an_invalid_seed_leaves_no_plan(reproduce, tmp_path):
    assert reproduce("--seeds", "0,x") == ExitCode.USAGE
    assert not (tmp_path / "study").exists()
