"""One self-contained HTML page about a study: no script, no outside address, static figures.

From Python::

    from pathlib import Path
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.analysis.report import write_report

    write_report(load_study(["runs"], with_metrics=True), Path("report.html"))
"""

from resnet_cli.analysis.report.writing import WrittenReport, check_target, write_report

__all__ = ["WrittenReport", "check_target", "write_report"]
