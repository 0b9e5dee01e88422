"""The grid of a study, from the options of `resnet reproduce` and from study.toml."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from resnet_cli.cli.output import Output
from resnet_cli.errors import InputError, UsageError
from resnet_cli.study_file import FILE_NAME, MAX_SEEDS, Grid, StudyFile, StudyPlan, write_study_file

DEFAULTS: dict[str, Any] = {
    "recipe": "demo", "archs": ("plain", "resnet"), "depths": (20, 56), "seeds": (0,), "arms": (), "probes": ("bn",),
}  # fmt: skip


def choose_grid(
    chosen: Mapping[str, Any], given: dict[str, Any], recorded: Grid | None, folder: Path, *, is_continued: bool
) -> Grid:
    """The grid of this command: what the user chose, else what study.toml records for a study to continue."""
    if is_continued and recorded is None:
        raise InputError(
            f"{folder} is not a study: it has no {FILE_NAME} with a grid", hint="use --out to start a new study there"
        )
    base = msgspec.structs.asdict(recorded) if is_continued and recorded else {**DEFAULTS, "options": {}}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    grid = Grid(**{**base, **chosen, "options": {**base["options"], **given}})
    if recorded is not None:
        for name, before, now in (
            ("recipe", recorded.recipe, grid.recipe),
            *(
                (name, recorded.options.get(name), grid.options.get(name))
                for name in {**given, **recorded.options, **grid.options}  # first what the user can change
            ),
        ):
            if before != now:
                option = f"--{name.replace('_', '-')}"
                was, value = ("the recipe's value" if item is None else item for item in (before, now))
                raise UsageError(
                    f"{folder} contains a study with a different {option} ({was}, not {value})",
                    hint="choose another --out, or name the study without options to continue it",
                )
    return grid


def choose_data_dir(given: Path | None, grid: Grid, earlier: StudyFile | None) -> Path | None:
    """The folder of the images: `given`, else that of the study so far if it still exists; None for the default."""
    if given is None and grid.options.get("dataset") == "imagefolder" and earlier and earlier.data_dir:
        return Path(earlier.data_dir) if os.path.isdir(earlier.data_dir) else None
    return given


def record_study(
    folder: Path,
    earlier: StudyFile | None,
    grid: Grid,
    planned_seeds: int | None,
    looks: int | None,
    data_dir: Path | None,
    output: Output,
) -> None:
    """Write study.toml: the plan of a new study, everything that was ever part of its grid, and its image folder."""
    num_seeds = len(grid.seeds)
    plan = earlier.plan if earlier else StudyPlan(planned_seeds or num_seeds, looks or 1)
    if earlier and num_seeds > plan.seeds:
        output.warn(
            f"{folder / FILE_NAME}: the planned number of seeds is {plan.seeds}, not {num_seeds}; if you added seeds "
            "after a look at the results, give --looks to resnet compare --claims"
        )
    if earlier and (planned_seeds or plan.seeds, looks or plan.looks) != (plan.seeds, plan.looks):
        output.warn(f"{folder / FILE_NAME} keeps its plan: --planned-seeds {plan.seeds} --looks {plan.looks}")
    if earlier and earlier.grid:
        lists = ("archs", "depths", "seeds", "arms", "probes")
        union = {name: (*getattr(earlier.grid, name), *getattr(grid, name)) for name in lists}
        grid = msgspec.structs.replace(grid, **{name: tuple(dict.fromkeys(values)) for name, values in union.items()})
    images = earlier.data_dir if earlier else None
    if grid.options.get("dataset") == "imagefolder" and data_dir is not None:
        name = os.path.abspath(data_dir)
        images = name if name.isprintable() else None  # a name that TOML cannot contain has to be given each time
    if earlier != (recorded := StudyFile(plan, grid, images)):
        write_study_file(folder, recorded)


def parse_archs(text: str | None) -> tuple[str, ...] | None:
    """Architectures in a list such as `plain,resnet`; None for None. Raises `UsageError` for others."""
    names = split_names(text)
    if names is not None and not set() < set(names) <= {"plain", "resnet"}:
        raise UsageError(f"--archs must be plain, resnet or both (got {text})", hint="use --archs plain,resnet")
    return names


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Distinct names in a list with commas, in order; empty for `none`, None for None."""
    if text is None:
        return None
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip() not in ("", "none")))


def parse_numbers(option: str, text: str | None, example: str) -> tuple[int, ...] | None:
    """Distinct numbers in a list such as `0-4,7`; None for None. Raises `UsageError` for other text."""
    if text is None:
        return None
    values: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low = int(part) if not first else int(first)
            high = int(last) if first and dash else low
        except ValueError:
            raise UsageError(
                f"{option} must be a list of whole numbers (got {text})", hint=f"use {option} {example}"
            ) from None
        if high < low or high - low >= MAX_SEEDS:
            raise UsageError(f"{option} {part.strip()} is not a range", hint=f"use {option} {example}")
        values += range(low, high + 1)
    if len(values) > MAX_SEEDS:
        raise UsageError(
            f"{option} has {len(values):,} numbers, more than {MAX_SEEDS:,}", hint=f"use {option} {example}"
        )
    return tuple(dict.fromkeys(values))


def parse_num_jobs(text: str) -> int | None:
    """A number of jobs; None for `auto`. Raises `UsageError` for other text."""
    if text == "auto":
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1000:
        raise UsageError(f"--jobs must be auto or a number between 1 and 1000 (got {text})", hint="use --jobs auto")
    return number
