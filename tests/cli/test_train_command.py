"""`resnet train`: its options, what it prints on stdout and stderr, and its exit codes."""

import json

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.rundir import RunDir

FAST = ["train", "--recipe", "demo", "--depth", "8", "--device", "cpu", "--limit-train", "200", "--limit-test", "40"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def test_off_a_terminal_each_epoch_is_one_line_on_stderr_and_the_result_is_on_stdout(out, capsys):
    assert resnet([*FAST, "--arch", "plain", "--epochs", "2", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    epochs = [line for line in captured.err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in epochs] == ["1/2", "2/2"]
    assert all("train err" in line and "test acc" in line and len(line) <= 80 for line in epochs)
    assert "test accuracy" in captured.out
    assert "\x1b" not in captured.out + captured.err


def test_train_json_prints_one_document_and_quiet_suppresses_progress(out, capsys):
    assert (
        resnet(
            [*FAST, "--arch", "resnet", "--epochs", "1", "--warmup-steps", "0", "--out", str(out), "--json", "--quiet"]
        )
        == 0
    )
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["status"] == "complete"
    assert document["summary"]["last"]["epoch"] == 1
    assert document["run"]["config"]["arch"] == "resnet"
    assert RunDir(out).status() == "complete"


def test_a_finished_run_is_reported_and_not_trained_again(out, capsys):
    command = [*FAST, "--arch", "plain", "--epochs", "1", "--out", str(out)]
    assert resnet(command) == 0
    capsys.readouterr()
    assert resnet(command) == 0
    captured = capsys.readouterr()
    assert "is already complete" in captured.err
    assert "epoch 1/1" not in captured.err
    assert "test accuracy" in captured.out


def test_a_directory_of_another_configuration_is_refused_with_the_difference(out, capsys):
    assert resnet([*FAST, "--arch", "plain", "--epochs", "1", "--out", str(out)]) == 0
    assert resnet([*FAST, "--arch", "plain", "--epochs", "2", "--out", str(out)]) == 2
    assert "epochs: 1 → 2" in capsys.readouterr().err
    assert resnet([*FAST, "--arch", "plain", "--epochs", "2", "--out", str(out), "--overwrite"]) == 0
    assert len(RunDir(out).read_metrics()) == 2


def test_a_diverging_run_exits_with_code_4_and_names_its_step(out, capsys):
    command = [*FAST, "--arch", "plain", "--lr", "1e6", "--warmup-steps", "0", "--epochs", "20", "--out", str(out)]
    assert resnet(command) == 4
    assert "error: training diverged: the loss was not finite at step" in capsys.readouterr().err
    assert resnet(command) == 4


def test_every_option_of_train_reaches_the_configuration(out):
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
    assert len(RunDir(out).read_gradflow()) == 2 * 8  # also before training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "missing option --arch"),
        ("--arch plain --depth 55", "depth 55 is not 6n+2 between 8 and 1202; use --depth 50 or 56"),
        ("--arch mobile --depth 20", "'mobile' is not one of 'plain', 'resnet'"),
        ("--arch plain --depth 20 --frobnicate", "no such option: --frobnicate"),
        ("--arch plain --depth 20 --recipe he2016", "unknown recipe 'he2016'"),
        ("--arch plain --depth 20 --shortcut A", "--shortcut 'A' does not fit --arch 'plain'"),
        ("--arch plain --depth 20 --lr -1", "--lr must be between 0 and 1e6 (got -1.0)"),
        ("--arch plain --depth 20 --milestones ten", "--milestones 'ten' is not a list of numbers"),
        ("--arch plain --depth 20 --save-every soon", "--save-every 'soon' is not a valid interval"),
        ("--arch plain --depth 20 --recipe he2015 --epochs 9", "give --milestones in epochs"),
        ("--arch plain --depth 8 --dataset imagefolder --data-dir nowhere", "nowhere"),
        ("--arch plain --depth 8 --recipe demo --limit-train 5000", "--limit-train must be between"),
    ],
)
def test_wrong_usage_of_train_is_one_line_and_writes_nothing(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resnet(["train", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert list(tmp_path.iterdir()) == []
