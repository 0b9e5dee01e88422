"""Odd values for every option of every command: a valid result, or one error line that names the option.

`train`, `bench` and `reproduce` are reduced to their parsers; the other commands run.
"""

import importlib.util
import re
import shutil
import string
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from watch import watched

from resnet_cli.config import RunConfig
from resnet_cli.model import CifarNet, build_model
from resnet_cli.util.text import printable

NUM_GENERATED = 12


def _reference():
    """The module docs/commands.py, which reads the options from the signatures of the commands."""
    path = Path(__file__).parents[2] / "docs" / "commands.py"
    spec = importlib.util.spec_from_file_location("docs_commands", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()
COMMANDS = {
    path.removeprefix("resnet "): list(REFERENCE._parameters(command.callback))
    for path, command in REFERENCE._commands("resnet", REFERENCE.app)
}
OPTIONS = [
    pytest.param(command, parameter, id=f"{command} {parameter.kind if parameter.is_argument else parameter.names[0]}")
    for command, parameters in COMMANDS.items()
    for parameter in parameters
]
_FEW_IMAGES = ["--batches", "1", "--batch-size", "4", "--device", "cpu"]
# A valid command line, to which the option under test is added; the files are those of the fixture `here`.
VALID = {
    "train": ["--arch", "plain", "--depth", "8", "--recipe", "demo"],
    "bench": ["--recipe", "demo"],
    "eval": ["weights.pt", "--arch", "plain", "--dataset", "digits", "--limit-test", "10", "--device", "cpu"],
    "compare": ["runs"],
    "report": ["runs"],
    "ls": ["runs"],
    "show": ["runs/run"],
    "diff": ["runs/run", "runs/run"],
    "plot": ["runs"],
    "gradflow": ["--depth", "8", "--arch", "resnet", "--seeds", "1", *_FEW_IMAGES],
    "power": ["--claim", "gap", "--sigma", "1"],
    "probe": ["calibration", "runs/run"],
    "reproduce": ["--print-commands"],
    "export": ["runs/run", "--to", "safetensors"],
    "data fetch": ["digits"],
    "data verify": ["digits"],
    "data show": ["digits"],
}
# options that need another command line
VALID_WITH = {
    ("train", "--from"): [],
    ("export", "--mean"): ["runs/run", "--to", "torch-export"],
    ("export", "--std"): ["runs/run", "--to", "torch-export", "--mean", "0.5,0.5,0.5"],
    ("eval", "--which"): ["runs/run", "--device", "cpu"],
    ("power", "--claim"): ["--sigma", "1"],
    ("power", "--runs"): ["--claim", "gap"],
    ("power", "--sigma"): ["--claim", "gap"],
    ("gradflow", "--runs"): _FEW_IMAGES,
    ("probe", "--subjects"): ["bn", "--device", "cpu", "--images", "10"],
    ("gradflow", "--which"): ["runs/run", *_FEW_IMAGES],
}
PATH_KINDS = ("PATH", "FILE", "RUN")

_ANY = [
    "", " ", "0", "-1", "nan", "--", "-", "--help", "-q", "=", ",", "none", "$HOME", "%s%n", "[red]x[/red]", "[/]",
    "<b>", "'", "\\", "\x1b[31m", "\x9b31m", "a\nb", "\u202e", "\U0001f600", "\udcff", "b" * 70_000,
]  # fmt: skip
_NUMBERS = [
    "-0", "1", "2", "8", "20", "1.5", "1e3", "1e400", "-1e400", "inf", "-inf", "9" * 30, "-" + "9" * 30, "9" * 5000,
    str(2**31), str(2**63), "0x10", "1_000", "٣", "½", "１２", "1e", "+", "true", "None", "\t1",
]  # fmt: skip
_LISTS = [
    *_NUMBERS, "1,", ",1", "1,2", "20,56", "8,14,20", "8,8,8", "0.5,0.5,0.5", "nan,nan,nan", "all", "auto", "1epoch",
    "0min", "9" * 400 + "min", "-test_loss", "test_accuracy_pct", "1 > 0", "1 < 0", "(" * 200, "1/0 > 0",
    "plain-8.test_loss > 0", "plain-8.nothing > 0", "9" * 400 + " > 1", "A", "b", "resnet", "demo", "fig1",
]  # fmt: skip
_PATHS = [
    ".", "runs", "runs/run", "runs/run/run.json/x", "weights.pt", "weights.pt/x", "missing", "missing/deep/er.md",
    "x.png", "x.md", "x.xyz", "n" * 300, "n" * 300 + ".md", "/dev/null", "/dev/null/x.png", "/dev/zero", "/dev/stdin",
    "/proc/self/mem", "C:\\x", "http://x", "~",
]  # fmt: skip


def chosen_values(parameter):
    """Values to try for an option; None: the option without a value."""
    if parameter.is_argument:
        return [value for value in odd_values(parameter) if not value.startswith("-")]  # not an option
    return [*odd_values(parameter), *([None] if parameter.kind else [])]


def odd_values(parameter):
    """Odd values for an option, by its type."""
    if parameter.kind == "":  # a flag
        return ["", "1", "false", "\x1b[31m", "\udcff"]
    if parameter.kind in ("N", "X"):
        return [*_ANY, *_NUMBERS]
    if is_path(parameter):
        return [*_ANY, *_PATHS]
    return [*_ANY, *(_LISTS if is_free_text(parameter) else ["auto", "cuda", "mps", "test", "CPU", "digits ", "A,B"])]


def is_path(parameter):
    return parameter.kind in PATH_KINDS or (parameter.is_argument and parameter.kind != "DATASET")


def is_free_text(parameter):
    return " " not in parameter.kind and parameter.kind != "DATASET"


@pytest.fixture(scope="module")
def here(trained, tmp_path_factory):
    """A folder with a complete run and a bare weight file."""
    folder = tmp_path_factory.mktemp("here")
    shutil.copytree(trained, folder / "runs" / "run")
    torch.save(CifarNet(8, "none").state_dict(), folder / "weights.pt")
    return folder


@pytest.fixture(autouse=True)
def without_training_drawing_or_downloads(here, monkeypatch):
    monkeypatch.chdir(here)
    monkeypatch.setenv("RESNET_DATA", str(here / "data"))
    monkeypatch.setattr("resnet_cli.cli.train._run", lambda *_, **__: None)
    monkeypatch.setattr("resnet_cli.cli.bench._bench", lambda *_, **__: None)
    monkeypatch.setattr("resnet_cli.cli.reproduce._reproduce", lambda *_, **__: None)
    # a study in this folder would refuse the other options of the next command line
    monkeypatch.setattr("resnet_cli.cli.reproduce.record_study", lambda *_, **__: None)
    # first, since this module copies the function when it is imported
    monkeypatch.setattr("resnet_cli.analysis.report.drawings.draw", lambda *_, **__: ([], []))
    monkeypatch.setattr("resnet_cli.analysis.figures.draw", lambda *_, **__: ([], []))
    # of the probes that other tests here measure on the run
    monkeypatch.setattr("resnet_cli.analysis.report.probes.ProbeViews.blocks", lambda *_: [])
    monkeypatch.setattr("resnet_cli.weights.export._write_file", lambda *_: None)
    monkeypatch.setattr("resnet_cli.weights.export._convert", lambda *_: (b"", None))
    # networks of the smallest depth replace those of any valid depth
    monkeypatch.setattr(
        "resnet_cli.model.build_model", lambda arch, _, *rest, **more: build_model(arch, 8, *rest, **more)
    )
    monkeypatch.setattr("urllib.request.OpenerDirector.open", _no_network)


def _no_network(*_, **__):
    raise OSError(101, "Network is unreachable")


def check(capfd, command, parameter, value):
    """Run `command` with `value` for `parameter`; None: the option without a value."""
    name = parameter.names[0]
    args = [*command.split(), *VALID_WITH.get((command, name), VALID[command])]
    if parameter.is_argument:
        args = [part for part in args if part != VALID[command][0]] + [value]
    elif value is None:
        args += [name]
    elif parameter.kind == "":
        args += [f"{name}={value}"]
    else:
        args += [name, value]
    said = watched(capfd, args)
    assert said.code in (0, 2) or (command, name, said.code) in OTHER_CODES, (args, said)
    if said.code in (1, 2):
        assert names(said.errors[0], parameter, value), (args, said.errors[0])


# Other exit codes: 3 for a check that does not hold, 1 for a file that cannot be written.
OTHER_CODES = {
    ("compare", "--assert", 3),
    ("compare", "--out", 1),
    ("gradflow", "--plot", 1),
    ("probe", "--plot", 1),
    ("report", "--out", 1),
    ("reproduce", "--out", 1),
    ("reproduce", "--study", 1),
}


def names(line, parameter, value):
    """Whether a line names the option, its field of the configuration, or the path that it was given."""
    called = parameter.names
    field = parameter.names[0].lstrip("-").replace("-", "_")
    if field in RunConfig.__struct_fields__:
        called.append(field)
    if parameter.is_argument:
        called = [parameter.kind, parameter.kind.rstrip(".").strip("[]")]
    if is_path(parameter):
        called.append(printable(str(Path(value or ""))))
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line) for name in called)


