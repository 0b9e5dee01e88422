"""`resnet report`: one self-contained page about a study."""

from pathlib import Path
from typing import Annotated

import typer

from resnet_cli.cli.options import Json, Quiet, RunPaths
from resnet_cli.cli.output import Output
from resnet_cli.util.text import printable

HELP = """Write one page about runs: verdicts, Table 1, figures, probes, and how to repeat each run.

The page is a single HTML file that contains no scripts and loads nothing, so it can be sent, archived and printed.
It shows what is stored in the run directories and measures nothing; its last section lists the commands that measure
what is missing.
An existing file is replaced only if it is a report.

Examples:

  resnet report runs/

  resnet report study/runs --out study/report.html

  resnet report runs/plain-* runs/resnet-* --out table1.html --json
"""


def command(
    runs: RunPaths,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File of the report.")] = Path("report.html"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.analysis.report import check_target, write_report
    from resnet_cli.study_file import planned_looks

    check_target(out)  # before runs are read
    output = Output(json=json, quiet=quiet, is_saved=True)
    study = load_study(runs, with_metrics=True)
    for run in study.skipped:
        if run.status == "unreadable":
            output.warn(str(run))
    report = write_report(study, out, looks=planned_looks(run.dir.path for run in study.runs), warn=output.warn)
    document = {
        "path": str(out),
        "sections": [{"anchor": section.anchor, "title": section.title} for section in report.sections],
        "figures": [{"number": one.number, "title": one.title, "caption": one.caption} for one in report.pictures],
        "skipped_figures": [
            {"name": one.name, "kind": one.kind, "group": one.group.label, "reason": one.reason}
            for one in report.skipped_figures
        ],
        "skipped_runs": study.skipped,
    }
    output.result(document, None)
    if not json and out.is_file():
        output.raw(printable(str(out)))
