"""The scripts in `examples/`: the one for CI with ready-made runs, the notebook with one epoch per run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "ci.sh"
NOTEBOOK = ROOT / "examples" / "notebook.py"

# `reproduce` only parses its options here: --help is acted on after them, and unknown ones are refused before it.
RESNET = f"""#!/bin/sh
if [ "$1" = reproduce ]; then set -- "$@" --help; fi
exec {sys.executable} -m resnet_cli "$@"
"""


@pytest.fixture
def ci(tmp_path, make_run):
    """A function that runs the script on a study in which the clean training error of plain-56 is the one given."""
    command = tmp_path / "bin" / "resnet"
    command.parent.mkdir()
    command.write_text(RESNET)
    command.chmod(0o755)

    def run(plain_56_error):
        errors = {("plain", 20): 2.0, ("resnet", 20): 1.0, ("plain", 56): plain_56_error, ("resnet", 56): 0.5}
        for (arch, depth), error in errors.items():
            make_run(
                tmp_path / "study" / "runs" / f"{arch}-{depth}-seed0", arch=arch, depth=depth, recipe="demo",
                dataset="digits", train_error=error, accuracy=97.0 - error,
            )  # fmt: skip
        environment = {
            **os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        return subprocess.run(
            ["sh", SCRIPT, tmp_path / "study"], env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_the_ci_script_succeeds_when_only_the_deep_plain_network_degrades(ci):
    done = ci(plain_56_error=70.0)
    assert done.returncode == 0, done.stderr
    assert "plain-56" in done.stdout


def test_the_ci_script_exits_with_3_when_the_plain_network_no_longer_degrades(ci):
    done = ci(plain_56_error=2.5)
    assert done.returncode == 3, done.stderr
    assert "plain-56.train_clean_error_pct > plain-20.train_clean_error_pct + 10" in done.stderr


def test_the_notebook_trains_compares_and_uses_networks(tmp_path, monkeypatch, capsys, one_thread):
    source = NOTEBOOK.read_text(encoding="utf-8")
    assert "EPOCHS = 8" in source
    monkeypatch.chdir(tmp_path)
    exec(compile(source.replace("EPOCHS = 8", "EPOCHS = 1"), NOTEBOOK, "exec"), {})  # noqa: S102 (our own file)
    shown = capsys.readouterr().out
    for part in ("resnet-8: test accuracy", "predicted: ", "3 classes: test accuracy", "('plain-8, seed 0', 'todo')"):
        assert part in shown
    assert sorted(path.name for path in Path("notebook").iterdir()) == ["plain-8", "resnet-8", "three-digits"]
