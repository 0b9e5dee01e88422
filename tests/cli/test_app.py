"""The entry point: every failure is one line and an exit code, help has runnable examples, pipes may close."""

import itertools
import json
import os
import shlex
import subprocess
import sys

import pytest
import typer

from resnet_cli import __version__, errors
from resnet_cli.cli import app as app_module
from resnet_cli.cli import train
from resnet_cli.cli.app import app, run
from resnet_cli.errors import ExitCode, ResnetError
from resnet_cli.rundir import RunDir

TRAIN = ["train", "--recipe", "demo", "--arch", "plain", "--depth", "8"]
TINY_RUN = [*TRAIN, "--epochs", "1", "--limit-train", "20", "--limit-test", "10"]

FAILURES = [
    (errors.ResnetError("it failed", hint="try again"), "it failed; try again", 1),
    (errors.UsageError("--depths 'x' is not a list"), "--depths 'x' is not a list", 2),
    (errors.ConfigError("--lr is 9", hint="use --lr 0.1"), "--lr is 9; use --lr 0.1", 2),
    (errors.InputError("runs does not exist"), "runs does not exist", 2),
    (errors.RunFileError("run.json cannot be read"), "run.json cannot be read", 2),
    (errors.RankZeroError("rank 0 failed"), "rank 0 failed", 1),
    (errors.CheckFailedError("1 > 2 does not hold"), "1 > 2 does not hold", 3),
    (errors.NotApplicableError("no branches"), "no branches", 2),
    (errors.DivergedError("loss is nan at step 3"), "loss is nan at step 3", 4),
    (FileNotFoundError(2, "No such file or directory", "a.csv"), "a.csv: No such file or directory", 1),
    (OSError(28, "No space left on device"), "No space left on device", 1),
    (OSError("odd"), "OSError: odd; set RESNET_DEBUG=1 for the traceback", 1),
    (ValueError("two\nlines"), r"ValueError: two\nlines; set RESNET_DEBUG=1 for the traceback", 1),
    (typer.BadParameter("no such thing", param_hint="--sort"), "--sort: no such thing", 2),
    (typer.Abort(), "aborted", 1),
]
STOPS = [
    (errors.StoppedError("stopped by SIGTERM at step 3"), "stopped by SIGTERM at step 3", 75),
    (errors.InterruptedByUserError("stopped by SIGINT", hint="run it again"), "stopped by SIGINT; run it again", 130),
    (KeyboardInterrupt(), "stopped by Ctrl-C", 130),
]


@pytest.fixture(autouse=True)
def _without_debugging(monkeypatch):
    monkeypatch.delenv("RESNET_DEBUG", raising=False)


