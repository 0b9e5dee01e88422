"""Figures as images that a page can contain: SVG without metadata, without addresses, in the typeface of the page."""

import base64
import io
import re
import warnings
from itertools import count

from matplotlib.figure import Figure

from resnet_cli.analysis.figures.style import PNG_DPI, house_style
from resnet_cli.analysis.report.blocks import Picture

TYPEFACE = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Noto Sans, Liberation Sans, sans-serif"
"""Of the page and its figures. Figures are laid out with DejaVu Sans, which is wider than any of these."""

_MAX_SVG_BYTES = 1_000_000  # a larger drawing, such as a confusion matrix of many classes, is embedded as pixels
_COLUMN_INCHES = 4.0  # wider figures have several columns of panels
_WITHOUT_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class Pictures:
    """Numbers figures in the order in which they are added."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def picture(self, figure: Figure, title: str, *remarks: str) -> Picture:
        """Convert a drawn figure; its own caption, followed by `remarks`, becomes that of the page."""
        words = [figure.get_supxlabel().replace("\n", " "), *remarks]
        _remove_caption(figure)
        return Picture(
            number=next(self._numbers),
            title=title,
            caption=" ".join(f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in words if text),
            source=_data_uri(figure),
            width="column" if figure.get_figwidth() < _COLUMN_INCHES else "page",
        )


def _remove_caption(figure: Figure) -> None:
    """Remove the text below the figure and the height that `style.caption` added for it."""
    text = figure.get_supxlabel()
    if text:
        figure.set_figheight(figure.get_figheight() - 0.14 * text.count("\n"))
        figure.supxlabel("")


def _data_uri(figure: Figure) -> str:
    kind, data = "svg+xml", _svg(figure)
    if len(data) > _MAX_SVG_BYTES:
        kind, data = "png", _image(figure, "png", {"Software": None}, dpi=PNG_DPI)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _svg(figure: Figure) -> bytes:
    text = _image(figure, "svg", _WITHOUT_METADATA).decode()
    text = text[text.index("<svg") :]  # the XML declaration and the document type have an address
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {TYPEFACE}", text)
    return text.encode()


def _image(figure: Figure, kind: str, metadata: dict[str, None], **options: int) -> bytes:
    buffer = io.BytesIO()
    with house_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about characters missing from the font: text stays text
        figure.savefig(buffer, format=kind, transparent=True, metadata=metadata, **options)
    return buffer.getvalue()
