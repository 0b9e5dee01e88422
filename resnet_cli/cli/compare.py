"""`resnet compare`: results, gaps and statistics over seeds, next to the published numbers."""

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from resnet_cli.cli.options import Json, Quiet, RunPaths, sort_option
from resnet_cli.cli.output import Output
from resnet_cli.cli.views import ClaimsView, ReportView
from resnet_cli.errors import CheckFailedError, InputError, UsageError
from resnet_cli.util.text import printable

if TYPE_CHECKING:
    from resnet_cli.analysis.assertions import AssertionResult

OutFormat = Literal["table", "markdown", "latex", "csv", "json"]

HELP = """Compare runs: results and the gaps between plain and residual networks, over any number of seeds.

Runs of different datasets or recipes have separate tables.
A sweep, such as one recipe with several learning rates, has one table with a column for each setting that differs.
Incomplete, diverged and unreadable runs are listed, but excluded from all averages. In differences between networks, a
diverged run counts as guessing at random.
If an assertion does not hold, or a required claim is not supported, the exit code is 3.

With --claims, every claim in docs/claims.md gets a verdict: supported, refuted,
underpowered (with the number of seeds that would settle it), or not measured (with the command that measures it).

Examples:

  resnet compare runs

  resnet compare runs/plain-* runs/resnet-* --sort=-test_accuracy_pct

  resnet compare runs --seeds-shown

  resnet compare runs --out table1.tex

  resnet compare runs --format csv > networks.csv

  resnet compare runs --assert "resnet-56.test_accuracy_pct > 92"

  resnet compare runs --assert "plain-56.test_loss > plain-20.test_loss"

  resnet compare runs --claims

  resnet compare runs --require degradation --require gap

  resnet compare runs --explain vanishing-gradient
"""

_SUFFIXES: Mapping[str, OutFormat] = {
    ".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".txt": "table",
}  # fmt: skip
_FILE_WIDTH = 120


def _claim_option(help: str) -> Any:
    return typer.Option(
        metavar="CLAIM", show_default=False, rich_help_panel="Claims", help=f"{help} Can be given several times."
    )