@pytest.fixture
def failing(monkeypatch):
    """Make `resnet train` raise the given error instead of training."""

    def set_up(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(train, "_run", fail)

    return set_up


def python(*arguments, **options):
    """Run Python as a shell starts it, with buffered output, at 80 columns."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "OMP_NUM_THREADS": "1"},
        text=True, check=False, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


class TestFailures:
    @pytest.mark.parametrize(("error", "line", "exit_code"), FAILURES, ids=lambda value: type(value).__name__)
    def test_an_exception_of_a_command_becomes_one_line_and_an_exit_code(self, failing, capsys, error, line, exit_code):
        failing(error)
        assert run(TRAIN) == exit_code
        assert capsys.readouterr() == ("", f"error: {line}\n")

    @pytest.mark.parametrize(("error", "line", "exit_code"), STOPS, ids=lambda value: type(value).__name__)
    def test_a_command_that_a_signal_stopped_does_not_print_an_error(self, failing, capsys, error, line, exit_code):
        failing(error)
        assert run([*TRAIN, "--quiet"]) == exit_code
        assert capsys.readouterr() == ("", f"{line}\n")

    def test_every_error_class_has_an_example_among_the_tested_failures(self):
        assert {type(error) for error, *_ in [*FAILURES, *STOPS]} >= subclasses(ResnetError)

    @pytest.mark.parametrize("command", [["ls", "."], ["reproduce"], ["data", "fetch", "cifar10"]])
    def test_torchrun_can_start_no_other_command_than_train_and_rank_0_says_so(self, monkeypatch, capsys, command):
        address = {"MASTER_ADDR": "here", "MASTER_PORT": "1"}
        for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", **address}.items():
            monkeypatch.setenv(name, value)
        assert run(command) == 2
        assert f"torchrun starts resnet train alone, not resnet {command[0]}; start it" in capsys.readouterr().err
        monkeypatch.setenv("RANK", "1")
        assert run(command) == 2
        assert capsys.readouterr() == ("", "")

    def test_exit_codes_have_the_documented_values(self):
        assert {code.name: int(code) for code in ExitCode} == {
            "DONE": 0, "FAILED": 1, "USAGE": 2, "CHECK_FAILED": 3, "DIVERGED": 4, "STOPPED": 75,
            "BROKEN_PIPE": 141, "CTRL_C": 130,
        }  # fmt: skip

    @pytest.mark.parametrize("error", [errors.UsageError("x"), ValueError("x")])
    def test_resnet_debug_1_raises_the_exception_instead_of_printing_one_line(self, failing, monkeypatch, error):
        failing(error)
        monkeypatch.setenv("RESNET_DEBUG", "0")
        assert run(TRAIN) in (1, 2)
        monkeypatch.setenv("RESNET_DEBUG", "1")
        with pytest.raises(type(error)) as caught:
            run(TRAIN)
        assert caught.value is error

    def test_ctrl_c_exits_with_130_and_no_traceback(self, failing, monkeypatch, capsys):
        failing(KeyboardInterrupt())
        assert run(TRAIN) == 130
        assert capsys.readouterr().err == "stopped by Ctrl-C\n"

        def interrupted_before_a_command_starts(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(app_module, "_parser", lambda: interrupted_before_a_command_starts)
        assert run(TRAIN) == 130
        assert capsys.readouterr().err == "stopped by Ctrl-C\n"

    def test_errors_name_options_on_the_command_line_and_arguments_in_python(self, failing, capsys):
        error = ResnetError("--batch-size 0 in my--run/--x", hint="use --lr 1, or --overwrite")
        failing(error)
        run(TRAIN)
        assert capsys.readouterr().err == "error: --batch-size 0 in my--run/--x; use --lr 1, or --overwrite\n"
        assert str(error) == "batch_size 0 in my--run/--x; use lr 1, or overwrite"

    def test_errors_print_their_hint_after_the_message(self):
        assert str(ResnetError("what", hint="how")) == "what; how"
        assert str(ResnetError("what")) == "what"


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ("trian", "trian"), ("--nosuch", "--nosuch"), ("train --nosuch", "--nosuch"), ("train", "--arch"),
            ("train --arch rsenet", "--arch: 'rsenet' is not one of 'plain', 'resnet'; did you mean resnet?"),
            ("train --shortcut C", "--shortcut: 'C' is not one of 'none', 'A', 'B'"),
            ("train --arch plain --depth many", "--depth must be a valid integer (got 'many')"),
            ("train --arch plan", "--arch: 'plan' is not one of 'plain', 'resnet'"),
            ("train --arch plain --depth 20 --clean-train-every -1", "--clean-train-every must be between 0 and"),
            ("bench --steps 0", "--steps must be greater than or equal to 1 (got '0')"), ("compare", "RUN"),
            ("compare no/such/folder", "no/such/folder does not exist"), ("data nosuch", "nosuch"),
        ],
    )  # fmt: skip
    def test_wrong_usage_is_one_line_that_names_the_problem(self, capsys, arguments, named):
        assert run(arguments.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert named in err
        assert "\\n" not in err
        assert "Value error" not in err

    @pytest.mark.parametrize("arguments", [[], ["data"]])
    def test_without_a_command_the_help_is_printed(self, capsys, arguments):
        assert run(arguments) == 2
        out, err = capsys.readouterr()
        assert "Usage: resnet" in out
        assert err == ""

    def test_the_version_is_printed(self, capsys):
        assert run(["--version"]) == 0
        assert capsys.readouterr() == (f"resnet {__version__}\n", "")

    def test_python_m_resnet_cli_runs_the_same_program(self):
        ended = python("-m", "resnet_cli", "trian")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "trian" in ended.stderr


END_WITH_TORCH = """
import atexit, os, sys, types

class Resource:
    def __del__(self, write=os.write):
        write(1, b"freed\\n")

sys.modules["torch"] = types.ModuleType("torch")
resource = Resource()
atexit.register(print, "handler called")
from resnet_cli.cli.app import main
main()
"""


class TestEnd:
    @pytest.mark.parametrize(("arguments", "exit_code"), [(["--version"], 0), (["trian"], 2)])
    def test_after_its_result_a_command_does_not_wait_until_the_objects_of_torch_are_freed(self, arguments, exit_code):
        ended = python("-c", END_WITH_TORCH, *arguments)
        assert ended.returncode == exit_code
        assert ended.stdout == ("" if exit_code else f"resnet {__version__}\n") + "handler called\n"
        assert ("trian" in ended.stderr) == bool(exit_code)

    def test_resnet_debug_1_ends_the_interpreter_in_the_ordinary_way(self, monkeypatch):
        monkeypatch.setenv("RESNET_DEBUG", "1")
        assert python("-c", END_WITH_TORCH, "--version").stdout.endswith("handler called\nfreed\n")


def commands(command, path=()):
    """Every command of the program with the words that lead to it, groups among them."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ROOT = typer.main.get_command(app)
COMMANDS = {" ".join(path): command for path, command in commands(ROOT)}

READ_ALL_HELP = """
import contextlib, io, json, sys
from resnet_cli.cli.app import run
pages = {}
for command in json.loads(sys.argv[1]):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = run([*command.split(), "--help"])
    pages[command] = {"code": code, "text": text.getvalue(), "torch": "torch" in sys.modules}
print(json.dumps(pages))
"""


def examples(text):
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("resnet ")]


