"""docs/reliability.md is true: what it names is there, what it counts is tried, what it quotes was printed."""

import ast
import re
from pathlib import Path

import pytest

import resnet_cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
COMMANDS = re.findall(r"`(?:pytest|python) ([^`]+)`", PAGE)


def test_every_file_that_it_names_exists():
    named = {word for command in COMMANDS for word in command.split() if word.endswith(".py")}
    linked = re.findall(r"\]\((\.\./[^)]+)\)", PAGE)
    assert len(named) >= 15
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert [link for link in linked if not (ROOT / "docs" / link).is_file()] == []


def selections():
    """The commands of the page that select tests by their names."""
    for command in COMMANDS:
        if found := re.fullmatch(r'(.*\.py) -k (?:"([^"]+)"|(\w+))', command):
            yield found[1].split(), (found[2] or found[3]).split(" or ")


@pytest.mark.parametrize(("files", "words"), list(selections()), ids=str)
def test_every_selection_of_tests_finds_some_in_each_file(files, words):
    for file in files:
        tree = ast.parse((ROOT / file).read_text())
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        tests = [name.lower() for name in names if name.lower().startswith("test")]
        assert [word for word in words if not any(word.lower() in test for test in tests)] == []


def test_every_test_of_hostile_circumstances_is_named():
    tests = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert [name for name in sorted(tests) if name not in PAGE] == []


def test_its_figures_are_those_that_were_printed():
    kills = (ROOT / "benchmarks/results/stress_kill.txt").read_text()
    found = {name: int(number) for number, name in re.findall(r"^ *(\d+)  (.+)$", kills, re.MULTILINE)}
    text = " ".join(PAGE.split())
    for number, words in (
        (found["kills"], "kills, "),
        (found["… of them of `python -m resnet_cli train`"], "of them of `python -m resnet_cli train`"),
        (found["runs compared"], "runs finished and compared"),
        (found["before run.json was there"], "before `run.json` was there"),
        (found["before the first checkpoint"], "before the first checkpoint"),
        (found["inside a write: a temporary file was left"], "inside a write"),
        (found["with rows that the checkpoint did not have"], "after rows that the checkpoint did not have yet"),
    ):
        assert f"{number} {words}" in text
    assert "     0  files that could not be read" in kills
    repeats = (ROOT / "benchmarks/results/reproducibility.txt").read_text()
    checksums = re.findall(r"^  ([0-9a-f]{64})", repeats, re.MULTILINE)
    assert f"{len(checksums)} runs, {len(set(checksums))} checksums" in text
    assert "all checksums of a group are equal" in repeats
    for printed in (kills, repeats):
        (date,) = re.findall(r"^(\d{4}-\d\d-\d\d), .*torch", printed, re.MULTILINE)
        assert f"All figures are of {date}" in text


# What runs or unpacks what a file holds.
UNSAFE = {"eval", "exec", "compile", "os.system", "os.popen", "shutil.unpack_archive"}
UNSAFE_METHODS = {"extractall", "extract", "Unpickler"}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "joblib", "dill"}


def test_no_module_calls_what_would_run_or_unpack_a_file():
    modules = list(Path(resnet_cli.__file__).parent.rglob("*.py"))
    assert len(modules) > 50
    for module in modules:
        for call in ast.walk(ast.parse(module.read_text())):
            if isinstance(call, ast.Call):
                assert is_safe(call), f"{module.name}:{call.lineno}: {ast.unparse(call)}"


def is_safe(call):
    name = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "torch.load":
        return keywords.get("weights_only") == "True"
    if name in ("np.load", "numpy.load"):
        return keywords.get("allow_pickle") == "False"
    first, _, last = name.rpartition(".")
    return name not in UNSAFE and last not in UNSAFE_METHODS and first not in UNSAFE_MODULES
