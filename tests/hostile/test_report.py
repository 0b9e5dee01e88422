"""Text of hostile runs stays text in a report: no markup, no script, no request, nothing out of place."""

import base64
import json
import socket
import xml.etree.ElementTree as ET

import chromium
import pytest
from html_page import HtmlPage
from watch import watched

from resnet_cli.rundir import RunDir
from resnet_cli.util.text import printable

TAGS = {
    "html", "head", "meta", "title", "link", "style", "body", "header", "nav", "main", "section", "h1", "h2", "h3", "p",
    "ol", "ul", "li", "a", "dl", "div", "dt", "dd", "span", "strong", "q", "code", "pre", "figure", "figcaption", "img",
    "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "id", "class", "href", "rel", "src", "alt", "scope", "tabindex",
    "role", "aria-label", "data-name",
}  # fmt: skip


def attacks(address: str) -> list[str]:
    """Strings that would run a script, load from `address`, or spoil the page, if they were not escaped."""
    run = f"fetch('{address}');window.owned=1"
    return [
        f"<script>{run}</script>", f"</script><script>{run}</script>", f"</style><script>{run}</script>",
        f"</title><script>{run}</script>", f"--><script>{run}</script>", f"]]><script>{run}</script>",
        f'"><img src=x onerror="{run}">', f"'><img src='{address}/a.png'>", f"<img src={address}/b.png>",
        f"<svg onload={run}>", f"<svg><image href='{address}/c.png'/></svg>", f"javascript:{run}",
        f"<a href='javascript:{run}'>x</a>", f"<iframe src='{address}'></iframe>", f"<object data='{address}'>",
        f"<link rel=stylesheet href='{address}/d.css'>", f"<base href='{address}'>",
        f"<meta http-equiv=refresh content='0;url={address}'>", f"<form action='{address}'><input autofocus>",
        f"<style>@import '{address}/e.css'; body{{display:none}}</style>", f"url({address}/f.png)",
        f"' style='background:url({address}/g.png)", "{{7777*7777}}{% raw %}{{ self.__init__.__globals__ }}", "{#",
        "&lt;b&gt;&amp;&#60;script&#62;", "\x1b[31m\x00\x07\x9b\r\n\t", "\u202eabc\u2066def\u200b\ufeff", "w" * 300,
        "<!--", "$\\frac{\\input{/etc/passwd}$", "\ud800\udcff", "<plaintext>",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def listener():
    """A socket that accepts connections; nothing may connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def strings(listener):
    return attacks(f"http://127.0.0.1:{listener.getsockname()[1]}")


@pytest.fixture(scope="module")
def folder(make_run, add_probe, strings, tmp_path_factory):
    """Two runs whose free text is hostile wherever a report may show it, and more that are excluded."""
    folder = tmp_path_factory.mktemp("hostile")
    runs = folder / "runs"
    encodable = [text for text in strings if text.isascii() or "\ud800" not in text]
    for arch in ("plain", "resnet"):
        name = strings[0 if arch == "plain" else 6].replace("/", "\u2215")
        run = make_run(runs / name, arch=arch, depth=8, dataset="digits", recipe="demo")
        _spoil(run, encodable)
        add_probe(run, "lesion", _lesions(encodable))
        add_probe(run, "bn", [{text: text for text in encodable}])
    make_run(runs / strings[8].replace("/", "\u2215"), arch="plain", depth=8, dataset="digits", status="diverged")
    for text in encodable:
        name = text.replace("/", "").replace("\0", "")[:80]
        path = runs / f"unreadable {name}"
        path.mkdir()
        (path / "run.json").write_text(json.dumps({"schema_version": text}))
    return folder


def _spoil(run: RunDir, texts: list[str]) -> None:
    """Replace every free text in run.json and summary.json."""
    record = json.loads(run.record_path.read_text())
    record["config"]["recipe"] = (texts[0] + texts[6] + texts[2])[:300]
    record["argv"] = texts
    record["tool_version"], record["created_at"] = texts[3], texts[4]
    record["environment"] = {text[:300]: text[:300] for text in texts}
    record["dataset"] |= {
        "display_name": texts[1], "fingerprint": texts[7], "location": texts[11],
        "classes": [f"{text}{number}"[:300] for number, text in enumerate(texts[:10])],
    }  # fmt: skip
    record["decisions"] = {text[:300]: {"value": text[:300], "reason": text} for text in texts}
    run.record_path.write_text(json.dumps(record))
    summary = json.loads(run.summary_path.read_text())
    summary["finished_at"] = texts[8]
    run.summary_path.write_text(json.dumps(summary))


def _lesions(texts: list[str]) -> list[dict[str, object]]:
    """Rows of the probe lesion, in which names of blocks are free text."""
    common = {"loss": 1.0, "num_images": 10, "loss_change": 0.1, "stage": 1, "downsampling": False, "repeat": 1}
    rows: list[dict[str, object]] = []
    for statistics in ("running", "re-estimated"):
        rows += [
            {**common, "statistics": statistics, "lesion": "delete", "blocks": f"{text}.1", "num_deleted": 1,
             "deleted_share": None, "error_pct": 20.0, "error_change_pp": 10.0 + number}
            for number, text in enumerate(texts[:8])
        ]  # fmt: skip
        rows += [
            {**common, "statistics": statistics, "lesion": lesion, "blocks": "", "num_deleted": number,
             "deleted_share": share, "error_pct": 10.0 + number, "error_change_pp": number}
            for lesion, number, share in (("delete-random", 0, 0.0), ("delete-random", 2, 1.0), ("swap", 0, None))
        ]  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def path(folder):
    return folder / "report.html"


@pytest.fixture
def page(folder, path, capfd):
    if not path.exists():
        said = watched(capfd, ["report", folder / "runs", "-o", path])
        assert said.code == 0, said
    return HtmlPage(path)


def test_the_page_has_only_its_own_elements_and_attributes(page):
    assert {element.tag for element in page.elements} <= TAGS
    assert {name for element in page.elements for name in element.attributes} <= ATTRIBUTES
    assert all(element.attributes["href"][0] == "#" for element in page.all("a"))
    assert {element.attributes["href"] for element in page.all("link")} == {"data:,"}
    assert len(page.all("style")) == 1
    assert page.all("style")[0].words.startswith(":root { --typeface: system-ui")
    assert not {c for c in page.source if not c.isprintable()} - {"\n", "\N{NO-BREAK SPACE}"}


def test_every_hostile_text_is_shown_as_it_is(page, strings):
    shown = page.section("runs").words
    for text in strings:
        if "\ud800" not in text:
            assert " ".join(printable(text[:300]).split()) in shown, text
    assert strings[1] in page.all("title")[0].words
    assert str(7777 * 7777) not in page.all("body")[0].words
    assert "resnet train --recipe '<script>" in shown


def test_images_are_well_formed_and_contain_nothing_but_drawings(page):
    images = page.all("img")
    assert len(images) >= 6
    for image in images:
        kind, _, data = image.attributes["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        drawing = ET.fromstring(base64.b64decode(data))  # noqa: S314 (written by this test)
        tags = {element.tag.rpartition("}")[2] for element in drawing.iter()}
        assert tags <= {"svg", "defs", "style", "g", "path", "clipPath", "rect", "use", "text", "tspan", "image"}
        assert not [name for element in drawing.iter() for name in element.keys() if name.startswith("on")]  # noqa: SIM118


def test_chromium_runs_nothing_requests_nothing_and_nothing_overflows(page, path, listener, tmp_path):
    if chromium.PROGRAM is None:
        pytest.skip("needs Chromium")
    browser = chromium.Browser(tmp_path)
    try:
        for width in (375, 768, 1280):
            browser.open(path, width)
            browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
            assert browser.evaluate("window.owned") is None
            assert browser.evaluate("document.scripts.length") == 0
            assert browser.complaints == []
            assert browser.requests == [path.as_uri()]
    finally:
        browser.close()
    with pytest.raises(BlockingIOError):
        listener.accept()
