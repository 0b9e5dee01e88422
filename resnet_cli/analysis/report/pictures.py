"""Figures as images that a page can contain: SVG without metadata, without addresses, in the typeface of the page."""

import base64
import io
import re
import warnings
from itertools import count

import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from resnet_cli.analysis.figures.style import PNG_DPI, house_style
from resnet_cli.analysis.report.blocks import Picture

TYPEFACE = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Noto Sans, Liberation Sans, sans-serif"
"""Of the page and its figures. Figures are laid out with DejaVu Sans, which is wider than any of these."""

_COLUMN_INCHES = 4.0  # wider figures have several columns of panels
_MAX_CELLS = 2500  # of a matrix that is drawn cell by cell; larger ones become pixels, which are smaller
_WITHOUT_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class Pictures:
    """Numbers figures in the order in which they are added."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def picture(self, figure: Figure, title: str, *remarks: str) -> Picture:
        """Convert a drawn figure; its own caption, followed by `remarks`, becomes that of the page."""
        words = [figure.get_supxlabel().replace("\n", " "), *remarks]
        _remove_caption(figure)
        source = _data_uri(figure)  # may fail, and then no number is used
        return Picture(
            number=next(self._numbers),
            title=title,
            caption=" ".join(f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in words if text),
            source=source,
            width="column" if figure.get_figwidth() < _COLUMN_INCHES else "page",
        )


def _remove_caption(figure: Figure) -> None:
    """Remove the text below the figure and the height that `style.caption` added for it."""
    text = figure.get_supxlabel()
    if text:
        figure.set_figheight(figure.get_figheight() - 0.14 * text.count("\n"))
        figure.supxlabel("")


def _data_uri(figure: Figure) -> str:
    for mesh in figure.findobj(QuadMesh):
        mesh.set_rasterized(np.size(np.asarray(mesh.get_array())) > _MAX_CELLS)
    buffer = io.BytesIO()
    with house_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about characters missing from the font: text stays text
        figure.savefig(buffer, format="svg", dpi=PNG_DPI, transparent=True, metadata=_WITHOUT_METADATA)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]  # the XML declaration and the document type have an address
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {TYPEFACE}", text)
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"
