"""What a report consists of: sections, and the blocks in them. `page.html.jinja` has one macro for each block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resnet_cli.analysis.tables import Table


@dataclass(frozen=True)
class Heading:
    """Heading within a section."""

    text: str
    anchor: str = ""
    """Name of a link target; empty for a heading without entry in the table of contents."""


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Notes:
    """A list of short remarks."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """Names and what belongs to them."""

    rows: Sequence[tuple[str, str | Sequence[str]]]
    """Several texts are phrases of one sentence; all but the last are kept on one line where they fit."""


@dataclass(frozen=True)
class Grid:
    """A table."""

    table: Table
    commands: int | None = None
    """Position of a column with commands."""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on the claims: cells by the name of their column, and the rows of `claims_document`."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Commands:
    """Commands, one per line."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Folded:
    """Blocks that a click opens; printed in full."""

    title: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Picture:
    """A figure."""

    number: int
    title: str
    caption: str
    source: str
    """Data URI of the image."""
    width: Literal["column", "page"]

    @property
    def alt(self) -> str:
        """Description for readers who cannot see the image."""
        return f"{self.title} {self.caption}"


Block = Heading | Paragraph | Notes | Facts | Grid | Verdicts | Commands | Folded | Picture


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    anchor: str
    title: str
    blocks: Sequence[Block]

    @property
    def headings(self) -> list[Heading]:
        """Headings in the table of contents."""
        return [block for block in self.blocks if isinstance(block, Heading) and block.anchor]
