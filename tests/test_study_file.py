"""The grid and the plan of a study are recorded before training and found from its runs."""

from pathlib import Path

import pytest

from resnet_cli.errors import InputError
from resnet_cli.study_file import Grid, StudyFile, StudyPlan, planned_looks, read_study_file, write_study_file

GRID = Grid(
    recipe="overnight", archs=("plain", "resnet"), depths=(20, 56), seeds=(0, 2**62), arms=("warmup",),
    probes=("bn", 'a"b\\ü'), options={"lr": 1e-05, "milestones": [3, 4], "deterministic": True, "dataset": "digits"},
)  # fmt: skip


@pytest.mark.parametrize("grid", [GRID, None, Grid(recipe="demo", archs=("plain",), depths=(8,), seeds=(0,))])
def test_a_study_file_is_read_as_it_was_written(tmp_path, grid):
    study = StudyFile(StudyPlan(seeds=10, looks=3), grid)
    write_study_file(tmp_path / "new" / "study", study)
    assert read_study_file(tmp_path / "new" / "study") == study


def test_a_file_with_a_plan_alone_has_no_grid(tmp_path):
    (tmp_path / "study.toml").write_text("[plan]\nseeds = 3\nlooks = 2\n")
    assert read_study_file(tmp_path) == StudyFile(StudyPlan(3, 2))


def test_looks_are_those_of_the_study_that_a_run_belongs_to_however_it_is_named(tmp_path, monkeypatch):
    write_study_file(tmp_path, StudyFile(StudyPlan(10, 3)))
    (tmp_path / "runs" / "run").mkdir(parents=True)
    assert planned_looks([tmp_path / "other", tmp_path / "runs" / "run"]) == 3
    monkeypatch.chdir(tmp_path / "runs" / "run")
    assert planned_looks([Path()]) == 3


def test_a_folder_without_a_plan_is_judged_once(tmp_path):
    assert read_study_file(tmp_path) is None
    assert planned_looks([tmp_path / "runs" / "run"]) == planned_looks([]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "[plan]\nseeds = 0", "[plan]\nseeds = 'x'", "\x00", "[plan", "[" * 5000,
        "[plan]\nseeds = 1\n[grid]\ndepths = [20]", "[plan]\nseeds = 1\n[grid]\nseeds = 'all'",
        *(
            f"[plan]\nseeds = 1\n[grid]\nrecipe = 'demo'\narchs = ['plain']\n{rest}"
            for rest in (
                "depths = []\nseeds = [0]", "depths = [8]\nseeds = []",
                *(
                    f"depths = [8]\nseeds = [0]\noptions = {{{option}}}"
                    for option in ("arch = 'plain'", "recipe = 'demo'", "bogus = 1", "lr = nan", "epochs = 2026-01-01")
                ),
            )
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error_with_its_path(tmp_path, text):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError, match=r"study\.toml is not a valid study"):
        read_study_file(tmp_path)
