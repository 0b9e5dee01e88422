"""`resnet probe` prints its rows in every format and refuses options that do not fit."""

import csv
import json
import socket
import subprocess
import sys

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.launch.channel import Channel
from resnet_cli.probes.base import Probe
from resnet_cli.probes.registry import TITLES


@pytest.fixture
def runs(make_run, tmp_path):
    for arch in ("plain", "resnet"):
        make_run(tmp_path / arch, arch=arch, dataset="digits", depth=8)
    return tmp_path


def test_probing_stored_predictions_prints_a_table_stores_rows_and_imports_no_torch(runs):
    code = (
        "import sys; from resnet_cli.cli.app import run; assert run(['probe', 'calibration', sys.argv[1]]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=True)
    title, header, _, *rows = done.stdout.splitlines()
    assert title == f"calibration: {TITLES['calibration']}"
    assert header.split()[:2] == ["network", "scaling"]
    assert [row.split()[:2] for row in rows[:4]] == [
        [name, scaling] for name in ("plain-8", "resnet-8") for scaling in ("none", "temperature")
    ]
    assert "units" in done.stderr
    assert (runs / "plain" / "probes" / "calibration-last.csv").is_file()


def test_json_has_every_row_of_every_network_and_the_files(runs, capsys):
    assert resnet(["probe", "calibration", str(runs), "--json"]) == 0
    (probe,) = json.loads(capsys.readouterr().out)["probes"]
    assert [network["label"] for network in probe["networks"]] == ["plain-8", "resnet-8"]
    row = probe["networks"][0]["rows"][0]
    assert (row["scaling"], row["bin"], row["num_images"]) == ("none", None, 360)
    assert probe["files"] == [str(runs / arch / "probes" / "calibration-last.csv") for arch in ("plain", "resnet")]
    assert (probe["refused"], probe["comparisons"]) == ([], [])


def test_csv_has_the_rows_of_the_json_document(runs, capsys):
    resnet(["probe", "calibration", str(runs), "--json"])
    expected = json.loads(capsys.readouterr().out)["probes"][0]["networks"]
    assert resnet(["probe", "calibration", str(runs), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == sum(len(network["rows"]) for network in expected)
    assert rows[0]["label"] == "plain-8"
    assert float(rows[0]["nll"]) == pytest.approx(expected[0]["rows"][0]["nll"])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot_writes_a_figure_in_the_format_of_its_suffix(runs, tmp_path, capsys, suffix):
    path = tmp_path / f"figure{suffix}"
    assert resnet(["probe", "calibration", str(runs), "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert str(path) in capsys.readouterr().err


def test_a_new_network_is_measured_with_the_given_seed_and_only_the_result_is_printed_when_quiet(capsys):
    arguments = ["--arch", "resnet", "--depth", "8", "--seed", "3", "--device", "cpu", "--images", "20"]
    assert resnet(["probe", "bn", *arguments, "--quiet", "--json"]) == 0
    captured = capsys.readouterr()
    ((network,),) = (probe["networks"] for probe in json.loads(captured.out)["probes"])
    assert (network["label"], network["which"], network["seed"]) == ("resnet-8", "init", 3)
    assert captured.err == ""


def test_without_a_subject_a_note_says_that_the_networks_are_untrained(capsys):
    arguments = ["--arch", "resnet", "--depth", "8", "--seed", "3", "--device", "cpu", "--images", "20"]
    assert resnet(["probe", "bn", *arguments]) == 0
    note = "no SUBJECT given: measuring new, untrained networks (resnet-8, digits, seed 3)"
    assert capsys.readouterr().err.count(note) == 1


def test_all_runs_every_probe_and_says_which_do_not_apply(runs, monkeypatch, capsys):
    seen = []

    def load(name):
        refuse = {"capacity": lambda config: "plain networks only", "lesion": lambda config: "residual only"}
        if name == "lesion":
            refuse["lesion"] = lambda config: "residual only" if config.arch == "plain" else None
        return Probe(
            "", lambda config, settings: ["one"], lambda target, unit: seen.append(name) or [{"value": 1}],
            needs="predictions", refuse=refuse.get(name, lambda config: None),
        )  # fmt: skip

    monkeypatch.setattr("resnet_cli.measure.probe.load_probe", load)
    assert resnet(["probe", "all", str(runs), "--json"]) == 0
    captured = capsys.readouterr()
    assert [probe["name"] for probe in json.loads(captured.out)["probes"]] == [n for n in TITLES if n != "capacity"]
    assert "skipped: capacity applies to none of the networks" in captured.err
    assert "skipped lesion of plain-8: residual only" in captured.err
    assert seen.count("bn") == 2
    assert seen.count("lesion") == 1


def test_help_lists_every_probe(capsys):
    assert resnet(["probe", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in TITLES)


def test_a_probe_of_a_study_that_applies_to_no_network_is_skipped_and_the_study_warned(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr("resnet_cli.launch.channel._channel", Channel(theirs))
        assert resnet(["probe", "capacity", "--arch", "resnet", "--quiet"]) == 0
        assert b"skipped: capacity applies to none of the networks" in ours.recv(2**16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["magic"], "NAME must be a probe (got 'magic'); choose gradflow, bn,"),
        (["bn", "nowhere"], "nowhere does not exist"),
        (["bn", "--which", "last"], "--which last needs a run directory"),
        (["bn", "--arch", "plain", "--depth", "9"], "depth 9 is not 6n+2"),
        (["bn", "--plot", "x.bmp"], "--plot x.bmp: unsupported format; use .png, .svg or .pdf"),
        (["all", "--plot", "x.png"], "--plot needs one probe, not all"),
        (["all", "--format", "csv"], "--format csv needs one probe"),
        (["calibration", "--set", "bins=3"], "--set bins=3: calibration has no such setting; omit --set"),
        (["capacity", "--arch", "resnet"], "capacity applies to none of the networks"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert resnet(["probe", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    assert message in captured.err


def test_options_of_new_networks_and_weights_are_refused_where_they_do_not_apply(runs, tmp_path, capsys):
    assert resnet(["probe", "bn", str(runs), "--depth", "20"]) == 2
    assert "--depth 20 cannot be combined with run directories" in capsys.readouterr().err
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"damaged")
    assert resnet(["probe", "bn", str(weights), "--which", "last"]) == 2
    assert "--which last applies to runs" in capsys.readouterr().err
    assert resnet(["probe", "bn", str(weights), "--dataset", "digits"]) == 2
    assert "weights.pt" in capsys.readouterr().err
