"""The page of the benchmarks names each script, and each result was printed by a script that is there."""

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
PAGE = (FOLDER / "README.md").read_text()


def is_program(path):
    return any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in ast.parse(path.read_text()).body
    )


def test_every_script_is_on_the_page_with_the_command_that_runs_it():
    programs = {path.name for path in FOLDER.glob("*.py") if is_program(path)}
    assert programs
    assert set(re.findall(r"^\| `(\w+\.py)` \|", PAGE, re.MULTILINE)) == programs
    assert all(f"`python benchmarks/{name}" in PAGE for name in programs)


def test_every_result_begins_with_the_command_that_printed_it_and_ends_with_where():
    results = list((FOLDER / "results").glob("*.txt"))
    assert results
    for path in results:
        text = path.read_text()
        (name,) = re.findall(r"^python benchmarks/(\w+\.py)", text)
        assert (FOLDER / name).is_file()
        assert re.search(r"20\d\d-\d\d-\d\d, .*torch \d", text), path