def test_every_command_is_tested_with_bad_options():
    assert VALID.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_to_which_bad_options_are_added_is_valid(capfd, command):
    assert watched(capfd, [*command.split(), *VALID[command]]).code == 0


@pytest.mark.parametrize(("command", "parameter"), OPTIONS)
def test_an_odd_option_value_gives_a_result_or_one_line_that_names_the_option(capfd, command, parameter):
    for value in chosen_values(parameter):
        check(capfd, command, parameter, value)


# a shell cannot pass NUL; bytes that are not UTF-8 arrive as lone surrogates
_ARGUMENT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40) | st.text(
    string.digits + "-+.,e_ " + "\udc80\udcff", max_size=12
)


@pytest.mark.parametrize(("command", "parameter"), OPTIONS)
@settings(
    max_examples=NUM_GENERATED,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=st.integers().map(str) | st.floats().map(str) | _ARGUMENT.filter(lambda text: not text.startswith("/")))
def test_a_generated_option_value_gives_a_result_or_one_line_that_names_the_option(capfd, command, parameter, value):
    assume(not (parameter.is_argument and value.startswith("-")))
    check(capfd, command, parameter, value)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_error_for_an_unknown_option_names_it(capfd, command):
    for name in ("--lrr", "--x\x1b[31m", "-Z", "--arch=", "--\udcff", "--" + "o" * 5000):
        said = watched(capfd, [*command.split(), *VALID[command], name])
        assert said.code == 2
        assert printable(name).rstrip("=")[:40] in said.errors[0]
