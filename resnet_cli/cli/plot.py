"""`resnet plot`: the report's figures and the degradation plot, from run directories."""

import hashlib
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from resnet_cli.analysis.figures import ALL, KINDS, check_kinds
from resnet_cli.cli.options import Json, Quiet, RunPaths
from resnet_cli.cli.output import Output
from resnet_cli.config import check_depth
from resnet_cli.errors import ConfigError, UsageError
from resnet_cli.util.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resnet_cli.analysis.figures import DrawnFigure
    from resnet_cli.analysis.frames import Group

Format = Literal["png", "svg", "pdf"]
_DEFAULT_FORMAT: Format = "png"
_FORMATS = (".png", ".svg", ".pdf")
# As the end of --out these mean a picture, not a folder of that name.
_OTHER_PICTURES = (".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".eps", ".ps", ".bmp", ".webp")

_KIND_LINES = "\n\n".join(f"  {name}: {kind.summary}" for name, kind in KINDS.items())

HELP = f"""Draw the report's Figures 1 to 5, the degradation plot and gradient norms.

Only complete runs are drawn, each dataset and recipe by itself.
Several seeds make one line: their mean, with its 95 % Student-t interval.

Kinds of figures:

{_KIND_LINES}

Examples:

  resnet plot runs/

  resnet plot runs/ --kind fig1 --kind degradation --format pdf --out paper/

  resnet plot runs/he-* --depths 20,110 --format svg

  resnet plot runs/ --kind degradation --out degradation.png

  resnet plot runs/ --json
"""


def command(
    runs: RunPaths,
    kind: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Figure to draw, or all: those that the runs suffice for. May be given several times.",
            autocompletion=lambda: [*KINDS, ALL],
        ),
    ] = [ALL],  # noqa: B006  # typer copies it
    out: Annotated[
        Path, typer.Option(help="Folder of the figures; or a .png, .svg or .pdf file, for a single figure.")
    ] = Path("figures"),
    image_format: Annotated[
        Format | None,
        typer.Option("--format", help="png has 300 dpi, svg keeps text as text. Default: png.", show_default=False),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            metavar="SMALL,LARGE",
            help="Depths of fig1 to fig5. Default: 20,56, else the smallest and the largest there are.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw figures of runs."""
    check_kinds(kind)
    chosen_depths = _read_depths(depths)
    suffix = _suffix(out, image_format, kind)

    from resnet_cli.analysis.figures import draw_or_explain
    from resnet_cli.analysis.frames import load_study

    output = Output(json=json, quiet=quiet)
    study = load_study(runs, with_metrics=True)
    for run in study.skipped:
        output.warn(f"{run.path} is left out ({run.status}): {run.reason}")
    figures, missing = draw_or_explain(study, kind, chosen_depths)
    left_out = list(dict.fromkeys(reason for drawn in figures for reason in drawn.left_out))
    for reason in left_out:
        output.warn(f"left out of a figure: {reason}")
    for not_drawn in missing:
        output.note(f"{not_drawn.kind} of {not_drawn.group.label} is not drawn: {not_drawn.reason}")

    paths = write_figures(figures, out, suffix, list(study.groups()), output)
    document = {
        "figures": [
            {
                "kind": drawn.kind,
                "group": drawn.group.label,
                "path": str(path),
                "networks": drawn.networks,
                "n_runs": drawn.n_runs,
            }
            for drawn, path in zip(figures, paths, strict=True)
        ],
        "skipped": [{"kind": one.kind, "group": one.group.label, "reason": one.reason} for one in missing],
        "left_out": left_out,
        "skipped_runs": [{"path": run.path, "status": run.status, "reason": run.reason} for run in study.skipped],
    }
    output.result(document, None)
    if not json:
        output.raw("\n".join(printable(str(path)) for path in paths))


def write_figures(
    figures: "Sequence[DrawnFigure]", out: Path, suffix: str, groups: "Sequence[Group]", output: Output
) -> list[Path]:
    """Write figures as `<kind><suffix>` into `out`, into a folder of its own for each of several groups.

    Args:
        figures: what `draw_or_explain` drew.
        out: folder, made where it is missing; or a file that ends in `suffix`, for a single figure.
        suffix: `.png`, `.svg` or `.pdf`.
        groups: all groups of the study.
        output: told of characters that the font lacks.

    Returns:
        The file of each figure.

    Raises:
        UsageError: `out` is a file and there are several figures; nothing is written then.
        OSError: as the file system gives it.
    """
    paths = _paths(figures, out, suffix, groups)
    for drawn, path in zip(figures, paths, strict=True):
        _save(drawn.figure, path, output)
    return paths


def _read_depths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not 1 <= len(parts) <= 2 or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise UsageError(f"--depths {text!r} is not one depth or two", hint="use --depths 20,56")
    try:
        return sorted(check_depth(int(part)) for part in parts)
    except ConfigError as error:
        raise UsageError(f"--depths {text!r}: {error.message}", hint="use --depths 20,56") from error


def _suffix(out: Path, image_format: Format | None, kinds: Sequence[str]) -> str:
    """The suffix of the files, dot included; raises `UsageError` when `out`, format and kinds do not go together."""
    ending = out.suffix.lower()
    if ending in _OTHER_PICTURES:
        raise UsageError(f"--out {out}: {ending} is no format of this command", hint="use .png, .svg or .pdf")
    if os.path.isfile(out) and ending not in _FORMATS:
        raise UsageError(f"--out {out} is a file, not a folder", hint="name a folder, or a .png, .svg or .pdf file")
    if ending not in _FORMATS or os.path.isdir(out):
        return f".{image_format or _DEFAULT_FORMAT}"
    if len(set(kinds)) != 1 or ALL in kinds:
        raise UsageError(
            f"--out {out} is one file for several figures", hint="name a folder, or one figure with --kind"
        )
    if image_format not in (None, ending[1:]):
        raise UsageError(f"--out {out} is not of --format {image_format}", hint="leave --format out")
    return ending


def _paths(figures: "Sequence[DrawnFigure]", out: Path, suffix: str, groups: "Sequence[Group]") -> list[Path]:
    if out.suffix.lower() == suffix and not os.path.isdir(out):
        if len(figures) > 1:
            labels = " and ".join(drawn.group.label for drawn in figures)
            raise UsageError(
                f"--out {out} is one file for the figures of {labels}", hint="name a folder, or the runs of one of them"
            )
        return [out]
    if len(groups) == 1:
        return [out / f"{drawn.kind}{suffix}" for drawn in figures]
    folders: dict[Group, str] = {}
    for group in groups:
        name = re.sub(r"[^a-z0-9.]+", "-", group.label.lower()).strip("-.")[:80] or "group"
        if name in folders.values():
            # two datasets of one name with other images, or two recipes that differ beyond the cut
            name += "-" + hashlib.sha256(f"{group.fingerprint} {group.label}".encode()).hexdigest()[:8]
        folders[group] = name
    return [out / folders[drawn.group] / f"{drawn.kind}{suffix}" for drawn in figures]


def _save(figure: "Figure", path: Path, output: Output) -> None:
    from resnet_cli.analysis.figures import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save(figure, path)
    if path.suffix != ".svg" and any("missing from font" in str(warning.message) for warning in caught):
        output.warn(f"{path}: the font lacks characters of a class name; --format svg keeps them as text")
