"""`resnet gradflow` prints every layer in every format, and refuses options that contradict each other."""

import csv
import json
from pathlib import Path

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.errors import InputError

FAST = ["--depth", "8", "--batches", "1", "--batch-size", "32", "--device", "cpu"]


def test_gradflow_without_a_run_shows_plain_and_resnet_side_by_side_with_bars_and_trends(capsys):
    assert resnet(["gradflow", *FAST]) == 0
    out = capsys.readouterr().out
    header, *rows = [line for line in out.splitlines() if line.startswith(("layer", "conv1", "fc"))]
    assert header.split() == ["layer", "plain-8", "resnet-8"]
    assert [row.split()[0] for row in rows] == [
        "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2",
        "layer3.0.conv1", "layer3.0.conv2", "fc",
    ]  # fmt: skip
    bars = sorted((float(norm), len(bar)) for row in rows for norm, bar in (row.split()[1:3], row.split()[3:5]))
    lengths = [length for _, length in bars]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (1, 14)
    assert "plain-8: stage 1 / stage 3 ratio" in out
    assert "decades per layer" in out


def test_gradflow_json_has_every_network_with_its_layers_and_trend(capsys):
    assert resnet(["gradflow", *FAST, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [network["network"] for network in document["networks"]] == ["plain-8", "resnet-8"]
    for network in document["networks"]:
        assert (network["which"], len(network["layers"])) == ("init", 8)
        assert network["early_late_ratio"] > 0
        assert network["layers"][0]["grad_norm_std"] is None  # one batch has no deviation


def test_gradflow_csv_has_one_row_per_network_and_layer(capsys):
    assert resnet(["gradflow", *FAST, "--arch", "resnet", "--shortcut", "B", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 8
    assert {row["network"] for row in rows} == {"resnet-8-B"}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_gradflow_plot_writes_a_figure_in_the_format_of_its_suffix(tmp_path, capsys, suffix):
    path = tmp_path / f"norms{suffix}"
    assert resnet(["gradflow", *FAST, "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--which", "last"], "--which last needs a run directory"),
        (["--depth", "55"], "depth 55 is not 6n+2"),
        (["--arch", "plain", "--shortcut", "B"], "--shortcut B does not fit --arch plain"),
        (["nowhere"], "nowhere does not exist"),
        (["nowhere", "--depth", "20"], "--depth 20 cannot be combined with run directories"),
        (["--batches", "1000"], "--batches 1000 of 128 images need more than the 1437 images"),
        ([*FAST, "--plot", "norms.bmp"], "--plot norms.bmp: unsupported format; use .png, .svg or .pdf"),
    ],
)
def test_wrong_usage_of_gradflow_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert resnet(["gradflow", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    assert message in captured.err


def test_gradflow_takes_folders_of_runs(tmp_path, make_run, monkeypatch, capsys):
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"seed{seed}", seed=seed)
    monkeypatch.chdir(tmp_path)
    seen = []

    def stop(paths, which):
        seen.append((paths, which))
        raise InputError("stopped here")

    monkeypatch.setattr("resnet_cli.measure.run_subjects", stop)
    assert resnet(["gradflow", "runs", "--which", "best"]) == 2
    assert seen == [([Path("runs/seed0"), Path("runs/seed1")], "best")]
