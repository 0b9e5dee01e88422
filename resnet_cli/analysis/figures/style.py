"""Style of all figures: sizes, fonts, colour and line of each network, captions and legends."""

import contextlib
import io
import itertools
import string
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from resnet_cli.util.files import write_output
from resnet_cli.util.text import printable

# Column and text width of a two-column conference page, inches. Figures have their final size,
# so font sizes are those on paper.
_COLUMN_INCHES, _TEXT_INCHES = 3.35, 6.9
SMALL_POINTS = 7.0
_TEXT_POINTS = 7.5
PNG_DPI = 300

INK = "#333333"
RULE = "#8A8A8A"

# Vermillion, blue and bluish green after M. Okabe and K. Ito, Color Universal Design (2008), which
# remain distinguishable with every kind of colour blindness; each with a lighter and a darker tone for depth.
# Plain networks are lighter than residual ones, so that they remain distinguishable in grey.
_FAMILIES = {
    ("plain", ""): ("#F5A06B", "#DC6A14", "#A84A00"),
    ("resnet", ""): ("#1F7FC0", "#00558F", "#011C33"),
    ("resnet", "B"): ("#35BF95", "#009E73", "#005E46"),
}
# Depth → tone, 0 (light) to 1 (dark). The tones of the depths in He et al. 2015, table 6, differ clearly.
_TONES = {8: 0.0, 20: 0.2, 32: 0.38, 44: 0.54, 56: 0.7, 110: 0.88, 1202: 1.0}
_MARKERS = {20: "o", 32: "s", 44: "^", 56: "D", 110: "v", 1202: "P"}

DASHES: Mapping[str, Any] = {"test": "solid", "train": (0, (3.2, 1.4))}
"""Line style of a measure: test solid, training dashed, as in He et al. 2015, figure 6."""

OPEN_MARKER: Mapping[str, Any] = {"markersize": 3.4, "markerfacecolor": "white", "markeredgewidth": 0.8}
"""Marker of clean training errors: white, so that the line below remains visible."""

_TICKS = {"color": INK, "labelsize": SMALL_POINTS, "major.width": 0.6, "major.size": 2.5, "minor.size": 1.5}
_RC: Any = {
    **{f"{axis}tick.{name}": value for axis in "xy" for name, value in _TICKS.items()},
    "font.size": _TEXT_POINTS,
    "axes.titlesize": _TEXT_POINTS,
    "axes.titlelocation": "left",
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "legend.fontsize": SMALL_POINTS,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.4,
    "legend.borderaxespad": 0.2,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.wspace": 0.05,
    "pdf.fonttype": 42,  # TrueType: publishers reject Type 3
    "svg.fonttype": "none",  # text stays text: searchable, selectable
    "svg.hashsalt": "resnet_cli",  # otherwise ids, and so files, differ from call to call
}
# Without these settings matplotlib writes the time, so that no two files are equal.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None},
}  # fmt: skip


class NetworkStyle(NamedTuple):
    """Line style of one network, the same in every figure."""

    color: str  # #rrggbb: the hue identifies the architecture, the tone the depth
    line_width: float  # points; deeper networks have thicker lines
    marker: str  # distinguishes depths with similar tones


