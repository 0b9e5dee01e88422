"""Image files of drawn figures."""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from resnet_cli.analysis.figures import DrawnFigure
from resnet_cli.analysis.figures.style import save
from resnet_cli.analysis.frames import Group
from resnet_cli.errors import UsageError


def write_figures(
    figures: Sequence[DrawnFigure],
    out: Path,
    suffix: str,
    groups: Iterable[Group],
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> list[Path]:
    """Write figures as `<name><suffix>` in `out`, with one subfolder per group if there are several groups.

    Args:
        figures: result of `resnet_cli.analysis.figures.draw`.
        out: folder, created if missing; or a file that ends in `suffix`, for a single figure.
        suffix: one of `SUFFIXES`.
        groups: all groups of the study, from `figure_groups`.
        warn: called with one line if the font lacks characters in a figure.

    Returns:
        The file of each figure.

    Raises:
        UsageError: `out` is a file, but there are several figures; nothing is written.
    """
    paths = _paths(figures, out, suffix, list(groups))
    for drawn, path in zip(figures, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            save(drawn.figure, path)
        if path.suffix != ".svg" and any("missing from font" in str(warning.message) for warning in caught):
            warn(f"{path}: the font lacks characters in a class name; use --format svg to keep them as text")
    return paths


def _paths(figures: Sequence[DrawnFigure], out: Path, suffix: str, groups: Sequence[Group]) -> list[Path]:
    if out.suffix.lower() == suffix and not os.path.isdir(out):
        if len(figures) > 1:
            labels = " and ".join(drawn.group.label for drawn in figures)
            raise UsageError(
                f"--out {out} names one file, but there are several figures: {labels}",
                hint="name a folder, or only the runs of one dataset and recipe",
            )
        return [out]
    if len(groups) == 1:
        return [out / f"{drawn.name}{suffix}" for drawn in figures]
    folders: dict[Group, str] = {}
    for group in groups:
        name = re.sub(r"[^a-z0-9.]+", "-", group.label.lower()).strip("-.")[:80] or "group"
        if name in folders.values():
            # Two datasets may share a name, and two recipes may differ only after the cut.
            name += "-" + hashlib.sha256(f"{group.fingerprint} {group.label}".encode()).hexdigest()[:8]
        folders[group] = name
    return [out / folders[drawn.group] / f"{drawn.name}{suffix}" for drawn in figures]
