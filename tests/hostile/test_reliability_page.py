"""Files and tests that docs/reliability.md names."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"\b(?:tests|benchmarks)/[\w/]+\.py", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_every_script_that_the_reliability_page_names_exists(name):
    assert (DOCS.parent / name).is_file()


def test_the_reliability_page_names_every_test_file_in_the_hostile_folder():
    files = {f"tests/hostile/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert files - {f"tests/hostile/{Path(__file__).name}"} <= set(NAMED)


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_relative_link_of_a_page_leads_to_a_file(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (DOCS / link).exists()] == []
