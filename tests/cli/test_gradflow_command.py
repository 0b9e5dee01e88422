"""`resnet gradflow` shows layers, blocks, stages and a verdict, and refuses options that contradict each other."""

import csv
import json

import pytest

from resnet_cli.cli.app import run as resnet

FAST = ["--depth", "14", "--seeds", "2", "--batches", "1", "--batch-size", "16", "--device", "cpu"]


def test_gradflow_without_a_run_shows_layers_blocks_stages_and_a_verdict_for_plain_and_resnet(capsys):
    assert resnet(["gradflow", *FAST]) == 0
    out = capsys.readouterr().out
    title, layers, blocks, stages, verdicts = out.split("\n\n")
    assert "digits (16×16), initial weights; geometric mean over 2 seeds" in title
    header, *rows = layers.splitlines()[1:]
    assert header.split() == ["layer", "plain-14", "resnet-14"]
    assert [row.split()[0] for row in rows][:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    bars = sorted((float(norm), len(bar)) for row in rows for norm, bar in (row.split()[1:3], row.split()[3:5]))
    lengths = [length for _, length in bars]
    assert lengths == sorted(lengths)
    header, *rows = blocks.splitlines()[1:]
    assert header.split() == ["block", "plain-14", "growth", "resnet-14", "growth", "skip", "cosine"]
    assert [row.split()[0] for row in rows] == [f"layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1)]
    assert [row.split()[:2] for row in stages.splitlines()[2:]] == [
        [network, stage] for network in ("plain-14", "resnet-14") for stage in "123"
    ]
    assert all("towards the input" in line and "of 2 seeds)" in line for line in verdicts.splitlines())


def test_gradflow_json_has_the_verdict_stages_and_layers_of_every_network(capsys):
    assert resnet(["gradflow", *FAST, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [network["network"] for network in document["networks"]] == ["plain-14", "resnet-14"]
    for network in document["networks"]:
        assert (network["which"], network["seeds"], len(network["layers"])) == ("init", [0, 1], 28)
        assert network["verdict"] in ("healthy", "growing", "exploding")
        assert network["stages"][0]["lowest_growth_per_block"] <= network["stages"][0]["growth_per_block"]
        assert network["layers"][1]["input_grad_norm"] > 0


def test_gradflow_csv_has_one_row_per_network_seed_and_layer(capsys):
    assert resnet(["gradflow", *FAST, "--arch", "resnet", "--shortcut", "B", "--seed", "3", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 28
    assert {(row["network"], row["seed"]) for row in rows} == {("resnet-14-B", "3"), ("resnet-14-B", "4")}


def test_check_identity_prints_the_residual_of_every_network(capsys):
    assert resnet(["gradflow", "--depth", "8", "--seeds", "1", "--check-identity", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["label"] for entry in document["identity"]] == ["plain-8", "resnet-8"]
    assert all(0 <= entry["max_relative_residual"] < 1e-10 for entry in document["identity"])


def test_check_identity_fails_if_the_parts_do_not_add_up(capsys, monkeypatch):
    monkeypatch.setattr("resnet_cli.probes.gradflow.identity_residuals", lambda *_: [1e-17, 1e-9])
    assert resnet(["gradflow", "--depth", "8", "--seeds", "1", "--check-identity"]) == 3
    captured = capsys.readouterr()
    assert "plain-8: largest relative residual over all blocks 1.0e-09" in captured.out
    assert "the identity does not hold to 1e-10" in captured.err


def test_gradflow_of_a_folder_averages_the_seeds_of_a_network_and_stores_each_run(tmp_path, capsys):
    for seed in (0, 1):
        train = ["train", "--recipe", "demo", "--arch", "resnet", "--depth", "8", "--device", "cpu", "--epochs", "1"]
        train += ["--gradflow-every", "1", "--limit-train", "60", "--limit-test", "20", "--batch-size", "30"]
        assert resnet([*train, "--seed", str(seed), "--out", str(tmp_path / f"run{seed}")]) == 0
    capsys.readouterr()
    options = ["--batches", "1", "--batch-size", "60", "--device", "cpu", "--json"]
    assert resnet(["gradflow", str(tmp_path), *options]) == 0
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert (network["label"], network["which"], network["seeds"]) == ("resnet-8", "last", [0, 1])
    assert (tmp_path / "run1" / "probes" / "gradflow-last.csv").is_file()
    # one batch of all images, as during training, after the same step
    recorded = list(csv.DictReader((tmp_path / "run1" / "gradflow.csv").read_text().splitlines()))[-8:]
    measured = [row for row in network["layers"] if row["seed"] == 1]
    for name in ("grad_norm", "weight_norm", "effective_step"):
        assert [float(row[name]) for row in recorded] == pytest.approx([row[name] for row in measured], rel=1e-3)


def test_networks_of_different_depths_share_the_rows_of_the_layers_that_both_have(tmp_path, capsys):
    for name, depth in (("a", "8"), ("b", "14")):
        train = ["train", "--recipe", "demo", "--arch", "plain", "--depth", depth, "--device", "cpu", "--steps", "1"]
        train += ["--limit-train", "60", "--limit-test", "20", "--batch-size", "30", "--gradflow-every", "0"]
        assert resnet([*train, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    options = ["--which", "init", "--batches", "1", "--batch-size", "16", "--device", "cpu"]
    assert resnet(["gradflow", str(tmp_path), *options]) == 0
    _, layers, blocks, _, _ = capsys.readouterr().out.split("\n\n")
    header, *rows = [line.split() for line in layers.splitlines()[1:]]
    assert header == ["layer", "plain-8", "plain-14"]
    of_both = {row[0] for row in rows if len(row) == 5}  # a norm and a bar of each network
    assert [row[0] for row in rows] == [
        "conv1", *(f"layer{stage}.{block}.conv{conv}" for stage in (1, 2, 3) for block in (0, 1) for conv in (1, 2)),
        "fc",
    ]  # fmt: skip
    assert of_both == {row[0] for row in rows if ".1." not in row[0]}
    assert [line.split()[0] for line in blocks.splitlines()[2:]] == [
        f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)
    ]


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
        (["nowhere", "--seeds", "2"], "--seeds 2 cannot be combined with run directories"),
        ([__file__, "--seed", "2"], "--seed 2 applies to new networks, but "),
        ([__file__, "--which", "last"], "--which last applies to runs, but "),
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
