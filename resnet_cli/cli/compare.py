"""`resnet compare`: Table 1, the gaps and their statistics over seeds, beside the published numbers."""

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from resnet_cli.cli.options import Json, Quiet, RunPaths
from resnet_cli.cli.output import Output
from resnet_cli.errors import CheckFailedError, InputError, UsageError
from resnet_cli.util.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from resnet_cli.analysis.assertions import AssertionResult
    from resnet_cli.analysis.tables import Report, Table

OutFormat = Literal["table", "markdown", "latex", "csv", "json"]

HELP = """Join runs into Table 1 and the gaps between plain and residual networks, over any number of seeds.

Runs of different datasets or recipes get tables of their own.
Incomplete, diverged and unreadable runs are listed and never averaged in.
A check that does not hold ends the command with exit code 3.

Examples:

  resnet compare runs

  resnet compare runs/plain-* runs/resnet-* --sort=-test_accuracy_pct

  resnet compare runs --out table1.tex

  resnet compare runs --format csv > networks.csv

  resnet compare runs --assert "resnet-56.test_accuracy_pct > 92"

  resnet compare runs --assert "plain-56.test_loss > plain-20.test_loss"
"""

_SUFFIXES: Mapping[str, OutFormat] = {
    ".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".txt": "table",
}  # fmt: skip
_FILE_WIDTH = 120
_GAP = 2  # blanks between two columns


