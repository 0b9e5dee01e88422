"""`resnet show`: one run in full."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import Json, Quiet
from resnet_cli.cli.output import Output
from resnet_cli.errors import UsageError
from resnet_cli.util.text import duration, printable, shorten, value_text

if TYPE_CHECKING:
    from resnet_cli.analysis.inspection import RunInspection
    from resnet_cli.rundir import DatasetRecord, RunRecord

HELP = """Show one run in full: progress, results, configuration, environment, attempts and files.

Settings that differ from the recipe are shown next to the recipe's value.
The last lines are the commands that repeat and resume the run.

Examples:

  resnet show runs/resnet-56

  resnet show runs/resnet-56 --toml > resnet-56.toml

  resnet show runs/resnet-56 --json
"""

_MOST_LINES = 50  # of attempts and files
_FROM_PYTHON = "  none: the images came from Python; pass them again to resnet_cli.train(config, dataset=(train, test))"


def command(
    run: Annotated[
        Path, typer.Argument(help="Run directory.", metavar="RUN", show_default=False, autocompletion=complete_runs)
    ],
    *,
    toml: Annotated[
        bool,
        typer.Option("--toml", help="Print only the configuration, as TOML.", rich_help_panel="Output"),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    import msgspec

    from resnet_cli.analysis.inspection import inspect_run
    from resnet_cli.config_file import config_toml
    from resnet_cli.rundir import RunDir

    if toml and json:
        raise UsageError("--toml and --json cannot be combined", hint="remove one of them")
    output = Output(json=json, quiet=quiet)
    if toml:
        directory = RunDir(run)
        record = directory.read_record()
        output.raw(config_toml(record.config, init_from=directory.init_weights_path if record.init_from else None))
        return
    shown = inspect_run(RunDir(run))
    for problem in shown.problems:
        output.warn(problem)
    output.result(msgspec.to_builtins(shown), Group(*_parts(shown)))
    if not json:  # as raw text, which no terminal wraps with line breaks of its own
        lines = [f"  {name}  {printable(line)}" for name, line in shown.commands.items()]
        output.raw("\n".join(["Commands", *(lines or [_FROM_PYTHON])]))


def _parts(shown: "RunInspection") -> Iterator[RenderableType]:
    from rich.filesize import decimal

    from resnet_cli.cli.views import facts, result_rows

    record = shown.run
    end = shown.summary or shown.divergence
    yield facts(
        f"{record.config.network} on {record.dataset.display_name}, seed {record.config.seed}",
        [
            ("status", _status(shown)), ("path", shown.path), ("created", record.created_at),
            *([("finished", end.finished_at)] if end else []),
            *([("initial weights", record.init_from.path)] if record.init_from else []),
        ],
    )  # fmt: skip
    if shown.last and shown.best:
        chosen_on = "test" if shown.best.val_error_pct is None else "validation"
        headers, *rows = result_rows(shown.last, shown.best)
        yield facts(f"Results (* chosen on the {chosen_on} set)", rows, headers=headers, are_numbers=True)
    yield facts(f"Configuration: recipe {record.config.recipe}", _configuration(shown))
    yield facts("Data", _data(record.dataset))
    yield facts("Environment", _environment(record))
    if shown.attempts:
        yield facts("Attempts", _limited([(one["started_at"], _attempt(one)) for one in shown.attempts]))
    yield facts("Files", _limited([(name, decimal(size)) for name, size in shown.files.items()]))


def _status(shown: "RunInspection") -> str:
    progress = f"epoch {shown.epoch} of {shown.num_epochs}"
    if shown.saved_step is not None:
        progress += f", saved at step {shown.saved_step:,} of {shown.num_steps:,}"
    if shown.summary:
        times = (duration(seconds) for seconds in (shown.summary.train_seconds, shown.summary.eval_seconds))
        return "complete: {} epochs, trained for {}, evaluated for {}".format(shown.epoch, *times)
    if shown.divergence:
        return f"diverged: {shown.reason}"
    left = ""
    if shown.seconds_left is not None and shown.seconds_per_epoch is not None:
        left = f", about {duration(shown.seconds_left)} left at {duration(shown.seconds_per_epoch)} per epoch"
    return f"{shown.status}: {progress}{left}"


def _configuration(shown: "RunInspection") -> list[tuple[str, str, str]]:
    rows = []
    for name, value in shown.run.config.to_dict().items():
        other = shown.recipe_differences.get(name)
        rows.append((name, value_text(value), f"recipe: {value_text(other['recipe'])}" if other else ""))
    return rows[1:]  # the recipe is in the title


def _data(data: "DatasetRecord") -> list[tuple[str, str]]:
    images = f"{data.num_train:,} training, {data.num_val:,} validation, {data.num_test:,} test"
    return [
        ("images", f"{images}; {data.image_size}×{data.image_size} pixels, {len(data.classes)} classes"),
        ("fingerprint", shorten(data.fingerprint, 17)),
        ("folder", data.location or "embedded"),
    ]


def _environment(record: "RunRecord") -> list[tuple[str, str]]:
    versions = [(name, value_text(value)) for name, value in record.environment.items()]
    decisions = [(name, f"{one.value} ({one.reason})") for name, one in record.decisions.items()]
    return [("tool_version", record.tool_version), *versions, *decisions]


def _attempt(attempt: Mapping[str, Any]) -> str:
    environment = attempt["environment"]
    return (
        f"from step {attempt['step']}, version {attempt['tool_version']}, torch {environment.get('torch')}, "
        f"{environment.get('device_name')}"
    )


def _limited(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    hidden = len(rows) - _MOST_LINES
    return [*rows[:_MOST_LINES], *([("…", f"and {hidden:,} more")] if hidden > 0 else [])]
