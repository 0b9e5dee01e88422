"""The report in Chromium: nothing overflows, nothing is requested, and nothing appears on the console."""

import chromium
import pytest

from resnet_cli.cli.app import run

WIDTHS = (375, 768, 1280)
# Elements that begin or end outside the window and are not in a container that scrolls.
OUTSIDE = """[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return !element.closest('.scroll > *') && box.width && (box.left < -0.5 || box.right > innerWidth + 0.5);
}).map(element => element.tagName + '.' + element.className)"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium.PROGRAM is None:
        pytest.skip("needs Chromium")
    browser = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(make_run, tmp_path_factory):
    """The report of two networks; a run with a long name is excluded."""
    folder = tmp_path_factory.mktemp("report")
    for arch in ("plain", "resnet"):
        make_run(folder / "runs" / arch, arch=arch, depth=8, gradflow=True)
    make_run(folder / "runs" / ("long-" * 40), depth=20, status="incomplete")
    assert run(["report", str(folder / "runs"), "-o", str(folder / "report.html"), "--quiet"]) == 0
    return folder / "report.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_a_phone_a_tablet_and_a_desktop(browser, page, width):
    browser.open(page, width)
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    assert browser.evaluate(OUTSIDE) == []
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_every_figure_is_drawn_and_the_measure_is_about_75_characters(browser, page):
    browser.open(page)
    images = browser.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert len(images) >= 6
    assert all(complete and width > 200 for complete, width in images)
    characters = browser.evaluate("""(() => {
      const text = document.querySelector('#verdicts p'), range = document.createRange(), lines = {};
      for (let i = 0; i < text.firstChild.length; i++) {
        range.setStart(text.firstChild, i); range.setEnd(text.firstChild, i + 1);
        const y = Math.round(range.getBoundingClientRect().top);
        lines[y] = (lines[y] || 0) + 1;
      }
      return Object.values(lines).slice(0, -1);
    })()""")
    assert 60 <= sum(characters) / len(characters) <= 85


def test_figures_follow_the_colours_of_the_page(browser, page):
    filters = {}
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open(page)
        paper, image = (f"getComputedStyle({one})" for one in ("document.body", "document.images[0]"))
        filters[scheme] = browser.evaluate(f"[{paper}.backgroundColor, {image}.filter]")
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert filters["light"] == ["rgb(255, 255, 255)", "none"]
    assert filters["dark"] == ["rgb(23, 23, 23)", "invert(0.91) hue-rotate(180deg)"]


def test_a_printed_page_contains_what_is_folded_and_cuts_nothing_off(browser, page):
    browser.open(page, 673)  # A4 without its margins
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= 673
        assert browser.evaluate("document.querySelector('pre').getBoundingClientRect().height") > 20
        assert browser.evaluate(OUTSIDE.replace("!element.closest('.scroll > *') && ", "")) == []
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
