"""The plan of a study, fixed before its runs: how many seeds, and how often the claims are judged meanwhile."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from resnet_cli.errors import InputError
from resnet_cli.util.files import read_bytes, write_output
from resnet_cli.util.text import one_line

FILE_NAME = "study.toml"
_MAX_BYTES = 2**20


class StudyPlan(msgspec.Struct, frozen=True):
    """The table `plan` of study.toml."""

    seeds: Annotated[int, Meta(ge=1, le=10_000)]
    """Seeds per network when the study is complete."""
    looks: Annotated[int, Meta(ge=1, le=100)] = 1
    """How often the claims are judged in all, the last time included."""


class _StudyFile(msgspec.Struct):
    plan: StudyPlan


def read_plan(folder: Path) -> StudyPlan | None:
    """Read the plan in the folder of a study; None for a study without a plan.

    Raises:
        InputError: study.toml is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        return msgspec.toml.decode(read_bytes(path, _MAX_BYTES), type=_StudyFile).plan
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"{path} has no valid plan: {one_line(error)}", hint="give --looks, or correct it") from error


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Write study.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    write_output(folder / FILE_NAME, f"[plan]\nseeds = {plan.seeds}\nlooks = {plan.looks}\n".encode())


def planned_looks(paths: Iterable[Path]) -> int:
    """The largest number of looks of the studies that `paths`, or their parent folders, belong to; 1 without a plan."""
    folders = {folder for path in paths for folder in (path, path.absolute().parent)}
    return max((plan.looks for folder in sorted(folders) if (plan := read_plan(folder))), default=1)
