"""Finding run directories among files and folders."""

import pytest

from resnet_cli.errors import InputError
from resnet_cli.rundir import find_runs


@pytest.fixture
def study(make_run, tmp_path):
    """A folder with two runs, one of them deeper, among other things."""
    study = tmp_path / "study"
    for name in ("b", "deep/er/a"):
        make_run(study / name, depth=8, predictions=False)
    (study / "figures").mkdir()
    (study / "table1.md").write_text("")
    return study


def names(study, *paths):
    return [str(run.path.relative_to(study)) for run in find_runs(paths)]


def test_runs_in_a_folder_are_found_in_sorted_order(study):
    assert names(study, study) == ["b", "deep/er/a"]


def test_a_path_to_a_run_directory_gives_that_run(study):
    assert names(study, study / "deep/er/a", str(study / "b")) == ["deep/er/a", "b"]


def test_a_run_directory_is_not_searched_for_other_runs(study, make_run):
    make_run(study / "b" / "copy", depth=8, predictions=False)
    assert names(study, study) == names(study, study / "b", study / "deep") == ["b", "deep/er/a"]


def test_a_folder_marked_as_unsearched_is_left_out_unless_it_is_named(study):
    (study / "deep" / ".unsearched").touch()
    assert names(study, study) == ["b"]
    assert names(study, study, study / "deep") == names(study, study / "b", study / "deep") == ["b", "deep/er/a"]


def test_a_run_that_is_given_twice_is_found_once(study, tmp_path):
    (tmp_path / "link").symlink_to(study / "b")
    assert names(study, study, study / "b", study / "deep" / ".." / "b") == ["b", "deep/er/a"]
    assert len(find_runs([study, tmp_path / "link"])) == 2


def test_files_next_to_runs_are_skipped(study):
    assert names(study, study / "table1.md", study / "b") == ["b"]


def test_a_folder_without_runs_is_refused_even_next_to_a_run(study):
    with pytest.raises(InputError, match=r"no runs found in .*figures"):
        find_runs([study / "b", study / "figures"])


def test_a_run_that_lost_its_run_json_is_found(study):
    (study / "b" / "run.json").unlink()
    assert names(study, study) == ["b", "deep/er/a"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "{} does not exist"),
        ("table1.md", "{} is a file, not a run directory or a folder of runs"),
        ("figures", "no runs found in {} (no run.json)"),
    ],
)
def test_a_path_without_runs_is_refused_with_the_reason(study, path, message):
    with pytest.raises(InputError) as caught:
        find_runs([study / path])
    assert str(caught.value) == message.format(study / path)
