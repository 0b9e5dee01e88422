"""`resnet diff` from the command line."""

import json
import re

import pytest

from resnet_cli.cli.app import run
from resnet_cli.errors import ExitCode


@pytest.fixture
def pair(make_run, tmp_path, monkeypatch):
    """Two complete runs, a and b, with different learning rates."""
    monkeypatch.chdir(tmp_path)
    make_run("a", accuracy=91.0, predictions=False)
    make_run("b", accuracy=92.5, lr=0.05, milestones=(), predictions=False)


def test_values_that_differ_are_shown_side_by_side_and_equal_ones_are_omitted(pair, capsys):
    assert run(["diff", "a", "b"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    for expected in (
        ["A", "a"], ["B", "b"], ["lr", "0.1", "0.05"], ["milestones", "80,120", "none"],
        ["test_accuracy_pct", "91", "92.5"],
    ):  # fmt: skip
        assert expected in lines
    assert "batch_size" not in out
    assert lines[-1] == ["no difference in data, environment"]
    assert err == ""


def test_the_json_document_has_one_value_per_run(pair, capsys):
    assert run(["diff", "a", "b", "a", "--json"]) == ExitCode.DONE
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert document["runs"] == ["a", "b", "a"]
    assert document["configuration"] == {"lr": [0.1, 0.05, 0.1], "milestones": [[80, 120], [], [80, 120]]}


def test_equal_runs_differ_in_nothing(pair, capsys):
    assert run(["diff", "a", "a"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "no difference in configuration, data, environment, results"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["a"], "1 run given; diff compares 2 to 26"), (["a", "missing"], "missing does not exist")],
)
def test_wrong_usage_is_one_line(pair, capsys, arguments, message):
    assert run(["diff", *arguments]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_names_from_files_cannot_control_the_terminal(make_run, tmp_path, capsys):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        make_run(path, environment={"device_name": f"\x1b[31m{path.name}", f"\x1b]0;{path.name}": 1})
    assert run(["diff", *map(str, paths)]) == ExitCode.DONE
    assert {c for c in capsys.readouterr().out if not c.isprintable()} == {"\n"}
