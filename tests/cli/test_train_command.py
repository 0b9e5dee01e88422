"""`resnet train` as a script sees it: what is on stdout, what on stderr, and the exit code."""

import json

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.rundir import RunDir

FAST = ["train", "--recipe", "demo", "--depth", "8", "--device", "cpu", "--limit-train", "200", "--limit-test", "40"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def test_off_a_terminal_an_epoch_is_one_line_on_stderr_and_the_result_is_on_stdout(out, capsys):
    assert resnet([*FAST, "--arch", "plain", "--epochs", "2", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    epochs = [line for line in captured.err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in epochs] == ["1/2", "2/2"]
    assert all("images/s" in line and "test" in line for line in epochs)
    assert "test accuracy" in captured.out
    assert "\x1b" not in captured.out + captured.err


def test_json_is_one_document_and_quiet_says_nothing_else(out, capsys):
    assert resnet([*FAST, "--arch", "resnet", "--epochs", "1", "--out", str(out), "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["status"] == "complete"
    assert document["summary"]["last"]["epoch"] == 1
    assert document["run"]["config"]["arch"] == "resnet"
    assert RunDir(out).status() == "complete"


def test_the_same_command_again_says_that_it_is_done(out, capsys):
    command = [*FAST, "--arch", "plain", "--epochs", "1", "--out", str(out)]
    assert resnet(command) == 0
    capsys.readouterr()
    assert resnet(command) == 0
    captured = capsys.readouterr()
    assert "is complete already" in captured.err
    assert "epoch 1/1" not in captured.err
    assert "test accuracy" in captured.out


def test_another_configuration_in_the_same_place_names_the_option(out, capsys):
    assert resnet([*FAST, "--arch", "plain", "--epochs", "1", "--out", str(out)]) == 0
    assert resnet([*FAST, "--arch", "plain", "--epochs", "2", "--out", str(out)]) == 2
    assert "epochs: 1 → 2" in capsys.readouterr().err
    assert resnet([*FAST, "--arch", "plain", "--epochs", "2", "--out", str(out), "--overwrite"]) == 0
    assert len(RunDir(out).read_metrics()) == 2


def test_a_diverging_run_ends_with_code_4_and_its_step(out, capsys):
    command = [*FAST, "--arch", "plain", "--depth", "20", "--lr", "1e6", "--epochs", "20", "--out", str(out)]
    assert resnet(command) == 4
    assert "error: training diverged: the loss was not finite at step" in capsys.readouterr().err
    assert resnet(command) == 4


def test_every_option_reaches_the_configuration(out):
    options = {
        "--shortcut": "B", "--seed": "3", "--val-size": "20", "--augment": "crop-flip", "--normalization": "pixel-mean",
        "--epochs": "1", "--batch-size": "64", "--lr": "0.02", "--momentum": "0.8", "--weight-decay": "0.001",
        "--milestones": "1", "--lr-decay": "0.5", "--warmup-steps": "2", "--warmup-lr": "0.001",
        "--clean-train-every": "3", "--gradflow-every": "1", "--precision": "fp32", "--compile": "off",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    assert resnet([*FAST, "--arch", "resnet", *words, "--deterministic", "--out", str(out)]) == 0
    config = RunDir(out).read_record().config.to_dict()
    for option, value in options.items():
        name = option.removeprefix("--").replace("-", "_")
        assert config[name] == ((1,) if name == "milestones" else type(config[name])(value)), option
    assert config["deterministic"] is True
    assert len(RunDir(out).read_gradflow()) == 8


def test_a_run_can_be_measured_in_steps(out):
    assert resnet([*FAST, "--arch", "plain", "--steps", "3", "--out", str(out)]) == 0
    assert RunDir(out).read_summary().last.step == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option"),
        (["--arch", "plain", "--depth", "55"], "depth 55 is not 6n+2 between 8 and 1202; use --depth 50 or 56"),
        (["--arch", "mobile", "--depth", "20"], "'mobile' is not one of 'plain', 'resnet'"),
        (["--arch", "plain", "--depth", "20", "--frobnicate"], "No such option: --frobnicate"),
        (["--arch", "plain", "--depth", "20", "--recipe", "he2016"], "recipe 'he2016' is not known"),
        (["--arch", "plain", "--depth", "20", "--shortcut", "A"], "shortcut 'A' does not fit arch 'plain'"),
        (["--arch", "plain", "--depth", "20", "--lr", "-1"], "lr must be between"),
        (["--arch", "plain", "--depth", "20", "--milestones", "ten"], "--milestones 'ten' is not a list of numbers"),
        (["--arch", "plain", "--depth", "20", "--save-every", "soon"], "--save-every 'soon' is not a duration"),
        (["--arch", "plain", "--depth", "20", "--recipe", "he2015", "--epochs", "9"], "give --milestones in epochs"),
        (["--arch", "plain", "--depth", "8", "--dataset", "imagefolder", "--data-dir", "nowhere"], "nowhere"),
        (["--arch", "plain", "--depth", "8", "--recipe", "demo", "--limit-train", "5000"], "--limit-train 5000"),
    ],
)
def test_wrong_usage_is_one_line_with_exit_code_2_and_leaves_nothing_behind(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert resnet(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_milestones_can_be_switched_off(out):
    assert resnet([*FAST, "--arch", "plain", "--epochs", "1", "--milestones", "none", "--out", str(out)]) == 0
    assert RunDir(out).read_record().config.milestones == ()
