"""`resnet plot`: training curves of any runs, the figures of the report and others, from run directories."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from resnet_cli.analysis.figures import ALIASES, ALL, KINDS, SUFFIXES, check_kinds
from resnet_cli.analysis.frames import Skipped
from resnet_cli.cli.options import Json, Quiet, RunPaths
from resnet_cli.cli.output import Output
from resnet_cli.config import check_depth
from resnet_cli.errors import ConfigError, UsageError, as_arguments
from resnet_cli.rundir import RunDir
from resnet_cli.util.text import printable

Format = Literal["png", "svg", "pdf"]
# --out with one of these suffixes names an image file, not a folder.
_OTHER_PICTURES = (".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".eps", ".ps", ".bmp", ".webp")

_REPORT_FIGURES = {
    kind: ", ".join(alias for alias, (name, _) in ALIASES.items() if name == kind) for kind, _ in ALIASES.values()
}
_KIND_LINES = "\n\n".join(
    f"  {name}{f' ({_REPORT_FIGURES[name]})' if name in _REPORT_FIGURES else ''}: {kind.summary}"
    for name, kind in KINDS.items()
)

HELP = f"""Draw training curves, confusion matrices, the degradation plot and gradients.

Curves show runs in any state; unfinished ones end with a marker. All other figures show complete runs.
Each dataset and recipe has its own figures.
Fewer than four seeds are drawn as one line each, four or more as mean with 95 % Student-t interval.

Kinds of figures; fig1 to fig5 are the figures of the report and can be used as names:

{_KIND_LINES}

Examples:

  resnet plot runs/plain-56

  resnet plot runs/

  resnet plot runs/ --kind fig1 --kind degradation --format pdf --out paper/

  resnet plot runs/he-* --kind confusion --depths 20,110 --format svg

  resnet plot runs/ --kind degradation --out degradation.png

  resnet plot runs/ --json
"""


def command(
    runs: RunPaths,
    kind: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Figure to draw, or all for every figure that the runs support. Can be given several times.",
            autocompletion=lambda: [*KINDS, *ALIASES, ALL],
        ),
    ] = [ALL],  # noqa: B006  # typer copies it
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the figures, or a .png, .svg or .pdf file for a single figure (default: figures/; for one "
            "run directory, figures/ and its name).", show_default=False,
        ),
    ] = None,
    image_format: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Image format; png has 300 dpi, svg keeps text as text (default: png).", show_default=False
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            metavar="SMALL,LARGE",
            help="Depths of figures of one depth (default: 20,56 if available, else the smallest and largest depth).",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    check_kinds(kind)
    chosen_depths = _read_depths(depths)
    out = out or _default_out(runs)
    suffix = _suffix(out, image_format, kind)

    from resnet_cli.analysis.figures import describe_skipped, draw, figure_groups
    from resnet_cli.analysis.figures.files import write_figures
    from resnet_cli.analysis.frames import load_study

    output = Output(json=json, quiet=quiet, is_saved=True)
    study = load_study(runs, with_metrics=True)
    for run in study.skipped:
        if run.status == "unreadable":
            output.warn(str(run))
    drawn, skipped = draw(study, kind, chosen_depths)
    left_out = list(dict.fromkeys(reason for figure in drawn for reason in figure.left_out))
    for reason in left_out:
        output.warn(f"run missing from a figure: {reason}")
    if excluded := _describe_excluded(study.skipped, any(figure.kind == "curves" for figure in drawn)):
        output.note(excluded)
    if skipped:
        output.note(describe_skipped(skipped))

    paths = write_figures(drawn, out, suffix, figure_groups(study), warn=output.warn)
    document = {
        "figures": [
            {"name": one.name, "kind": one.kind, "report_figure": one.report_figure, "group": one.group.label,
             "path": str(path), "networks": one.networks, "n_runs": one.n_runs}
            for one, path in zip(drawn, paths, strict=True)
        ],
        "skipped": [
            {"name": one.name, "kind": one.kind, "group": one.group.label, "reason": one.reason} for one in skipped
        ],
        "left_out": left_out,
        "skipped_runs": study.skipped,
    }  # fmt: skip
    output.result(document, None)
    if not json:
        output.raw("\n".join(printable(str(path)) for path in paths))


def _default_out(runs: Sequence[Path]) -> Path:
    """A folder of its own for each run, so that the curves of one do not replace those of another."""
    folder = Path("figures")
    is_run = len(runs) == 1 and RunDir(runs[0]).exists()
    return folder / os.path.basename(os.path.realpath(runs[0])) if is_run else folder


def _describe_excluded(skipped: Sequence[Skipped], has_curves: bool) -> str | None:
    """One line about the readable runs that are not in all figures; None if every run is."""
    statuses = [run.status for run in skipped if run.status != "unreadable"]
    parts = [f"{statuses.count(status)} {status}" for status in sorted(set(statuses) - {"duplicate"})]
    counts = [f"{', '.join(parts)} ({'shown by curves only' if has_curves else 'not shown'})"] if parts else []
    if "duplicate" in statuses:
        counts.append(f"{statuses.count('duplicate')} duplicate (not counted twice)")
    return f"runs that are not complete: {'; '.join(counts)}" if parts else "; ".join(counts) or None


def _read_depths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) > 2 or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", part) for part in parts):
        raise UsageError(f"--depths must be one or two depths (got {text})", hint="use --depths 20,56")
    try:
        return sorted(check_depth(int(part)) for part in parts)
    except ConfigError as error:
        raise UsageError(f"--depths {text}: {as_arguments(error.message)}", hint="use --depths 20,56") from error


def _suffix(out: Path, image_format: Format | None, kinds: Sequence[str]) -> str:
    """Choose the suffix of the files, including the dot; raise `UsageError` if `out`, format and kinds conflict."""
    ending = out.suffix.lower()
    if ending in _OTHER_PICTURES:
        raise UsageError(f"unsupported format --out {out}", hint="use .png, .svg or .pdf")
    if os.path.isfile(out) and ending not in SUFFIXES:
        raise UsageError(f"--out {out} is a file, not a folder", hint="name a folder, or a .png, .svg or .pdf file")
    if ending not in SUFFIXES or os.path.isdir(out):
        return f".{image_format or 'png'}"
    if len(set(kinds)) != 1 or ALL in kinds:
        raise UsageError(
            f"--out {out} names one file, but several figures were requested",
            hint="name a folder, or one figure with --kind",
        )
    if image_format not in (None, ending[1:]):
        raise UsageError(f"--format {image_format} does not match --out {out}", hint="omit --format")
    return ending
