"""The Python API that README shows for notebooks."""

import subprocess
import sys
from pathlib import Path

import pytest

import resnet_cli


def test_a_notebook_can_train_a_run_and_load_it_as_frames(tmp_path):
    config = resnet_cli.make_config(
        "demo", arch="resnet", depth=8, seed=1, epochs=2, limit_train=200, limit_test=40, device="cpu"
    )
    result = resnet_cli.train(config, tmp_path / "runs" / "mine")
    runs = resnet_cli.load_runs([tmp_path / "runs"])
    epochs = resnet_cli.load_epochs([tmp_path / "runs"])
    assert runs["test_accuracy_pct"].tolist() == [result.summary.last.test_accuracy_pct]
    assert runs["network"].tolist() == ["resnet-8"]
    assert epochs["epoch"].tolist() == [1, 2]
    assert epochs["test_accuracy_pct"].iloc[-1] == runs["test_accuracy_pct"].iloc[0]


def test_importing_the_package_imports_no_large_library():
    code = "import sys, resnet_cli; print(sorted({'torch', 'pandas', 'numpy', 'typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_lists_its_public_names_without_importing_them():
    code = "import sys, resnet_cli; print(*dir(resnet_cli)); print(*sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported = done.stdout.splitlines()
    assert names.split() == sorted(resnet_cli.__all__)
    assert imported == ""
    assert {"train", "load_model", "plan", "run_study"} < set(names.split())


def test_an_unknown_name_in_the_package_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'resnet'"):
        _ = resnet_cli.resnet


@pytest.mark.parametrize("name", [name for name in resnet_cli.__all__ if name != "__version__"])
def test_every_public_name_has_a_docstring(name):
    assert getattr(resnet_cli, name).__doc__


def test_the_citation_file_names_the_current_version():
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {resnet_cli.__version__}\n" in citation
