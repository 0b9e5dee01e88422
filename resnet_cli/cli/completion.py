"""Shell completion of recipes and of the run directories below the current folder."""

import os
from collections import deque
from collections.abc import Iterator

from resnet_cli.recipes import RECIPES

# Completion must not keep the user waiting: in a large folder, it finds only the runs that are near.
_MAX_FOLDERS = 2000


def complete_recipes(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of the recipes, each with its summary."""
    return ((name, recipe.summary) for name, recipe in RECIPES.items() if name.startswith(incomplete))


def complete_runs(incomplete: str) -> list[str]:
    """Paths of run directories that start with `incomplete`; none if no folder on the way can be read."""
    return sorted(_runs(incomplete))


def _runs(prefix: str) -> Iterator[str]:
    """Run directories whose path starts with `prefix`, nearest first, without following links."""
    pending = deque([os.path.dirname(prefix)])
    for _ in range(_MAX_FOLDERS):
        if not pending:
            return
        folder = pending.popleft()
        try:
            with os.scandir(folder or ".") as entries:
                inside = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            continue
        if any(entry.name == "run.json" for entry in inside):
            if folder and folder.startswith(prefix):
                yield folder
            continue
        paths = (os.path.join(folder, entry.name) for entry in inside if entry.is_dir(follow_symlinks=False))
        pending += sorted(path for path in paths if path.startswith(prefix))
