"""The scripts in `benchmarks/`, their page and their results."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
# refactor_checksums.txt has no date and no versions, so that two outputs can be compared with diff.
RESULTS = sorted({path.name for path in (FOLDER / "results").glob("*.txt")} - {"refactor_checksums.txt"})


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_benchmark_page_gives_the_command_of_every_script(script):
    assert f"`python benchmarks/{script}" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("result", RESULTS)
def test_every_benchmark_result_names_its_command_its_date_and_the_version_of_torch(result):
    text = (FOLDER / "results" / result).read_text(encoding="utf-8")
    (script,) = re.findall(r"^python benchmarks/(\w+\.py)", text)
    assert (FOLDER / script).is_file()
    assert re.search(r"20\d\d-\d\d-\d\d, .*torch \d", text)
