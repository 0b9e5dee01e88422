"""docs/options.md against the package."""

import re
from pathlib import Path

import resnet_cli
from resnet_cli.errors import ExitCode

PACKAGE = Path(resnet_cli.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "options.md").read_text(encoding="utf-8")


def test_the_options_page_lists_every_exit_code():
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == sorted(ExitCode)


def test_the_options_page_lists_every_environment_variable_of_the_package():
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert set(re.findall(r"\bRESNET_[A-Z0-9_]+\b", sources)) <= set(re.findall(r"`(RESNET_\w+)", PAGE))
