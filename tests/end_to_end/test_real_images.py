"""The main job on real photographs, where a folder of them is at hand."""

import json
import os
from pathlib import Path

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.rundir import RunDir

IMAGES = os.environ.get("RESNET_TEST_IMAGES")
pytestmark = pytest.mark.skipif(
    not IMAGES or not Path(IMAGES).is_dir(),
    reason="RESNET_TEST_IMAGES names no folder with train/<class>/* and test/<class>/* of CIFAR-10 images",
)

DATA = ["--dataset", "imagefolder", "--data-dir", str(IMAGES), "--limit-train", "2560", "--limit-test", "500"]


def test_one_epoch_on_photographs_learns_something_and_is_named_after_its_data(tmp_path, capfd):
    out = tmp_path / "resnet-8"
    command = ["train", "--arch", "resnet", "--depth", "8", "--epochs", "2", *DATA, "--device", "cpu"]
    assert resnet([*command, "--out", str(out)]) == 0
    summary = RunDir(out).read_summary()
    assert summary.last.test_accuracy_pct > 20  # chance is 10
    capfd.readouterr()
    assert resnet(["compare", str(out), "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["networks"]
    assert row["dataset"] == RunDir(out).read_record().dataset.display_name
    assert row["dataset"] != "CIFAR-10"
    assert resnet(["eval", str(out), "--json", "--device", "cpu"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["num_examples"] == 500
    assert document["accuracy_pct"] == pytest.approx(summary.last.test_accuracy_pct, abs=0.21)
