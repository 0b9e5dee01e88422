"""`resnet ls`: one line per run."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import Json, Quiet, sort_option
from resnet_cli.cli.output import Output
from resnet_cli.errors import UsageError
from resnet_cli.util.text import shorten_middle

if TYPE_CHECKING:
    from resnet_cli.analysis.tables import Column, Table

HELP = """List runs: one line per run, newest first, whatever their state.

Results are from the last recorded epoch: test accuracy, and clean training error if that epoch measured it.
Unfinished runs also show the step of their checkpoint. A narrow terminal shortens long paths in the middle.
Damaged runs are listed too, with the reason on stderr.

A filter is a list of conditions, each with = != < > <= or >=. A run is listed if all of them hold.
The columns are those of --format csv: options of resnet train (depth, batch_size) and results (test_accuracy_pct).
In text, * matches anything; none matches a missing value.

Examples:

  resnet ls

  resnet ls runs --filter "depth=56 status=complete" --sort=-test_accuracy_pct

  resnet ls --filter "network=plain-* lr<0.1 created_at>=2026-01-31"

  resnet ls --format csv > runs.csv
"""

_DEFAULT = Path("runs")
# Most characters of the changes and of the path, from wide to narrow terminals.
_LIMITS = ((1000, 1000), (40, 1000), (24, 1000), (24, 40), (12, 32), (12, 24), (12, 20))
_UNITS = {"d": 86_400, "h": 3600, "min": 60}  # seconds


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run directories, or folders to search for them (default: runs).", metavar="RUN", show_default=False,
            autocompletion=complete_runs,
        ),
    ] = None,
    *,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="CONDITIONS", show_default=False,
            help='List only runs for which all conditions hold, for example "depth=56 status=complete". '
            "Can be given several times.",
        ),
    ] = None,
    sort: Annotated[str | None, sort_option("newest first")] = None,
    format: Annotated[
        Literal["table", "csv"],
        typer.Option(help="Output format; csv has all columns.", rich_help_panel="Output"),
    ] = "table",
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    from resnet_cli.analysis.overview import OVERVIEW_COLUMNS, overview_row, read_state
    from resnet_cli.analysis.selection import parse_filters, parse_sort, sort_rows
    from resnet_cli.analysis.tables import csv_table
    from resnet_cli.rundir import find_runs

    # Errors in options are reported before any run is read.
    if json and format != "table":
        raise UsageError(f"--json and --format {format} cannot be combined", hint="remove one of them")
    column, is_descending = parse_sort(sort, OVERVIEW_COLUMNS)
    conditions = parse_filters(filters or [], OVERVIEW_COLUMNS)

    output = Output(json=json, quiet=quiet)
    found = find_runs([_DEFAULT] if paths is None else paths) if paths or _DEFAULT.is_dir() else []
    rows = [overview_row(read_state(run)) for run in found]
    rows = [row for row in rows if all(condition.holds(row) for condition in conditions)]
    rows = sort_rows(sort_rows(rows, "created_at", is_descending=True), column, is_descending)
    if json:
        output.result({"runs": rows}, None)
    elif format == "csv":
        output.raw(csv_table(tuple(OVERVIEW_COLUMNS), rows))
    elif rows:
        _print(output, rows)
    else:
        output.note("no run matches --filter" if found else "no runs yet; start one with resnet train")
    for row in rows:
        if row["reason"] and row["status"] != "diverged":  # a damaged file
            output.warn(f"{row['path']}: {row['reason']}")


def _print(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    from resnet_cli.cli.views import listing

    width = output.stdout.width if output.stdout.is_terminal else None
    layouts = []
    for most_changes, longest_path in _LIMITS:
        layouts.append(listing(_table(rows, most_changes, longest_path), width))
        if not layouts[-1][1]:
            break
    lines, hidden = min(layouts, key=lambda layout: len(layout[1]))
    output.raw("\n".join(lines))
    if hidden:
        output.note(f"columns hidden at this width: {', '.join(hidden)}")


def _table(rows: Sequence[Mapping[str, Any]], most_changes: int, longest_path: int) -> "Table":
    from resnet_cli.analysis.tables import Table

    now = datetime.datetime.now(datetime.UTC)
    cells = (_cells(row, most_changes, longest_path, now) for row in rows)
    return Table("", _columns(), tuple(cells)).without_empty_columns()


def _columns() -> "tuple[Column, ...]":
    from resnet_cli.analysis.tables import Column

    return (
        Column("status", "left"), Column("epoch", rank=2), Column("saved step", rank=7),
        Column("network", "left", rank=1), Column("recipe", "left", rank=5), Column("changes", "left", rank=4),
        Column("seed", rank=6), Column("test acc %"), Column("clean err %", rank=3), Column("age", rank=8),
        Column("size", rank=9), Column("path", "left"),
    )  # fmt: skip


def _cells(row: Mapping[str, Any], most_changes: int, longest_path: int, now: datetime.datetime) -> tuple[str, ...]:
    from resnet_cli.analysis.tables.layout import MISSING

    is_readable = row["network"] is not None
    values = (
        row["status"], f"{row['epoch'] or 0}/{row['num_epochs']}" if is_readable else None, row["saved_step"],
        row["network"],
        row["recipe"], _shortened(row["changes"], most_changes) if is_readable else None, row["seed"],
        _percentage(row["test_accuracy_pct"]), _percentage(row["train_clean_error_pct"]),
        _age(row["created_at"], now), _size(row["size_bytes"]),
        shorten_middle(row["path"], longest_path),
    )  # fmt: skip
    return tuple(MISSING if value is None or value == "" else str(value) for value in values)


def _percentage(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _shortened(changes: str, most: int) -> str:
    """As many changes as fit into `most` characters, and the number of the others."""
    words = changes.split()
    kept = list(words)
    while kept and len(" ".join(kept)) + 3 * (len(kept) < len(words)) > most:
        kept.pop()
    return " ".join([*kept, *([f"+{len(words) - len(kept)}"] if len(kept) < len(words) else [])])


def _size(num_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(num_bytes, precision=0)


def _age(created_at: str | None, now: datetime.datetime) -> str | None:
    try:
        seconds = (now - datetime.datetime.fromisoformat(created_at or "")).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: without time zone
        return None
    for unit, size in _UNITS.items():
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
