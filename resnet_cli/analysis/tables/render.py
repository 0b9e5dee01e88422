"""Writes a laid-out comparison as Markdown or LaTeX, and its document as CSV or JSON."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Literal

from resnet_cli.analysis.tables.document import NETWORK_COLUMNS
from resnet_cli.analysis.tables.layout import Column, Report, Table, layout
from resnet_cli.util.text import json_text

Format = Literal["markdown", "latex", "csv", "json"]

_MARKDOWN = {"|": "\\|", "\\": "\\\\", "`": "\\`", "*": "\\*", "_": "\\_", "~": "\\~", "<": "&lt;", "&": "&amp;"}
_LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", '"': "''", "`": "\\textasciigrave{}",
    "[": "{[}",  # at the start of a row or an item it would be taken for an option
    "−": "$-$", "±": "$\\pm$", "×": "$\\times$", "÷": "$\\div$", "†": "$\\dagger$", "—": "\\textemdash{}",
}  # fmt: skip

_TIE = "\N{NO-BREAK SPACE}"


def render_document(document: Mapping[str, Any], format: Format) -> str:
    """A document of `study_document` (it may have more keys) as text in one of `FORMATS`."""
    return FORMATS[format](document)


def _json(document: Mapping[str, Any]) -> str:
    return json_text(document)


def _csv(document: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NETWORK_COLUMNS)
    for row in document["networks"]:
        writer.writerow(_csv_cell(row[name]) for name in NETWORK_COLUMNS)
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, str):
        return _visible(value)
    return "" if value is None or value != value else value  # noqa: PLR0124 - NaN alone differs from itself


def _markdown(document: Mapping[str, Any]) -> str:
    report = layout(document)
    parts = [_markdown_table(table) for table in report.tables]
    if report.notes:
        parts.append("Notes:\n\n" + "\n".join(f"- {_markdown_text(note)}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return f"| {' | '.join(_markdown_text(cell) for cell in cells)} |"

    rule = "|" + "|".join("---:" if column.align == "right" else ":---" for column in table.columns) + "|"
    head = [f"### {_markdown_text(table.title)}", "", line(tuple(column.header for column in table.columns)), rule]
    # a backslash at the end of a line breaks it
    notes = "\\\n".join(_markdown_text(note) for note in table.footnotes)
    return "\n".join([*head, *map(line, table.rows), *(["", notes] if notes else [])])


def _latex(document: Mapping[str, Any]) -> str:
    report = layout(document)
    parts = [
        "% needs \\usepackage{booktabs}, \\usepackage{textcomp} and a text width of 16 cm",
        *map(_latex_table, report.tables),
    ]
    if report.notes:
        parts.append(_latex_notes(report))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return f"    {' & '.join(_latex_text(cell) for cell in cells)} \\\\"

    kinds = ["p{0.4\\linewidth}" if column.is_text else column.align[0] for column in table.columns]
    notes = [f"  {_latex_text(note)}\\par" for note in table.footnotes]
    return "\n".join([
        "\\begin{table}",
        "  \\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        f"  \\caption{{{_latex_text(table.title)}}}",
        f"  \\begin{{tabular}}{{{''.join(kinds)}}}",
        "    \\toprule",
        f"    {' & '.join(map(_latex_header, table.columns))} \\\\",
        "    \\midrule",
        *map(line, table.rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        *(["", "  \\smallskip", *notes] if notes else []),
        "\\end{table}",
    ])  # fmt: skip


def _latex_header(column: Column) -> str:
    """Stacked word on word, for a header is wider than the numbers below it; units stay where they belong."""
    words = re.sub(r" (?=\S{1,2}(?: |$))", _TIE, column.header).split(" ")
    stacked = " \\\\ ".join(_latex_text(word.replace(_TIE, " ")) for word in words)
    return f"\\shortstack[{column.align[0]}]{{{stacked}}}" if len(words) > 1 else stacked


def _latex_notes(report: Report) -> str:
    items = [f"  \\item {_latex_text(note)}" for note in report.notes]
    return "\n".join(["\\begin{itemize}", *items, "\\end{itemize}"])


def _markdown_text(text: str) -> str:
    return "".join(_MARKDOWN.get(c, c) for c in _visible(text)).replace("](", "]\\(")


def _latex_text(text: str) -> str:
    shown = "".join(c if c in _LATEX or _is_in_every_font(c) else _codepoint(c) for c in text)
    return "".join(_LATEX.get(c, c) for c in shown).replace("--", "-{}-")  # or they join to a dash


def _is_in_every_font(character: str) -> bool:
    """Whether the fonts that LaTeX starts with have it: ASCII, and Western European letters with an accent."""
    base = unicodedata.normalize("NFD", character)[0]
    return character.isprintable() and base.isascii() and ord(character) < 0x100


def _visible(text: str) -> str:
    """`text` with control characters, which a terminal might obey, as escapes."""
    return "".join(c if c.isprintable() else _codepoint(c) for c in text)


def _codepoint(character: str) -> str:
    return character.encode("unicode_escape").decode()


FORMATS: Mapping[Format, Callable[[Mapping[str, Any]], str]] = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "json": _json,
}
"""Every text format and its writer."""
