"""Training, comparison and evaluation on a folder of real photographs, if one is available."""

import json
import os
from pathlib import Path

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.rundir import RunDir

IMAGES = os.environ.get("RESNET_TEST_IMAGES")
pytestmark = pytest.mark.skipif(
    not IMAGES or not Path(IMAGES).is_dir(),
    reason="set RESNET_TEST_IMAGES to a folder of CIFAR-10 images (train/<class>/*, test/<class>/*)",
)

DATA = ["--dataset", "imagefolder", "--data-dir", str(IMAGES), "--limit-train", "2560", "--limit-test", "500"]


def test_a_short_run_on_photographs_beats_chance_and_is_compared_and_evaluated_as_recorded(tmp_path, capfd):
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
