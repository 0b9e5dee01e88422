"""Shell completion of recipes, datasets and run directories."""

import subprocess
import sys

import pytest

from resnet_cli.cli import completion
from resnet_cli.cli.app import run as resnet
from resnet_cli.recipes import RECIPES


@pytest.fixture
def complete(tmp_path, monkeypatch, capsys):
    """What `resnet` answers to bash for a command line that is typed in `tmp_path`; the last word is being typed."""
    monkeypatch.chdir(tmp_path)

    def ask(line):
        words = line.split(" ")
        monkeypatch.setenv("_RESNET_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit):
            resnet(words[1:])
        return capsys.readouterr().out.split()

    return ask


@pytest.fixture
def runs(tmp_path):
    for path in ("runs/plain-20", "runs/resnet-20", "study/runs/resnet-56", ".hidden/run"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "run.json").touch()
    (tmp_path / "runs/resnet-other").mkdir()
    (tmp_path / "runs/loop").symlink_to(tmp_path)


@pytest.mark.parametrize("command", ["train", "bench", "reproduce"])
def test_recipes_are_completed(complete, command):
    assert complete(f"resnet {command} --recipe ") == list(RECIPES)
    assert complete(f"resnet {command} --recipe he") == ["he2015"]


@pytest.mark.parametrize("start", ["train --dataset", "eval --dataset", "data fetch"])
def test_datasets_are_completed(complete, start):
    assert complete(f"resnet {start} cifar") == ["cifar10", "cifar100"]


@pytest.mark.parametrize("start", ["train --from", "compare", "compare other", "plot", "gradflow", "eval"])
def test_run_directories_are_completed(complete, runs, start):
    assert complete(f"resnet {start} ") == ["runs/plain-20", "runs/resnet-20", "study/runs/resnet-56"]
    assert complete(f"resnet {start} runs/re") == ["runs/resnet-20"]
    assert complete(f"resnet {start} study/") == ["study/runs/resnet-56"]
    assert complete(f"resnet {start} nowhere/") == []


def test_absolute_paths_of_runs_are_completed(complete, runs, tmp_path):
    assert complete(f"resnet compare {tmp_path}/runs/p") == [f"{tmp_path}/runs/plain-20"]


def test_completion_stops_searching_a_huge_folder(complete, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(completion, "_MAX_FOLDERS", 4)  # the current folder, runs, study, and the first in runs
    assert complete("resnet compare ") == ["runs/plain-20"]


def test_completion_imports_no_large_library():
    script = (
        "import sys\nfrom resnet_cli.cli.app import run\ntry: run([])\n"
        "finally: print(sorted({'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {"_RESNET_COMPLETE": "complete_bash", "COMP_WORDS": "resnet train --from ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": ":".join(sys.path), **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
