"""The scripts in `benchmarks/`, their page and their results."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from resnet_cli import load_epochs, load_runs

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
RESULTS = sorted(path.name for path in (FOLDER / "results").glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_benchmark_page_gives_the_command_of_every_script(script):
    assert f"`python benchmarks/{script}" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.py")))
def test_every_name_that_a_benchmark_imports_from_the_package_exists(script):
    for node in ast.walk(ast.parse((FOLDER / script).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnet_cli"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("result", RESULTS)
def test_every_benchmark_result_names_its_command_its_date_and_the_version_of_torch(result):
    text = (FOLDER / "results" / result).read_text(encoding="utf-8")
    (script,) = re.findall(r"^python benchmarks/(\w+\.py)", text)
    assert (FOLDER / script).is_file()
    assert re.search(r"20\d\d-\d\d-\d\d, .*torch \d", text)


def test_generated_runs_can_be_read_like_real_ones(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    generate = importlib.import_module("generated_runs").generate
    generate(tmp_path, 2, gradflow=True, predictions=True)
    runs, epochs = load_runs([tmp_path]), load_epochs([tmp_path])
    assert runs["network"].tolist() == ["plain-20", "resnet-20"]
    assert len(epochs) == 400