def command(
    runs: RunPaths,
    *,
    format: Annotated[
        OutFormat | None,
        typer.Option(
            help="Output format; csv has one row per network, json contains everything "
            "(default: from the suffix of --out, else table).", show_default=False, rich_help_panel="Output",
        ),
    ] = None,
    sort: Annotated[str | None, sort_option("by depth, plain before residual")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write to FILE instead of stdout: .md .tex .csv .json .txt.", show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    assertions: Annotated[
        list[str] | None,
        typer.Option(
            "--assert", metavar="COMPARISON", show_default=False,
            help="Exit with code 3 unless this comparison holds: NETWORK.COLUMN and numbers with + - * / ( ), compared "
            "by > >= < <= == or !=. Can be given several times.",
        ),
    ] = None,
    seeds_shown: Annotated[
        bool, typer.Option("--seeds-shown", help="Also show the results of each seed, for networks with 2 to 10 seeds.")
    ] = False,
    claims: Annotated[
        bool, typer.Option("--claims", help="Judge every claim instead of showing results.", rich_help_panel="Claims")
    ] = False,
    require: Annotated[
        list[str] | None, _claim_option("Judge the claims, and exit with code 3 unless this one is supported.")
    ] = None,
    explain: Annotated[
        list[str] | None, _claim_option("Show definition, rule, data and verdict of this claim.")
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, metavar="N", show_default=False, rich_help_panel="Claims",
            help="Number of times in all that the claims are tested while seeds are added; more than one makes each "
            "test stricter (default: from study.toml, else 1).",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    if claims or require or explain:
        for option, value in (("--sort", sort), ("--assert", assertions), ("--seeds-shown", seeds_shown)):
            if value:
                raise UsageError(
                    f"{option} cannot be combined with --claims, --require or --explain", hint=f"omit {option}"
                )
        shown, written = _formats(format, out, json)
        output = Output(json=shown == "json", quiet=quiet)
        _judge(runs, require or [], explain or [], looks, shown, written, out, output)
        return
    if looks is not None:
        raise UsageError("--looks needs --claims, --require or --explain", hint="add one of them")
    from resnet_cli.analysis.assertions import parse_assertion
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.analysis.selection import parse_sort
    from resnet_cli.analysis.tables import NETWORK_COLUMNS, layout, render, study_document
    from resnet_cli.util.files import write_output

    # Errors in options are reported before any run is read.
    shown, written = _formats(format, out, json)
    parse_sort(sort, NETWORK_COLUMNS)
    parsed = [parse_assertion(text) for text in assertions or []]

    output = Output(json=shown == "json", quiet=quiet)
    study = load_study(runs)
    document = study_document(study, sort=sort)
    view = ReportView(layout(document, seeds_shown=seeds_shown))
    if not study.runs:
        if shown in ("json", "table"):
            output.result(document, view)
        else:
            output.stderr.print(view)
        study.require_runs()
    results = [assertion.evaluate(document["networks"]) for assertion in parsed]
    document["assertions"] = msgspec.to_builtins(results)
    if out is not None and written is not None:
        text = _plain_text(view) if written == "table" else render(document, written, seeds_shown=seeds_shown)
        write_output(out, text.encode())
        output.note(f"wrote {out}")
    if shown == "json" or shown == "table":  # noqa: PLR1714 - mypy narrows this one
        output.result(document, view)
    elif shown is not None:
        output.raw(render(document, shown, seeds_shown=seeds_shown))
    if "csv" in (shown, written) and study.skipped:
        output.warn(f"excluded runs: {len(study.skipped)}; --format table lists them with the reason")
    _report_assertions(output, results, shown)


def _judge(
    runs: list[Path], require: list[str], explain: list[str], looks: int | None, shown: OutFormat | None,
    written: OutFormat | None, out: Path | None, output: Output,
) -> None:  # fmt: skip
    """Print the verdicts on all claims, or explain some of them."""
    from resnet_cli.analysis.claims import CLAIM_COLUMNS, check_claims, claims_document, claims_report, explanation
    from resnet_cli.analysis.claims.decisions import alpha_per_look
    from resnet_cli.analysis.frames import load_study
    from resnet_cli.analysis.tables import csv_table, render_report
    from resnet_cli.study_file import planned_looks
    from resnet_cli.util.files import write_output
    from resnet_cli.util.text import json_text

    check_claims(require, "--require")
    check_claims(explain, "--explain")
    study = load_study(runs, with_metrics=True)
    study.require_runs()
    alpha = alpha_per_look(planned_looks(run.dir.path for run in study.runs) if looks is None else looks)
    document = claims_document(study, alpha=alpha, warn=output.warn)
    failed = [row for row in document["claims"] if row["claim"] in require and row["status"] != "supported"]
    if explain:
        document["claims"] = [row for row in document["claims"] if row["claim"] in explain]
    report = claims_report(document)
    view = ClaimsView(report)

    def text(form: OutFormat) -> str:
        if form == "json":
            return json_text(document)
        if form == "csv":
            return csv_table(CLAIM_COLUMNS, document["claims"])
        return _plain_text(view) if form == "table" else render_report(report, form)

    if out is not None and written is not None:
        write_output(out, text(written).encode())
        output.note(f"wrote {out}")
    if shown == "table" and explain:
        parts = [_wrapped(explanation(row), output.stdout.width) for row in document["claims"]]
        output.raw("\n\n".join(parts))
    elif shown == "json" or shown == "table":  # noqa: PLR1714 - mypy narrows this one
        output.result(document, view)
    elif shown is not None:
        output.raw(text(shown))
    if failed:
        several = len({(row["dataset"], row["recipe"], row["fingerprint"]) for row in document["claims"]}) > 1
        where = [f" in {row['dataset']}, {row['recipe']}" if several else "" for row in failed]
        names = "; ".join(f"{row['claim']} ({row['status']}{place})" for row, place in zip(failed, where, strict=True))
        raise CheckFailedError(f"not supported: {names}")


def _formats(format: OutFormat | None, out: Path | None, as_json: bool) -> tuple[OutFormat | None, OutFormat | None]:
    """Choose the formats on stdout and in the file, None for no output; raise an error for invalid options."""
    if out is None:
        if as_json and format not in (None, "json"):
            raise UsageError(f"--json and --format {format} cannot be combined", hint="remove one of them")
        return ("json" if as_json else format or "table"), None
    written = format or _SUFFIXES.get(out.suffix.lower()) or ("json" if as_json else None)
    if written is None:
        raise UsageError(f"unknown suffix of --out {out}", hint=f"use {' '.join(_SUFFIXES)} or --format")
    if not os.path.isdir(out.parent):
        raise InputError(f"--out {out}: folder {out.parent} does not exist", hint="create it first")
    if os.path.isdir(out):
        raise InputError(f"--out {out} is a folder", hint=f"name a file in it: {out / 'table1.md'}")
    return ("json" if as_json else None), written


def _wrapped(lines: Sequence[str], width: int) -> str:
    """Lines of an explanation, broken between words, with their continuations indented below the text."""
    from textwrap import fill

    # a minus sign stays with its number, and a word is never broken
    return "\n".join(
        fill(
            printable(line), max(width, 40), subsequent_indent=" " * 13, break_on_hyphens=False, break_long_words=False
        )
        for line in lines
    )


def _plain_text(view: ReportView) -> str:
    from rich.console import Console

    text = StringIO()
    Console(file=text, width=_FILE_WIDTH, highlight=False, color_system=None).print(view)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _report_assertions(output: Output, results: Sequence["AssertionResult"], shown: OutFormat | None) -> None:
    """Print the outcome of every assertion, then raise `CheckFailedError` if one does not hold."""
    from rich.text import Text

    failed = [result for result in results if not result.holds]
    for result in results:
        line = f"{'holds' if result.holds else 'does not hold'}: {_shown(result)}"
        if shown in ("table", None):
            output.stdout.print(Text(printable(line), style="green" if result.holds else "red"))
        elif shown != "json":
            output.note(line)  # stdout contains a file format
    if failed:
        verb = "does" if len(failed) == 1 else "do"
        raise CheckFailedError(f"{len(failed)} of {len(results)} assertions {verb} not hold: {_shown(failed[0])}")


def _shown(result: "AssertionResult") -> str:
    left, right = ("no value" if side is None else f"{side:.6g}" for side in (result.left, result.right))
    return f"{result.assertion} (left {left}, right {right}{f': {result.reason}' if result.reason else ''})"
