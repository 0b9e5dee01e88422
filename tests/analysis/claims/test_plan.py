"""The plan of a study is recorded before training and found from its runs."""

from pathlib import Path

import pytest

from resnet_cli.analysis.claims.plan import StudyPlan, planned_looks, read_plan, write_plan
from resnet_cli.errors import InputError


def test_a_plan_is_read_as_it_was_written(tmp_path):
    write_plan(tmp_path / "new" / "study", StudyPlan(seeds=10, looks=3))
    assert read_plan(tmp_path / "new" / "study") == StudyPlan(10, 3)


def test_other_tables_of_the_file_are_left_to_others(tmp_path):
    (tmp_path / "study.toml").write_text("[grid]\ndepths = [20, 56]\n[plan]\nseeds = 3\nlooks = 2\n")
    assert read_plan(tmp_path) == StudyPlan(3, 2)


def test_looks_are_found_from_the_study_its_runs_or_one_run(tmp_path, monkeypatch):
    write_plan(tmp_path, StudyPlan(10, 3))
    (tmp_path / "runs").mkdir()
    assert planned_looks([tmp_path]) == planned_looks([tmp_path / "runs"]) == 3
    monkeypatch.chdir(tmp_path / "runs")
    assert planned_looks([Path()]) == 3


def test_a_folder_without_a_plan_is_judged_once(tmp_path):
    assert planned_looks([tmp_path]) == 1


@pytest.mark.parametrize("text", ["", "[plan]\nseeds = 0", "[plan]\nseeds = 'x'", "\x00", "[plan", "[" * 5000])
def test_a_damaged_plan_is_an_error_with_its_path(tmp_path, text):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError, match=r"study\.toml has no valid plan"):
        read_plan(tmp_path)
