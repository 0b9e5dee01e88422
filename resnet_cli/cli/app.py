"""Registers the commands and maps what they raise to one line and an exit code."""

import io
import os
import sys
from typing import Annotated

import typer

from resnet_cli import __version__
from resnet_cli.cli.output import Output
from resnet_cli.errors import ExitCode, ResnetError

HELP = """A laboratory for the degradation problem: train plain and residual CIFAR networks and compare them.

Example:

  resnet reproduce --recipe demo
"""

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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def _register() -> None:
    from resnet_cli.cli import bench, compare, data, evaluate, gradflow, plot, reproduce, train

    app.command("train", help=train.HELP)(train.command)
    app.command("bench", help=bench.HELP)(bench.command)
    app.command("eval", help=evaluate.HELP)(evaluate.command)
    app.command("compare", help=compare.HELP)(compare.command)
    app.command("plot", help=plot.HELP)(plot.command)
    app.command("gradflow", help=gradflow.HELP)(gradflow.command)
    app.command("reproduce", help=reproduce.HELP)(reproduce.command)
    app.add_typer(data.app, name="data")


_register()


def main() -> None:
    """Entry point of the console script: runs a command and exits with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that does not know a character shows its number
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line and return its exit code; prints errors as one line each.

    `RESNET_DEBUG=1` lets exceptions through with their traceback.
    """
    try:
        code = app(args, prog_name="resnet", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # the reader (head, less) has seen enough; typer and rich turn that into SystemExit(1), nothing else does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("RESNET_DEBUG") == "1":
            raise
        message, exit_code = explain(error)
        if message:  # where a command is missing, the help was the message
            Output().error(message)
        return exit_code
    return int(code or ExitCode.DONE)


def explain(error: BaseException) -> tuple[str, int]:
    """The one line and the exit code for what a command raised."""
    match error:
        case ResnetError():
            return str(error), error.exit_code
        case typer.TyperException():
            return " ".join(error.format_message().split()), error.exit_code
        case typer.Abort():
            return "aborted", ExitCode.FAILED
        case KeyboardInterrupt():
            return "interrupted", ExitCode.CTRL_C
        case OSError(strerror=str(reason)):
            return f"{error.filename}: {reason}" if error.filename else reason, ExitCode.FAILED
        case _:
            return f"{type(error).__name__}: {error}; RESNET_DEBUG=1 shows where", ExitCode.FAILED
