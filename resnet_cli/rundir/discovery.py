"""Find run directories among files and folders."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnet_cli.errors import InputError
from resnet_cli.rundir.directory import RunDir

# Written before run.json: a folder that contains them but no run.json is a run that has lost it.
_WRITTEN_FIRST = {"metrics.csv", "gradflow.csv"}

_UNSEARCHED = ".unsearched"
"""A folder with a file of this name is searched only if it is named itself. In the source tree it keeps published runs
apart from those of the user."""


def find_runs(paths: Iterable[str | os.PathLike[str]]) -> list[RunDir]:
    """Find the run directories in `paths`, each once, sorted within each folder.

    A path can be a run directory, or a folder to search for them; folders inside it that contain a file `.unsearched`
    are left out. Files are skipped if there are folders too, since `runs/*` matches both.

    Raises:
        InputError: a path does not exist or contains no run directory, or all paths are files.
    """
    found: dict[str, RunDir] = {}
    for path in _look_for(list(map(Path, paths))):
        found.setdefault(os.path.realpath(path), RunDir(path))
    return list(found.values())


def _look_for(all_given: list[Path]) -> Iterator[Path]:
    folders = [path for path in all_given if not os.path.isfile(path)]
    for given in folders or all_given:
        if not os.path.lexists(given):
            raise InputError(f"{given} does not exist")
        if not os.path.isdir(given):
            raise InputError(f"{given} is a file, not a run directory or a folder of runs")
        inside = sorted(_search(given))
        if not inside:
            raise InputError(f"no runs found in {given} (no run.json)")
        yield from inside


def _search(folder: Path) -> Iterator[Path]:
    """Folders in `folder` that contain a run, contained one before its run.json was lost, or cannot be opened."""
    pending = [str(folder)]
    while pending:  # not recursive: folders may be nested thousands deep
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                inside = list(entries)
        except OSError:
            yield Path(current)  # the error is reported when its run.json is read
            continue
        names = {entry.name for entry in inside}
        if "run.json" in names or names >= _WRITTEN_FIRST:
            yield Path(current)
        elif _UNSEARCHED not in names or current == str(folder):
            # links to folders are not followed, so a loop of links ends
            pending += [entry.path for entry in inside if entry.is_dir(follow_symlinks=False)]