def command(
    runs: RunPaths,
    *,
    format: Annotated[
        OutFormat | None,
        typer.Option(
            help="How to write it; csv has one row per network, json everything. Default: by the suffix of --out, "
            "else table.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Order networks by a column of the csv format; with - before it, descending. "
            "Default: by depth, plain before residual.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write to FILE instead: .md .tex .csv .json .txt.", show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    checks: Annotated[
        list[str] | None,
        typer.Option(
            "--assert",
            metavar="CHECK",
            help="Exit 3 unless it holds: NETWORK.COLUMN and numbers with + - * / ( ), compared by "
            "> >= < <= == or !=. May be given several times.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    from resnet_cli.analysis.assertions import parse_assertion
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.analysis.tables import check_sort_column, study_document

    # whatever is wrong with the command line is told before any run is read
    shown, written = _formats(format, out, json)
    check_sort_column(sort)
    parsed = [parse_assertion(text) for text in checks or []]

    output = Output(json=shown == "json", quiet=quiet)
    study = load_study(runs)
    document = study_document(study, sort=sort)
    if not study.runs:
        _show_only_skipped(output, document, shown)
        found = f"{len(study.skipped)} run{'s' if len(study.skipped) > 1 else ''}"
        raise InputError(f"none of the {found} found is complete", hint="finish one with resnet train")
    results = [check.evaluate(document["networks"]) for check in parsed]
    document["checks"] = msgspec.to_builtins(results)
    if out is not None and written is not None:
        _write(out, document, written)
        output.note(f"wrote {out}")
    _print(output, document, shown)
    if "csv" in (shown, written) and study.skipped:
        output.warn(f"runs left out: {len(study.skipped)}; --format table tells which and why")
    _report_checks(output, results, shown)


def _formats(format: OutFormat | None, out: Path | None, as_json: bool) -> tuple[OutFormat | None, OutFormat | None]:
    """What goes to stdout and what goes to the file, None for nothing; raises what is wrong with the options."""
    if out is None:
        if as_json and format not in (None, "json"):
            raise UsageError(f"--json and --format {format} contradict each other", hint="drop one of them")
        return ("json" if as_json else format or "table"), None
    written = format or _SUFFIXES.get(out.suffix.lower()) or ("json" if as_json else None)
    if written is None:
        raise UsageError(f"--out {out} has no suffix of a known format", hint=f"use {' '.join(_SUFFIXES)} or --format")
    if not os.path.isdir(out.parent):
        raise InputError(f"--out {out}: folder {out.parent} does not exist", hint="make it first")
    if os.path.isdir(out):
        raise InputError(f"--out {out} is a folder", hint=f"give a file in it, {out / 'table1.md'}")
    return ("json" if as_json else None), written


def _print(output: Output, document: Mapping[str, Any], shown: OutFormat | None) -> None:
    from resnet_cli.analysis.tables import layout, render_document

    if shown == "json" or shown == "table":  # noqa: PLR1714 - mypy narrows this one
        output.result(document, ReportView(layout(document)))
    elif shown is not None:
        output.raw(render_document(document, shown))


def _write(out: Path, document: Mapping[str, Any], written: OutFormat) -> None:
    from rich.console import Console

    from resnet_cli.analysis.tables import layout, render_document
    from resnet_cli.util.files import write_atomic

    if written == "table":
        console = Console(file=StringIO(), width=_FILE_WIDTH, highlight=False, color_system=None)
        with console.capture() as capture:
            console.print(ReportView(layout(document)))
        text = "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
    else:
        text = render_document(document, written)
    write_atomic(out, text.encode())


def _show_only_skipped(output: Output, document: Mapping[str, Any], shown: OutFormat | None) -> None:
    from resnet_cli.analysis.tables import layout

    view = ReportView(layout(document))
    if shown in ("json", "table"):
        output.result(document, view)
    else:
        output.stderr.print(view)


def _report_checks(output: Output, results: Sequence["AssertionResult"], shown: OutFormat | None) -> None:
    """Say what came of every check, then raise `CheckFailedError` when one does not hold."""
    from rich.text import Text

    failed = [result for result in results if not result.holds]
    for result in results:
        line = f"{'holds' if result.holds else 'does not hold'}: {_told(result)}"
        if shown in ("table", None):
            output.stdout.print(Text(printable(line), style="green" if result.holds else "red"))
        elif shown != "json":
            output.note(line)  # stdout is a file format
    if failed:
        verb = "does" if len(failed) == 1 else "do"
        raise CheckFailedError(f"{len(failed)} of {len(results)} checks {verb} not hold: {_told(failed[0])}")


def _told(result: "AssertionResult") -> str:
    sides = " against ".join("no value" if side is None else f"{side:.6g}" for side in (result.left, result.right))
    return f"{result.check} ({sides}{f': {result.reason}' if result.reason else ''})"


class ReportView:
    """Shows the tables of a comparison on a console of any width.

    Where a table is too wide, its least important columns are left out and named below it; no
    number is ever cut.
    """

    def __init__(self, report: "Report") -> None:
        self.report = report

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        for index, table in enumerate(self.report.tables):
            if index:
                yield Text()
            yield from _table_parts(table, options.max_width)
        if self.report.notes:
            yield Text()
        for note in self.report.notes:
            yield Text(printable(f"note: {note}"))


def _table_parts(table: "Table", width: int) -> list["RenderableType"]:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    widths = _column_widths(table, width)
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for index, column_width in widths.items():
        column = table.columns[index]
        grid.add_column(
            Text(column.header), justify=column.align, vertical="top", overflow="fold", width=column_width,
        )  # fmt: skip
    for row in table.rows:
        grid.add_row(*(Text(printable(row[index])) for index in widths))
    parts: list[RenderableType] = [Text(printable(table.title), style="bold"), grid]
    hidden = [column.header for index, column in enumerate(table.columns) if index not in widths]
    notes = list(table.footnotes)
    if hidden:
        notes.append(f"Left out at this width: {', '.join(hidden)}.")
    return parts + [Text(printable(note), style="dim") for note in notes]


def _column_widths(table: "Table", width: int) -> dict[int, int | None]:
    """The columns to show and how wide; None leaves it to rich, which then wraps text."""
    from rich.cells import cell_len

    from resnet_cli.analysis.tables.layout import MISSING

    def total(widths: Mapping[int, int]) -> int:
        return sum(widths.values()) + _GAP * (len(widths) - 1)

    columns = table.columns
    cells = [max((cell_len(printable(row[i])) for row in table.rows), default=0) for i in range(len(columns))]
    words = [max(cell_len(word) for word in column.header.split()) for column in columns]
    widths = {i: max(cells[i], words[i]) for i in range(len(columns))}
    # a column of dashes is the first to go
    is_empty = [bool(table.rows) and all(row[i] == MISSING for row in table.rows) for i in range(len(columns))]
    for i in sorted(widths, key=lambda i: (not is_empty[i], -columns[i].rank)):
        if total(widths) > width and (columns[i].rank > 0 or is_empty[i]):
            del widths[i]
    if total(widths) > width or any(column.is_text for column in columns):
        return dict.fromkeys(widths)
    # what is left over lets headers stay on one line, from the left
    for i, least in list(widths.items()):
        widths[i] = least + min(max(0, cell_len(columns[i].header) - least), width - total(widths))
    return dict(widths)
