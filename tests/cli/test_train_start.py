"""`resnet train --from RUN` and `--config FILE`: the configuration that they start from, and what options change."""

from pathlib import Path

import pytest

from resnet_cli.cli import train
from resnet_cli.cli.app import run as resnet
from resnet_cli.config_file import config_toml
from resnet_cli.recipes import make_config


@pytest.fixture
def started(monkeypatch):
    """Runs `resnet train` without training; returns the configuration, the directory and the other arguments."""
    seen = []
    monkeypatch.setattr(train, "_run", lambda config, out, options, *, how, **_: seen.append((config, out, how)))

    def start(*arguments):
        assert resnet(["train", *map(str, arguments)]) == 0
        return seen.pop()

    return start


@pytest.fixture
def recorded(make_run, tmp_path):
    return make_run(tmp_path / "runs" / "he", recipe="he2015", arch="plain", depth=56, seed=1)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def test_from_repeats_a_run_on_its_data_and_device(started, recorded, capsys):
    config, out, how = started("--from", recorded.path)
    record = recorded.read_record()
    assert (config, out) == (record.config, recorded.path.parent / "he-repeat")
    assert (how["decisions"], how["recorded_data"]) == (record.decisions, record.dataset)
    assert capsys.readouterr().err == ""


def test_an_option_changes_the_configuration_of_from_and_the_change_is_reported(started, recorded, capsys):
    config, out, how = started("--from", recorded.path, "--seed", 3, "--depth", 110, "--steps", 90_000)
    assert config == make_config("he2015", arch="plain", depth=110, seed=3, steps=90_000)
    assert out.parent == recorded.path.parent
    assert out.name.startswith("cifar10-he2015-plain-110-seed3-")
    assert how["decisions"] == recorded.read_record().decisions
    reported = capsys.readouterr().err
    for change in ("depth: 56 → 110", "seed: 1 → 3", "steps: 64000 → 90000", "warmup_steps: 0 → 400"):
        assert change in reported
    assert "the milestones stay at 32000,48000; --milestones moves them" in reported


def test_initial_weights_are_passed_on_and_change_the_directory_next_to_the_original(started, recorded, tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"any")
    assert started("--arch", "resnet", "--depth", 8, "--init-from", weights)[2]["init_from"] == weights
    _, out, how = started("--from", recorded.path, "--init-from", weights)
    assert how["init_from"] == weights
    assert out.name == "cifar10-he2015-plain-56-seed1-init-d6a7cd2a"  # the first digits of its SHA-256


def test_initial_weights_come_from_the_config_file_unless_an_option_names_others(started, file):
    path = file('arch = "plain"\ndepth = 8\ninit_from = "runs/a"')
    assert started("--config", path)[2]["init_from"] == Path("runs/a")
    assert started("--config", path, "--init-from", "runs/b")[2]["init_from"] == Path("runs/b")


def test_quiet_hides_the_changes_of_from(started, recorded, capsys):
    started("--from", recorded.path, "--seed", 3, "--quiet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("option", "value"), [("--device", "cuda"), ("--precision", "bf16"), ("--compile", "on")])
def test_the_recorded_decisions_do_not_apply_to_other_machine_options(started, recorded, option, value):
    assert started("--from", recorded.path, option, value)[2]["decisions"] is None


def test_the_recorded_folder_does_not_apply_to_another_dataset(started, recorded):
    assert started("--from", recorded.path, "--dataset", "digits")[2]["recorded_data"] is None


def test_a_length_in_the_other_unit_needs_milestones_with_from_too(recorded, capsys):
    assert resnet(["train", "--from", str(recorded.path), "--epochs", "9"]) == 2
    assert "--epochs was given, but the milestones 32000,48000 count steps; give --milestones in epochs too" in (
        capsys.readouterr().err
    )


def test_a_config_file_of_a_whole_configuration_gives_that_configuration(started, file):
    for config in (
        make_config("demo", arch="plain", depth=8, seed=7, milestones=(3,)),
        make_config("report2025", arch="resnet", depth=20, steps=100, milestones=(80,)),
    ):
        text = config_toml(config)
        assert started("--config", file(text))[0] == config
        unknown = text.replace(f'"{config.recipe}"', '"future"')
        assert started("--config", file(unknown))[0].diff(config) == [f"recipe: future → {config.recipe}"]


def test_options_override_a_config_file_which_overrides_the_recipe(started, file):
    path = file('recipe = "he2015"\nlr = 0.2\nseed = 5\nepochs = 9\nmilestones = [4]\narch = "resnet"\nshortcut = "B"')
    config, out, _ = started("--config", path, "--depth", 20, "--seed", 6, "--arch", "plain", "--steps", 50,
                             "--milestones", "none")  # fmt: skip
    assert config == make_config("he2015", arch="plain", depth=20, lr=0.2, seed=6, steps=50, milestones=())
    assert out is None


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("lr = 0.1", "", "missing option --arch"),
        ('arch = "plain"', "", "missing option --depth"),
        ("epoch = 3", "--arch plain --depth 8", "config.toml: unknown key 'epoch'; did you mean epochs"),
        ('arch = "plain"\nshortcut = "A"\ndepth = 8', "", "config.toml: shortcut 'A' does not fit arch 'plain'"),
        ('recipe = "future"\narch = "plain"\ndepth = 8', "", "config.toml: unknown recipe 'future'"),
        ("lr = 0.1", "--from somewhere", "--from and --config cannot be combined"),
        ('lr = 0.1\narch = "plain"\ndepth = 8', "--lr -1", "--lr must be between 0 and 1e6"),
    ],
)
def test_an_unusable_config_file_is_reported_in_one_line(file, text, arguments, message, capsys):
    assert resnet(["train", "--config", str(file(text)), *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
