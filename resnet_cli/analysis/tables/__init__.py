"""Comparison of runs as one document, with conversion to Markdown, LaTeX, CSV or JSON."""

from resnet_cli.analysis.tables.document import NETWORK_COLUMNS, study_document
from resnet_cli.analysis.tables.layout import Column, Report, Table, layout
from resnet_cli.analysis.tables.render import Format, csv_table, render, render_report

__all__ = [
    "NETWORK_COLUMNS", "Column", "Format", "Report", "Table", "csv_table", "layout", "render",
    "render_report", "study_document",
]  # fmt: skip
