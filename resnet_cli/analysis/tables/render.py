"""Comparison documents as Markdown, LaTeX, CSV or JSON."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from resnet_cli.analysis.tables.document import NETWORK_COLUMNS
from resnet_cli.analysis.tables.layout import Report, Table, layout
from resnet_cli.util.text import csv_text, json_text, markdown_text

Format = Literal["markdown", "latex", "csv", "json"]

_LATEX = str.maketrans({
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", '"': "''", "`": "\\textasciigrave{}",
    "[": "{[}",  # at the start of a row or an item it would be read as an option
    "−": "$-$", "±": "$\\pm$", "×": "$\\times$", "÷": "$\\div$", "†": "$\\dagger$", "—": "\\textemdash{}",
})  # fmt: skip


def render(document: Mapping[str, Any], format: Format, *, seeds_shown: bool = False) -> str:
    """Convert a document of `study_document` to text that ends with a line break.

    The formats are Markdown with GitHub tables, LaTeX with booktabs tables, CSV with one row per network, and JSON
    with the whole document.
    """
    if format == "json":
        return json_text(document)
    return _csv(document) if format == "csv" else render_report(layout(document, seeds_shown=seeds_shown), format)


def render_report(report: Report, format: Literal["markdown", "latex"]) -> str:
    """Convert tables to Markdown or LaTeX, as `render` does."""
    return _markdown(report) if format == "markdown" else _latex(report)


def _csv(document: Mapping[str, Any]) -> str:
    return csv_table(NETWORK_COLUMNS, document["networks"])


def csv_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as CSV with a header; None becomes an empty cell, and items of a list are separated by blanks.

    Text is written by `csv_text`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, str):
        return csv_text(value)
    return value


def _markdown(report: Report) -> str:
    parts = [_markdown_table(table) for table in report.tables]
    if report.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {markdown_text(note)}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(map(markdown_text, cells))} |"

    rule = "|" + "|".join("---:" if column.align == "right" else ":---" for column in table.columns) + "|"
    head = [f"### {markdown_text(table.title)}", "", line(column.header for column in table.columns), rule]
    notes = "\\\n".join(map(markdown_text, table.footnotes))  # the backslash breaks the line
    return "\n".join([*head, *map(line, table.rows), *(["", notes] if notes else [])])


def _latex(report: Report) -> str:
    parts = ["% needs \\usepackage{booktabs}, \\usepackage{textcomp} and a text width of 16 cm"]
    parts += map(_latex_table, report.tables)
    if report.notes:
        items = "".join(f"\\item {_latex_text(note)}\n" for note in report.notes)
        parts.append(f"\\begin{{itemize}}\n{items}\\end{{itemize}}")
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> str:
    import pandas as pd

    headers = [_latex_header(column.header, column.align[0]) for column in table.columns]
    cells = pd.DataFrame([[_latex_text(cell) for cell in row] for row in table.rows], columns=headers)
    formats = ("p{0.4\\linewidth}" if column.is_text else column.align[0] for column in table.columns)
    tabular = cells.style.hide(axis="index").to_latex(column_format="".join(formats), hrules=True)
    notes = "".join(f"{_latex_text(note)}\\par\n" for note in table.footnotes)
    space = "\n\\smallskip\n" if notes else ""
    return (
        "\\begin{table}\n\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
        f"\\caption{{{_latex_text(table.title)}}}\n{tabular}{space}{notes}\\end{{table}}"
    )


def _latex_header(header: str, align: str) -> str:
    """Stack the words of a header, since it is wider than the numbers below it; units stay next to their quantity."""
    stacked = " \\\\ ".join(_latex_text(word) for word in re.split(r" (?!\S{1,2}(?: |$))", header))
    return f"\\shortstack[{align}]{{{stacked}}}" if "\\\\" in stacked else stacked


def _latex_text(text: str) -> str:
    shown = "".join(c if _is_in_latex(c) else c.encode("unicode_escape").decode() for c in text)
    return shown.translate(_LATEX).replace("--", "-{}-")  # "--" would become a dash


def _is_in_latex(character: str) -> bool:
    """Whether a character is in `_LATEX` or the default fonts: ASCII, and Western European letters with an accent."""
    base = unicodedata.normalize("NFD", character)[0]
    is_in_fonts = character.isprintable() and base.isascii() and ord(character) < 0x100
    return is_in_fonts or ord(character) in _LATEX
