"""Comparison of runs as one document, with conversion to Markdown, LaTeX, CSV or JSON."""

from resnet_cli.analysis.frames import Study
from resnet_cli.analysis.tables.document import NETWORK_COLUMNS, check_sort_column, study_document
from resnet_cli.analysis.tables.layout import Column, Report, Table, layout
from resnet_cli.analysis.tables.render import FORMATS, Format, render_document

__all__ = [
    "FORMATS",
    "NETWORK_COLUMNS",
    "Column",
    "Format",
    "Report",
    "Table",
    "check_sort_column",
    "layout",
    "render",
    "render_document",
    "study_document",
]


def render(study: Study, format: Format) -> str:
    """Compare the runs of `study` and convert the result to text.

    Args:
        study: complete and skipped runs.
        format: `markdown` (GitHub tables), `latex` (booktabs tables), `csv` (one row per
            network) or `json` (the whole `study_document`).

    Returns:
        Text that ends with a line break.
    """
    return render_document(study_document(study), format)