def network_style(network: str) -> NetworkStyle:
    """Return the style of a network such as `plain-56` or `resnet-56-B`; it depends on the name alone."""
    arch, depth_text, *shortcut = network.split("-")
    depth = int(depth_text)
    tone = float(np.interp(np.log(depth), np.log(list(_TONES)), list(_TONES.values())))
    anchors = np.array([to_rgb(color) for color in _FAMILIES[arch, "".join(shortcut)]])  # (3 tones, RGB)
    red, green, blue = (float(np.interp(tone, (0.0, 0.5, 1.0), channel)) for channel in anchors.T)
    return NetworkStyle(to_hex((red, green, blue)), 0.9 + 0.6 * tone, _MARKERS.get(depth, "X"))


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Apply the style of this project to matplotlib's defaults, ignoring the user's matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(rows: int, columns: int, height_inches: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Create a figure without a window or global state, and its panels in reading order.

    One column of panels has the width of a page's column, several have that of its text. Several panels are
    lettered a, b, … in the centre title; the left title is free.

    Args:
        rows: number of rows of panels.
        columns: number of columns of panels.
        height_inches: height of the figure before legend and caption add to it.
        options: as for `Figure.subplots`.
    """
    width_inches = _COLUMN_INCHES if columns == 1 else _TEXT_INCHES
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    panels: list[Axes] = list(np.ravel(figure.subplots(rows, columns, squeeze=False, **options)))
    if len(panels) > 1:
        letter_panels(panels)
    return figure, panels


def letter_panels(panels: Sequence[Axes]) -> None:
    """Letter panels a, b, … in the centre title, in this order."""
    for letter, axes in zip(string.ascii_lowercase, panels, strict=False):
        axes.set_title(letter, loc="center", x=-0.02, ha="right", weight="bold")


def caption(figure: Figure, text: str) -> None:
    """Write `text` below the figure, wrapped to its width; each line after the first makes the figure taller."""
    # Control characters would make an SVG file invalid; "95 %" stays on one line.
    words = printable(text).replace(" %", "\N{NO-BREAK SPACE}%").split(" ")
    lines = [words[0]]
    for word in words[1:]:
        longer = f"{lines[-1]} {word}"
        fits = text_width_inches(longer) <= 0.98 * figure.get_figwidth()
        lines[-1:] = [longer] if fits else [lines[-1], word]
    _grow(figure, len(lines))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", size=SMALL_POINTS, linespacing=1.25, parse_math=False)


def text_width_inches(text: str) -> float:
    """Width of a line of `SMALL_POINTS` in the current font."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about characters missing from the font, reported when the figure is saved
        font = FontProperties(size=SMALL_POINTS)
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def ramp() -> Colormap:
    """Colours of an ordered quantity such as the epoch, from light (low) to dark (high), also in grey."""
    return ListedColormap(mpl.colormaps["viridis_r"](np.linspace(0.12, 1, 256)))


def legend(
    figure: Figure,
    networks: Sequence[str],
    others: Sequence[tuple[str, Mapping[str, Any]]] = (),
    *,
    with_markers: bool = False,
) -> None:
    """Add one legend above all panels, in as few rows as fit; each row after the first makes the figure taller.

    Args:
        figure: receives the legend.
        networks: entries with the colour of the network, in this order.
        others: label and line properties of further entries, drawn in grey.
        with_markers: show the marker of each network.
    """
    every = []
    for network in networks:
        style = network_style(network)
        marker = {"marker": style.marker, **OPEN_MARKER} if with_markers else {}
        every.append(Line2D([], [], color=style.color, linewidth=style.line_width, label=network, **marker))
    keys = [Line2D([], [], **{"color": INK, "linewidth": 1.0, **line}, label=label) for label, line in others]
    num_plain = sum(network.startswith("plain") for network in networks)  # they come first
    layouts: list[list[Sequence[Line2D]]] = [
        [[*every, *keys]],
        [every, keys],
        [every[:num_plain], every[num_plain:], keys],
        *([*_chunks(every, size), *_chunks(keys, size)] for size in (4, 3, 2, 1)),
    ]
    fitting = next((rows for rows in layouts if _width_inches(rows) <= figure.get_figwidth()), layouts[-1])
    rows = [row for row in fitting if row]
    _grow(figure, len(rows))
    # Matplotlib fills a legend column by column.
    blank = Line2D([], [], linestyle="none", label=" ")
    by_column = [line or blank for column in itertools.zip_longest(*rows) for line in column]
    figure.legend(handles=by_column, loc="outside upper center", ncols=max(map(len, rows)))


def _grow(figure: Figure, num_lines: int) -> None:
    figure.set_figheight(figure.get_figheight() + 0.14 * (num_lines - 1))


def _width_inches(rows: Sequence[Sequence[Line2D]]) -> float:
    # A line and gaps, and the text; slightly more than they need.
    keys = [[0.52 + 1.02 * text_width_inches(str(line.get_label())) for line in row] for row in rows]
    return sum(max(column) for column in itertools.zip_longest(*keys, fillvalue=0.0))


def _chunks(lines: Sequence[Line2D], size: int) -> list[Sequence[Line2D]]:
    return [lines[start : start + size] for start in range(0, len(lines), size)]


def save(figure: Figure, path: Path) -> None:
    """Write `figure` atomically to `path`, whose suffix is one of `SUFFIXES`; svg keeps text as text.

    Equal figures give equal bytes with the same versions of matplotlib and its fonts.
    """
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=suffix[1:], dpi=PNG_DPI, metadata=_METADATA[suffix])
    write_output(path, buffer.getvalue())
