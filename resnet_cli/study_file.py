"""The file study.toml of a study: its grid, and how many seeds and looks at the results were planned beforehand."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from resnet_cli.config import FIELDS, Arch, check_field
from resnet_cli.config_file import toml_value
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.util.files import read_bytes, write_output
from resnet_cli.util.text import one_line, shorten

FILE_NAME = "study.toml"
_MAX_BYTES = 2**20
_Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]

MAX_SEEDS = 10_000
"""Bound on the seeds of a study, which catches typing errors."""


class StudyPlan(msgspec.Struct, frozen=True):
    """The table `plan` of study.toml."""

    seeds: Annotated[int, Meta(ge=1, le=MAX_SEEDS)]
    """Seeds per network when the study is complete."""
    looks: Annotated[int, Meta(ge=1, le=100)] = 1
    """How often the claims are judged in all, the last time included."""


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `grid` of study.toml: networks and seeds to train, and probes to measure on them."""

    recipe: str
    archs: Annotated[tuple[Arch, ...], Meta(min_length=1)]
    depths: Annotated[tuple[int, ...], Meta(min_length=1)]
    seeds: Annotated[tuple[_Seed, ...], Meta(min_length=1, max_length=MAX_SEEDS)]
    arms: tuple[str, ...] = ()
    """Names in `resnet_cli.study.ARMS`: variants of the plain networks that are trained too."""
    probes: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    """Fields of `RunConfig` that differ from the recipe, the same for every run."""


class StudyFile(msgspec.Struct, frozen=True):
    """The content of study.toml."""

    plan: StudyPlan
    grid: Grid | None = None
    """None in files that were written by hand."""
    data_dir: str | None = None
    """Image folder of a study with `imagefolder`, absolute. Other datasets may be downloaded, and no file decides where
    this tool writes."""


def read_study_file(folder: Path) -> StudyFile | None:
    """Read study.toml in the folder of a study; None for a folder without one.

    Raises:
        InputError: study.toml is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        study = msgspec.toml.decode(read_bytes(path, _MAX_BYTES), type=StudyFile)
        for name, value in (study.grid.options if study.grid else {}).items():
            _check_option(name, value)
    except (msgspec.MsgspecError, ConfigError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a valid study: {one_line(error)}", hint="correct or remove it") from error
    return study


def _check_option(name: str, value: Any) -> None:
    if name not in FIELDS or name in ("recipe", "arch", "depth", "seed"):
        raise ConfigError(f"unknown option {shorten(repr(name))} in the table grid.options")
    check_field(name, value)


def write_study_file(folder: Path, study: StudyFile) -> None:
    """Write study.toml; the folder is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"plan": msgspec.to_builtins(study.plan)}
    if study.grid is not None:
        grid = msgspec.to_builtins(study.grid)
        options = grid.pop("options")
        tables |= {"grid": grid, "grid.options": options}
    text = "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in table.items() if value is not None)
        for name, table in tables.items()
    )
    if study.data_dir is not None:
        text = f"data_dir = {toml_value(study.data_dir)}\n\n{text}"
    write_output(folder / FILE_NAME, text.encode())


def planned_looks(paths: Iterable[Path]) -> int:
    """The largest number of looks of the studies that the run directories in `paths` belong to; 1 without a plan.

    The runs of a study are in its folder `runs`.
    """
    folders = {parent for path in paths for parent in path.absolute().parents[:2]}
    return max((study.plan.looks for folder in sorted(folders) if (study := read_study_file(folder))), default=1)
