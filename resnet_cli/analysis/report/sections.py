"""The sections of a report in their order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resnet_cli.analysis.figures import SkippedFigure
from resnet_cli.analysis.frames import Study
from resnet_cli.analysis.report.blocks import Block, Commands, Grid, Heading, Notes, Paragraph, Section
from resnet_cli.analysis.report.drawings import MAX_GROUPS, Drawings
from resnet_cli.analysis.report.pictures import Pictures
from resnet_cli.analysis.report.probes import GUIDES, ProbeViews
from resnet_cli.analysis.report.runs import data_blocks, run_blocks
from resnet_cli.analysis.report.summary import summary
from resnet_cli.analysis.report.verdicts import NONE_JUDGED, missing_claims, verdicts
from resnet_cli.analysis.tables import Column, Table, layout
from resnet_cli.analysis.tables.document import group_names
from resnet_cli.analysis.words import and_

_MAX_LINES = 50
_RUNS_STAND_FOR = "RUNS and RUN stand for run directories, such as those of this report."


def report_sections(
    study: Study,
    comparison: Mapping[str, Any],
    claims: Mapping[str, Any] | None,
    planned_seeds: int | None,
    warn: Callable[[str], None],
) -> tuple[list[Section], list[SkippedFigure]]:
    """Make the sections of a report, in their order; arguments as for `write_report`.

    Returns:
        The sections, and the figures that could not be drawn.
    """
    every = sorted({run.group for run in (*study.runs, *study.unfinished)})
    names = group_names(every)
    judged = claims["claims"] if claims else []
    pictures = Pictures()
    drawings = Drawings(study, names, pictures)
    for reason in drawings.left_out:
        warn(f"run missing from a figure: {reason}")
    views = ProbeViews(study, names, pictures, warn)
    # figures are numbered in the order in which they are made
    degradation, numbered, recorded = drawings.degradation(), drawings.numbered(), drawings.gradients()
    probes = {name: views.blocks(name) for name in GUIDES}
    gradients = [*recorded, *probes["gradflow"]] or [Paragraph("Not measured.")]
    sections = [
        Section("summary", "Summary", summary(study, names, comparison["networks"], judged, planned_seeds)),
        Section("verdicts", "Verdicts", verdicts(claims)),
        Section("results", "Table 1: results", _results(comparison)),
        Section("degradation", "Degradation", degradation),
        Section("figures", "Figures 1 to 5", numbered),
        Section("gradient-flow", "Gradient flow", gradients),
        Section("probes", "Probes", _probes(probes)),
        Section("runs", "Runs", run_blocks(study, names)),
        Section("data", "Data", data_blocks(study)),
        Section("not-measured", "What was not measured", _not_measured(judged, probes, drawings)),
    ]
    return sections, drawings.skipped


def _results(comparison: Mapping[str, Any]) -> list[Block]:
    report = layout({**comparison, "skipped": []}, seeds_shown=True)
    blocks: list[Block] = [Grid(table) for table in report.tables]
    return [*blocks, *([Notes(report.notes)] if report.notes else [])]


def _probes(probes: Mapping[str, Sequence[Block]]) -> list[Block]:
    blocks: list[Block] = []
    for name, found in probes.items():
        if found and name != "gradflow":
            blocks += [Heading(GUIDES[name].title, f"probe-{name}"), *found]
    return blocks or [Paragraph("No probe was measured on these runs.")]


def _not_measured(
    judged: Sequence[Mapping[str, Any]], probes: Mapping[str, Sequence[Block]], drawings: Drawings
) -> list[Block]:
    blocks: list[Block] = []
    if not judged:
        blocks.append(Paragraph(NONE_JUDGED))
    if claims := missing_claims(judged):
        columns = (
            Column("claim", "left"), Column("sentence", "left", is_text=True),
            Column("command that measures it", "left", is_text=True),
        )  # fmt: skip
        blocks.append(Grid(Table(f"Claims that were not measured: {len(claims)}", columns, tuple(claims)), commands=2))
    if missing := [name for name, found in probes.items() if not found]:
        titles = and_(GUIDES[name].title.lower() for name in missing)
        blocks.append(Paragraph(f"Probes that were not measured on these runs: {titles}. To measure them:"))
        blocks.append(Commands([f"resnet probe {name} RUNS" for name in missing]))
    if claims or missing:
        blocks.append(Paragraph(_RUNS_STAND_FOR))
    reasons = [f"{one.name} of {one.group.label}: {one.reason}." for one in drawings.skipped]
    reasons += [f"{drawings.problem}."] if drawings.problem else []
    if drawings.num_omitted_groups:
        omitted = f"{drawings.num_omitted_groups} more datasets or recipes"
        reasons.append(f"{omitted}: a report has figures of {MAX_GROUPS}; resnet plot draws all of them.")
    if reasons:
        blocks += [Heading("Figures that could not be drawn"), Notes(reasons)]
    if left_out := drawings.left_out:
        more = [f"And {len(left_out) - _MAX_LINES:,} more."] if len(left_out) > _MAX_LINES else []
        blocks += [Heading("Runs that are missing from a figure"), Notes([*left_out[:_MAX_LINES], *more])]
    return blocks or [Paragraph("Every claim and every probe was measured.")]
