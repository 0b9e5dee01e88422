"""`resnet gradflow` prints every layer, in every format, and refuses what does not go together."""

import csv
import json

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.cli.gradflow import bar

FAST = ["--depth", "8", "--batches", "1", "--batch-size", "32", "--device", "cpu"]


def test_without_a_run_plain_stands_beside_resnet_with_a_bar_and_a_summary(capsys):
    assert resnet(["gradflow", *FAST]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "plain-8" in lines[1]
    assert "resnet-8" in lines[1]
    assert [line.split()[0] for line in lines[2:10]] == [
        "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2",
        "layer3.0.conv1", "layer3.0.conv2", "fc",
    ]  # fmt: skip
    assert all("█" in line or "▏" in line or "▎" in line for line in lines[2:10])
    assert "plain-8: early/late ratio" in out
    assert "decades a layer" in out


def test_json_holds_the_networks_with_all_layers_and_their_trend(capsys):
    assert resnet(["gradflow", *FAST, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [network["network"] for network in document["networks"]] == ["plain-8", "resnet-8"]
    for network in document["networks"]:
        assert len(network["layers"]) == 8
        assert network["early_late_ratio"] > 0
        assert network["layers"][0]["grad_norm_std"] is None  # one batch has no deviation


def test_csv_has_one_row_a_layer_and_network(capsys):
    assert resnet(["gradflow", *FAST, "--arch", "resnet", "--shortcut", "B", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 8
    assert {row["network"] for row in rows} == {"resnet-8-B"}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_norms_can_be_drawn(tmp_path, capsys, suffix):
    path = tmp_path / f"norms{suffix}"
    assert resnet(["gradflow", *FAST, "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert str(path) in capsys.readouterr().err


def test_the_figure_has_a_line_a_network_and_a_log_axis():
    from resnet_cli.analysis.figures.profile import profile_figure
    from resnet_cli.measure import profile, subjects_of_networks

    subjects = subjects_of_networks(arch=None, depth=8, shortcut=None, seed=0, dataset="digits")
    frame = profile(subjects, num_batches=2, batch_size=32, device="cpu")
    (axes,) = profile_figure(frame).axes
    lines = {
        line.get_label(): line.get_ydata().tolist() for line in axes.lines if line.get_label() in set(frame["label"])
    }
    for label, rows in frame.groupby("label"):
        assert lines[label] == rows["grad_norm"].tolist()
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "last"], "--at last needs a run directory"),
        (["--depth", "55"], "depth 55 is not 6n+2"),
        (["--arch", "plain", "--shortcut", "B"], "--shortcut B does not fit a plain network"),
        (["nowhere"], "nowhere does not exist"),
        (["nowhere", "--depth", "20"], "--depth 20 cannot be combined with run directories"),
        (["--batches", "1000"], "1000 batches of 128 need more than the 1437 images"),
        ([*FAST, "--plot", "norms.bmp"], "norms.bmp"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert resnet(["gradflow", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    assert message in captured.err


def test_a_bar_is_as_long_as_its_logarithm():
    assert bar(100, 0, 2, 10) == "█" * 10
    assert bar(10, 0, 2, 10) == "█" * 5
    assert bar(1, 0, 2, 10) == "▏"  # the smallest is still seen
    assert bar(0, 0, 2, 10) == ""
    assert bar(5, 1, 1, 4) == "████"
