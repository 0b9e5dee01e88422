"""Tables that several commands print."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill, wrap
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from resnet_cli.rundir import EpochMetrics, RunRecord, Summary
from resnet_cli.util.text import duration, printable

if TYPE_CHECKING:
    from resnet_cli.analysis.tables import Report
    from resnet_cli.analysis.tables import Table as TextTable

_GAP = 2  # blanks between two columns


def summary_table(record: RunRecord, summary: Summary, path: Path) -> Table:
    """Table of the last and best results of a run."""
    title = f"{record.config.network} on {printable(record.dataset.display_name)}"
    table = Table(title=title, title_justify="left", box=None)
    headers, *rows = result_rows(summary.last, summary.best)
    for index, header in enumerate(headers):
        table.add_column(header or "measure", justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    table.caption = Text(
        f"* chosen on the {summary.best_chosen_on} set; trained for {duration(summary.train_seconds)}, "
        f"evaluated for {duration(summary.eval_seconds)}\n{printable(str(path))}",
        justify="left",
    )
    return table


def result_rows(last: EpochMetrics, best: EpochMetrics) -> list[tuple[str, str, str]]:
    """Headers, then one row for each measure of two epochs that one of them has."""
    rows = [("", f"last (epoch {last.epoch})", f"best (epoch {best.epoch})*")]
    for label, name in {
        "test accuracy": "test_accuracy_pct", "test error": "test_error_pct", "validation error": "val_error_pct",
        "training error": "train_error_pct", "clean training error": "train_clean_error_pct",
    }.items():  # fmt: skip
        values = [getattr(source, name) for source in (last, best)]
        if any(value is not None for value in values):
            of_last, of_best = ("—" if value is None else f"{value:.2f} %" for value in values)
            rows.append((label, of_last, of_best))
    return rows


def facts(
    title: str, rows: Sequence[Sequence[str]], *, headers: Sequence[str] = (), are_numbers: bool = False
) -> RenderableType:
    """A titled list of names and values, which wrap where they do not fit; numbers are aligned on the right."""
    table = Table(box=None, show_header=bool(headers), show_edge=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for index in range(max(map(len, rows), default=1)):
        header = Text(headers[index]) if headers else ""
        table.add_column(header, justify="right" if are_numbers and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return Group(Text(printable(title), style="bold"), Padding(table, (0, 0, 0, 2), expand=False), Text())


class ReportView:
    """The tables of a comparison on a console of any width.

    If a table is too wide, its least important columns are hidden and listed below it; numbers are never truncated.
    """

    def __init__(self, report: "Report") -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for index, table in enumerate(self.report.tables):
            if index:
                yield Text()
            yield from self.parts(table, options.max_width)
        if self.report.notes:
            yield Text()
        for note in self.report.notes:
            yield Text(printable(f"note: {note}"))

    def parts(self, table: "TextTable", width: int) -> Iterator[RenderableType]:
        """Lay out one table."""
        yield from _table_parts(table, width)


class ClaimsView(ReportView):
    """Verdicts on a console of any width.

    Numbers of a claim are on one line: the columns before the first text column. Below it is the text of that column,
    the reason for the verdict. The other columns are for files.
    """

    def parts(self, table: "TextTable", width: int) -> Iterator[RenderableType]:
        """Lay out one table."""
        reason = next(i for i, column in enumerate(table.columns) if column.is_text)
        numbers = type(table)(table.title, table.columns[:reason], tuple(row[:reason] for row in table.rows))
        lines, hidden = listing(numbers, width)
        num_headers = len(lines) - len(table.rows)
        yield Text(printable(table.title), style="bold")
        yield Text("\n".join(lines[:num_headers]))
        for line, row in zip(lines[num_headers:], table.rows, strict=True):
            yield Text(f"{line}\n{_indented(row[reason], width)}")
        notes = [f"Columns hidden at this width: {', '.join(hidden)}."] if hidden else []
        yield Text()
        yield from (Text(printable(note), style="dim") for note in (*notes, *table.footnotes))


def _indented(text: str, width: int) -> str:
    indent = " " * 4
    return fill(
        printable(text), max(width, 40), initial_indent=indent, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def listing(table: "TextTable", width: int | None) -> tuple[list[str], list[str]]:
    """Lay out a table as aligned lines without rules, for lists of any length and for pipes.

    Args:
        table: without text columns.
        width: columns of the terminal; None: no limit. If it is too narrow, the least important columns are hidden.

    Returns:
        The lines, of which the first ones are headers; the headers of the hidden columns.
    """
    rows = [[printable(cell) for cell in row] for row in table.rows]
    widths = _column_widths(table, rows, width)
    headers = [wrap(table.columns[index].header, least, break_long_words=False) for index, least in widths.items()]
    height = max(map(len, headers))
    above = zip(*([""] * (height - len(words)) + words for words in headers), strict=True)
    shown = [[row[index] for index in widths] for row in rows]
    aligns = [table.columns[index].align for index in widths]
    lines = [(" " * _GAP).join(map(_padded, cells, widths.values(), aligns)).rstrip() for cells in [*above, *shown]]
    return lines, [column.header for index, column in enumerate(table.columns) if index not in widths]


def _padded(cell: str, width: int, align: str) -> str:
    space = " " * max(0, width - cell_len(cell))
    return space + cell if align == "right" else cell + space


def _table_parts(table: "TextTable", width: int) -> list[RenderableType]:
    rows = [[printable(cell) for cell in row] for row in table.rows]
    widths = _column_widths(table, rows, width)
    # where text has to wrap, rich chooses the widths
    is_free = sum(widths.values()) + _GAP * (len(widths) - 1) > width or any(column.is_text for column in table.columns)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for index, column_width in widths.items():
        column = table.columns[index]
        grid.add_column(
            Text(column.header), justify=column.align, overflow="fold", width=None if is_free else column_width
        )
    for row in rows:
        grid.add_row(*(Text(row[index]) for index in widths))
    notes = list(table.footnotes)
    if hidden := [column.header for index, column in enumerate(table.columns) if index not in widths]:
        notes.append(f"Columns hidden at this width: {', '.join(hidden)}.")
    return [Text(printable(table.title), style="bold"), grid, *(Text(printable(note), style="dim") for note in notes)]


def _column_widths(table: "TextTable", rows: Sequence[Sequence[str]], width: int | None) -> dict[int, int]:
    """Map the columns to show to their widths; the sum exceeds `width` only if no more columns can be hidden."""

    def total() -> int:
        return sum(widths.values()) + _GAP * (len(widths) - 1)

    columns = table.columns
    widths = {
        i: max(map(cell_len, [*column.header.split(), *(row[i] for row in rows)]), default=0)
        for i, column in enumerate(columns)
    }
    limit = sys.maxsize if width is None else width
    for i in sorted(widths, key=lambda i: -columns[i].rank):
        if total() > limit and columns[i].rank > 0:
            del widths[i]
    # The remaining width keeps headers on one line, starting from the left.
    for i, least in list(widths.items()):
        widths[i] = least + min(max(0, cell_len(columns[i].header) - least), max(0, limit - total()))
    return widths
