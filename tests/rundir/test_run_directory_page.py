"""docs/run-directory.md against the files of a run."""

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "run-directory.md"


def documented(heading):
    """Names in code style in the first column of the table under `heading`."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture
def run(tmp_path, make_run):
    return make_run(tmp_path / "run", gradflow=True)


@pytest.mark.parametrize("file", ["metrics.csv", "gradflow.csv"])
def test_the_documentation_lists_every_column_of_a_csv_file_in_order(run, file):
    header = (run.path / file).read_text().splitlines()[0]
    assert documented(file) == header.split(",")


@pytest.mark.parametrize("file", ["run.json", "summary.json"])
def test_the_documentation_lists_every_key_of_a_json_file_in_order(run, file):
    assert documented(file) == list(json.loads((run.path / file).read_text()))


def test_the_documentation_lists_every_file_of_a_run_directory(run):
    paths = [value for value in vars(run).values() if isinstance(value, Path) and value != run.path]
    assert len(paths) >= 10
    assert {path.relative_to(run.path).as_posix() for path in paths} == set(documented("Files"))
