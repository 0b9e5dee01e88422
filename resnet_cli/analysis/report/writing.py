"""The report as a file: what it may replace, and its content as HTML."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from resnet_cli.analysis.claims import claims_document
from resnet_cli.analysis.claims.decisions import alpha_per_look
from resnet_cli.analysis.figures import SkippedFigure
from resnet_cli.analysis.frames import Study
from resnet_cli.analysis.report.blocks import Picture, Section
from resnet_cli.analysis.report.pictures import TYPEFACE
from resnet_cli.analysis.report.sections import report_sections
from resnet_cli.analysis.tables import study_document
from resnet_cli.analysis.words import and_
from resnet_cli.errors import InputError, UsageError
from resnet_cli.util.files import write_output
from resnet_cli.util.text import one_line, printable
from resnet_cli.version import __version__

_GENERATOR = b'<meta name="generator" content="resnet-cli '
_NO_BREAK = "\N{NO-BREAK SPACE}"
_HEAD_BYTES = 1000  # which contain the generator


class WrittenReport(NamedTuple):
    """What a report contains."""

    sections: list[Section]
    skipped_figures: list[SkippedFigure]

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]


def check_target(path: Path) -> None:
    """Raise `InputError` unless a report can be written to `path` without replacing the file of another program."""
    if not os.path.isdir(path.parent):
        raise InputError(f"--out {path}: folder {path.parent} does not exist", hint="create it first")
    if os.path.isdir(path):
        raise InputError(f"--out {path} is a folder", hint=f"name a file in it: --out {path / 'report.html'}")
    if path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise InputError(f"--out {path} cannot be read: {one_line(error)}") from error
        if head and _GENERATOR not in head:
            raise InputError(
                f"--out {path} exists and is not a report of this tool", hint="name another file, or delete it"
            )


def write_report(
    study: Study,
    path: Path,
    *,
    looks: int = 1,
    planned_seeds: int | None = None,
    comparison: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> WrittenReport:
    """Write a report about the complete runs of a study.

    Equal runs, at equal paths, give equal bytes with the same versions of this tool and of matplotlib.

    Args:
        study: loaded with metrics.
        path: the file; a report is replaced, any other file is not.
        looks: how often the claims are judged in all while seeds are added.
        planned_seeds: seeds per network when the study is complete; None: not planned.
        comparison: document of `study_document`, if it was computed already.
        claims: document of `claims_document`, if it was computed already; `looks` is then not used.
        warn: receives one line for each file that cannot be used.

    Raises:
        InputError: no run is complete, or `path` is not a report.
        OSError: the file cannot be written.
    """
    check_target(path)
    study.require_runs()
    said: set[str] = set()

    def warn_once(text: str) -> None:
        if text not in said:
            said.add(text)
            warn(text)

    if claims is None:
        claims = _judge(study, looks, warn_once)
    sections, skipped = report_sections(study, comparison or study_document(study), claims, planned_seeds, warn_once)
    write_output(path, _render(_title(study), sections).encode())
    return WrittenReport(sections, skipped)


def _judge(study: Study, looks: int, warn: Callable[[str], None]) -> Mapping[str, Any] | None:
    try:
        return claims_document(study, alpha=alpha_per_look(looks), warn=warn)
    except UsageError:  # there are no plain and residual networks to compare
        return None


def _title(study: Study) -> str:
    datasets = list(dict.fromkeys(group.dataset for group in study.groups()))
    shown = and_([*datasets[:2], *([f"{len(datasets) - 2} more datasets"] if len(datasets) > 2 else [])])
    return f"Plain and residual networks on {shown}"


def _render(title: str, sections: Sequence[Section]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resnet_cli.analysis.report", "."),
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_printable, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, sections=sections, version=__version__, typeface=TYPEFACE)


def _printable(value: object) -> object:
    """Text on one line without control characters, before it is escaped; markup of the template as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _NO_BREAK.join(printable(part) for part in value.split(_NO_BREAK))
