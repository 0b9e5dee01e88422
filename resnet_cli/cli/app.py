"""Registration of the commands, and translation of their errors into one line and an exit code."""

import atexit
import difflib
import functools
import io
import os
import re
import sys
from typing import Annotated, Any, TextIO

import typer
from typer.main import get_command

from resnet_cli.cli import (
    bench,
    compare,
    data,
    diff,
    evaluate,
    export,
    gradflow,
    ls,
    plot,
    power,
    probe,
    report,
    reproduce,
    show,
    train,
)
from resnet_cli.cli.output import Output, Pipe
from resnet_cli.dist import rank, torchrun
from resnet_cli.errors import DivergedError, ExitCode, RankZeroError, ResnetError, StoppedError, UsageError
from resnet_cli.launch.channel import connect
from resnet_cli.util.spinning import bound_spinning
from resnet_cli.util.text import shorten
from resnet_cli.version import __version__

HELP = """A laboratory for the degradation problem: train plain and residual CIFAR networks and compare them.

Example:

  resnet reproduce --recipe demo
"""

_CTRL_C = "stopped by Ctrl-C"

app = typer.Typer(
    name="resnet",
    help=HELP,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"resnet {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""
    if torchrun() and context.invoked_subcommand != "train":
        raise UsageError(
            f"torchrun starts resnet train alone, not resnet {context.invoked_subcommand}",
            hint="start it without torchrun, or unset RANK and WORLD_SIZE where no torchrun is running",
        )


for name, module in {
    "train": train, "bench": bench, "eval": evaluate, "ls": ls, "show": show, "diff": diff, "compare": compare,
    "plot": plot, "gradflow": gradflow, "probe": probe, "power": power, "reproduce": reproduce,
    "report": report, "export": export,
}.items():  # fmt: skip
    app.command(name, help=module.HELP)(module.command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run a command and exit with its code; entry point of the console script."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by the caller; the next file opened would become a standard stream
            os.open(os.devnull, os.O_RDWR)
    # a terminal or log that is gone must not stop a training
    stdout, stderr = (_open_stream(stream, fd) for fd, stream in ((1, sys.stdout), (2, sys.stderr)))
    sys.stdout, sys.stderr = Pipe(stdout, BrokenPipeError), Pipe(stderr, OSError)
    connect()
    bound_spinning()
    _exit(run(sys.argv[1:]))


def _exit(code: int) -> None:
    """End the process without waiting for the interpreter to free the objects of PyTorch, which takes seconds.

    With `RESNET_DEBUG=1` the interpreter ends in the ordinary way, as profilers need it.
    """
    if "torch" not in sys.modules or os.environ.get("RESNET_DEBUG") == "1":
        raise SystemExit(code)
    atexit._run_exitfuncs()  # temporary files, worker processes
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _open_stream(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(stream, io.TextIOWrapper):  # characters outside the encoding are shown as escapes
        stream.reconfigure(errors="backslashreplace")
    return stream


def run(args: list[str]) -> int:
    """Run one command line and return its exit code; prints an error as one line.

    With `RESNET_DEBUG=1`, exceptions propagate with their traceback.
    """
    try:
        code = _parser()(args, prog_name="resnet", standalone_mode=False)
        if code == ExitCode.CTRL_C:  # typer returns the code of an interrupt that it caught
            Output().stopped(_CTRL_C)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("RESNET_DEBUG") == "1":
            raise
        message, exit_code = translate_error(error)
        if rank() and isinstance(error, UsageError | RankZeroError | DivergedError | StoppedError):
            return exit_code  # rank 0 says the same
        if isinstance(error, StoppedError | KeyboardInterrupt):
            Output().stopped(message)
        elif message:  # empty after a missing command: the help has been printed
            Output().error(message)
        return exit_code
    if not code and isinstance(sys.stdout, Pipe) and sys.stdout.is_lost and sys.stdout.is_needed:
        return ExitCode.BROKEN_PIPE
    return int(code or ExitCode.DONE)


@functools.cache
def _parser() -> Any:
    """The commands with their options, built once per process: that takes longer than to parse a command line."""
    return get_command(app)


def translate_error(error: BaseException) -> tuple[str, int]:
    """One-line message and exit code for an exception that a command raised."""
    match error:
        case ResnetError():
            return error.as_options(), error.exit_code
        case typer.TyperException():
            return _describe_usage_error(error), error.exit_code
        case typer.Abort():
            return "aborted", ExitCode.FAILED
        case KeyboardInterrupt():
            return _CTRL_C, ExitCode.CTRL_C
        case OSError(strerror=str(reason)):
            return f"{error.filename}: {reason}" if error.filename else reason, ExitCode.FAILED
        case _:
            return f"{type(error).__name__}: {error}; set RESNET_DEBUG=1 for the traceback", ExitCode.FAILED


def _describe_usage_error(error: typer.TyperException) -> str:
    """The message of a wrong command line in the form of our own: `--depth must be a valid integer (got 'many')`."""
    text = " ".join(error.format_message().split()).rstrip(".")
    if not text.startswith("Invalid value for "):
        return text[:1].lower() + text[1:]
    name, _, problem = text.removeprefix("Invalid value for ").partition(": ")
    name, problem = name.replace("'", ""), problem.removeprefix("Value error, ")
    kind = problem.removeprefix("Input should be ")
    if kind == problem:
        return f"{name}: {problem}{_suggestion(problem)}"
    # pydantic, with which typer converts values, describes the expected value but omits the given one
    value = error.__cause__.errors()[0]["input"]  # type: ignore[union-attr]
    return f"{name} must be {kind.partition(',')[0]} (got {shorten(repr(value))})"


def _suggestion(problem: str) -> str:
    """The nearest choice to the value in `'rsenet' is not one of 'plain', 'resnet'`, as a question; or nothing."""
    value, _, choices = problem.partition(" is not one of ")
    similar = difflib.get_close_matches(value.strip("'"), re.findall("'([^']+)'", choices), n=1)
    return f"; did you mean {similar[0]}?" if similar else ""
