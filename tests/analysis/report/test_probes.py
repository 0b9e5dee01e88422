"""Every probe has a guide for readers of a report."""

import importlib
import re

from resnet_cli.analysis.report.probes import GUIDES
from resnet_cli.probes.registry import TITLES


def test_every_probe_has_a_title_and_two_sentences():
    assert set(GUIDES) == set(TITLES)
    for name, guide in GUIDES.items():
        assert len(re.findall(r"\.(?: |$)", guide.reading)) == 2, name
        view = importlib.import_module(f"resnet_cli.analysis.figures.probes.{name.replace('-', '_')}")
        assert callable(view.draw)
        assert callable(view.table)
