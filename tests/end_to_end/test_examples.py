"""The scripts in `examples/`: the one for CI with published runs, the notebook with one epoch per run."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "ci.sh"
NOTEBOOK = ROOT / "examples" / "notebook.py"

PUBLISHED = ROOT / "runs" / "reference" / "demo"


RESNET = f'#!/bin/sh\nexec {sys.executable} -m resnet_cli "$@"\n'
# `reproduce` only parses its options: --help is acted on after them, and unknown ones are refused before it.
WITHOUT_TRAINING = RESNET.replace("exec", 'if [ "$1" = reproduce ]; then set -- "$@" --help; fi\nexec')


@pytest.fixture
def ci(tmp_path):
    """A function that runs the script on the folder `study` with a command `resnet`."""

    def run(resnet):
        command = tmp_path / "bin" / "resnet"
        command.parent.mkdir()
        command.write_text(resnet)
        command.chmod(0o755)
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            ["sh", SCRIPT, tmp_path / "study"], env=environment, capture_output=True, text=True, check=False
        )

    return run


def _other_probes(folder, names):
    """Files of probes that the script does not ask for, whose figures take most of the time of a report."""
    return {name for name in names if Path(folder).name == "probes" and not name.startswith(("bn-", "capacity-"))}


def test_the_ci_script_accepts_the_published_demo_and_writes_its_report(ci, tmp_path):
    published = sorted((PUBLISHED / "runs").glob("*-seed[0-2]"))
    assert len(published) == 12  # or the script would train them
    for run in published:
        shutil.copytree(run, tmp_path / "study" / "runs" / run.name, ignore=_other_probes)
    done = ci(RESNET)
    assert done.returncode == 0, done.stderr
    assert "plain-56" in done.stdout
    assert (tmp_path / "study" / "report.html").exists()


def test_the_ci_script_exits_with_3_when_the_plain_network_no_longer_degrades(ci, tmp_path, make_run):
    for arch, depth in itertools.product(("plain", "resnet"), (20, 56)):
        out = tmp_path / "study" / "runs" / f"{arch}-{depth}"
        make_run(out, arch=arch, depth=depth, recipe="demo", dataset="digits", train_error=2.0)
    done = ci(WITHOUT_TRAINING)
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