@pytest.fixture(scope="module")
def pages():
    """The help of every command as a terminal of 80 columns shows it, from one fresh process."""
    return json.loads(python("-c", READ_ALL_HELP, json.dumps(list(COMMANDS))).stdout)


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_does_not_import_torch(self, pages, command):
        assert pages[command]["code"] == 0
        assert f"Usage: {' '.join(['resnet', command]).strip()} " in pages[command]["text"]
        assert not pages[command]["torch"]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_examples_in_the_help_can_be_parsed_by_the_command(self, pages, command):
        shown = examples(pages[command]["text"])
        assert shown
        for line in shown:
            words = list(itertools.takewhile(lambda word: word not in ("|", ">"), shlex.split(line)[1:]))
            target = ROOT
            while words and words[0] in getattr(target, "commands", {}):
                target = target.commands[words.pop(0)]
            assert target.make_context("resnet", words).params is not None
            assert line.startswith(f"resnet {command}".strip())

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_option_and_argument_has_a_help_text(self, command):
        parameters = COMMANDS[command].params
        assert [parameter.name for parameter in parameters if not getattr(parameter, "help", None)] == []


class TestPipes:
    @pytest.fixture
    def closed_pipe(self):
        """The writing end of a pipe that nobody reads any more, as after `| head -0`."""
        reading, writing = os.pipe()
        os.close(reading)
        yield writing
        os.close(writing)

    @pytest.fixture
    def run_path(self, make_run, tmp_path):
        return str(make_run(tmp_path / "run", depth=8, predictions=False).path)

    @pytest.mark.parametrize(
        "arguments", ["--version", "train --help", "compare RUN", "compare RUN --json", "compare RUN --format csv"]
    )
    def test_a_result_that_its_reader_did_not_wait_for_ends_with_the_code_of_a_broken_pipe(
        self, run_path, closed_pipe, arguments
    ):
        words = [run_path if word == "RUN" else word for word in arguments.split()]
        ended = python("-m", "resnet_cli", *words, stdout=closed_pipe)
        assert (ended.returncode, ended.stderr) == (141, "")

    def test_a_failed_assertion_keeps_its_exit_code_if_the_pipe_is_closed(self, run_path, closed_pipe):
        ended = python(
            "-m", "resnet_cli", "compare", run_path, "--assert", "resnet-8.test_accuracy_pct > 100", stdout=closed_pipe
        )
        assert ended.returncode == 3

    def test_training_continues_if_nobody_reads_its_output(self, tmp_path, closed_pipe):
        command = ["-m", "resnet_cli", *TINY_RUN, "--out", str(tmp_path / "run")]
        ended = subprocess.run([sys.executable, *command], stdout=closed_pipe, stderr=closed_pipe, check=False)
        assert ended.returncode == 0
        assert RunDir(tmp_path / "run").status() == "complete"

    def test_training_continues_if_its_messages_cannot_be_written(self, tmp_path):
        command = ["-m", "resnet_cli", *TINY_RUN, "--out", str(tmp_path / "run")]
        with open("/dev/full", "w") as full:
            ended = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=full, check=False)
        assert ended.returncode == 0
        assert b"plain-8" in ended.stdout

    @pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&-"])
    def test_streams_that_the_caller_closed_neither_stop_a_command_nor_mix_with_the_result(self, run_path, closed):
        command = f"{sys.executable} -m resnet_cli compare {run_path} --json {closed}"
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert ended.returncode == 0
        assert "Error" not in ended.stderr
        if ended.stdout:
            assert json.loads(ended.stdout)["networks"]

    def test_a_failure_is_reported_even_if_the_pipe_is_closed(self, closed_pipe):
        ended = python("-m", "resnet_cli", "compare", "no/such/folder", stdout=closed_pipe)
        assert (ended.returncode, ended.stderr) == (2, "error: no/such/folder does not exist\n")
