"""A page of HTML as its elements and text, read with the standard library."""

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

_WITHOUT_END = {"meta", "link", "img", "br"}


class Element(NamedTuple):
    """One element."""

    tag: str
    attributes: dict[str, str]
    text: list[str]
    """Its text, with that of the elements in it, in pieces."""

    @property
    def words(self) -> str:
        """Its text, with single blanks."""
        return " ".join(" ".join(self.text).split())


class HtmlPage(HTMLParser):
    """The elements of a file, in order; fails if they are not nested."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[Element] = []
        self.declarations: list[str] = []
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_decl(self, decl):
        self.declarations.append(decl)

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        element = Element(tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in _WITHOUT_END:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop().tag == tag

    def handle_data(self, data):
        for element in self._open:
            element.text.append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements with this tag and these attributes."""
        return [one for one in self.elements if one.tag == tag and attributes.items() <= one.attributes.items()]

    def section(self, anchor: str) -> Element:
        """A section by its anchor."""
        (found,) = self.all("section", id=anchor)
        return found
