"""The results of a study: Table 1, verdicts, figures and the report."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_cli.errors import UsageError

if TYPE_CHECKING:
    from resnet_cli.analysis.figures import SkippedFigure


class StudyResults(NamedTuple):
    """Files of a study, and the results in them."""

    document: dict[str, Any]
    """See `resnet_cli.analysis.tables.study_document`."""
    claims: dict[str, Any] | None
    """See `resnet_cli.analysis.claims.claims_document`; None without plain and residual networks."""
    table: Path
    """Table 1, and the verdicts below it, in Markdown."""
    report: Path
    figures: list[Path]
    skipped_figures: "list[SkippedFigure]"


def write_results(folder: Path, *, warn: Callable[[str], None] = warnings.warn) -> StudyResults:
    """Write `table1.md`, `figures/` and `report.html` in `folder` from all complete runs in `folder/runs`.

    `warn` is called with one line for each problem with a figure or a file of a probe.

    Raises:
        InputError: there is no complete run.
        OSError: a file cannot be written.
    """
    from resnet_cli.analysis import figures, tables
    from resnet_cli.analysis.claims import claims_document, claims_report
    from resnet_cli.analysis.claims.decisions import alpha_per_look
    from resnet_cli.analysis.figures.files import write_figures
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.analysis.report import write_report
    from resnet_cli.study_file import planned_looks, read_study_file
    from resnet_cli.util.files import write_output

    runs = folder / "runs"
    study = load_study([runs], with_metrics=True)
    study.require_runs()
    looks = planned_looks(run.dir.path for run in study.runs)
    document = tables.study_document(study)
    try:
        claims = claims_document(study, alpha=alpha_per_look(looks), warn=warn)
    except UsageError:  # a study of one architecture
        claims = None
    table = folder / "table1.md"
    parts = [
        tables.render(document, "markdown"),
        *([tables.render_report(claims_report(claims), "markdown")] if claims else []),
    ]
    write_output(table, "\n".join(parts).encode())
    drawn, skipped = figures.draw(study)
    paths = write_figures(drawn, folder / "figures", ".png", figures.figure_groups(study), warn=warn)
    report = folder / "report.html"
    recorded = read_study_file(folder)
    write_report(
        study, report, looks=looks, planned_seeds=recorded.plan.seeds if recorded else None, comparison=document,
        claims=claims, warn=warn,
    )  # fmt: skip
    return StudyResults(document, claims, table, report, paths, skipped)
