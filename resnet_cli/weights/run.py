"""Weights of a run directory, checked against the run's record."""

import os
from pathlib import Path
from typing import Literal

from resnet_cli.errors import InputError, UsageError
from resnet_cli.rundir import RunDir
from resnet_cli.util.files import file_sha256
from resnet_cli.weights.file import WeightFile, read_weights

Which = Literal["last", "best"]

_HINTS = {
    "incomplete": "run the same resnet train command again to resume",
    "running": "wait until it saves its first checkpoint",
}


def open_weights(path: Path, which: Which | None) -> tuple[WeightFile, Which | None, RunDir | None]:
    """Read the weights of a run (`which`; None: the last ones) or a weight file, for which `which` must be None.

    Returns:
        The weights, and for a run also which of its weights they are and the run.

    Raises:
        InputError: as `load_run_weights` and `read_weights` do, or nothing exists at `path`.
        UsageError: `which` was given for a file.
    """
    if os.path.isdir(path):
        run, which = RunDir(path), which or "last"
        return load_run_weights(run, which), which, run
    if not os.path.lexists(path):
        raise InputError(f"{path} does not exist", hint="pass a run directory or a weight file")
    if which is not None:
        raise UsageError(f"--which {which} applies to runs, but {path} is a file", hint="omit --which")
    return read_weights(path), None, None


def load_run_weights(run: RunDir, which: Which) -> WeightFile:
    """Read the last or the best weights of a complete or incomplete run.

    Raises:
        RunFileError: the record of the run cannot be read.
        InputError: the weights are missing or unusable, or their configuration or classes are not those of the run.
    """
    record = run.read_record()
    paths = {"last": run.last_weights_path, "best": run.best_weights_path}
    path = paths[which]
    if not path.is_file():
        others = [name for name, other in paths.items() if other.is_file()]
        status = run.status()
        hint = f"use --which {others[0]}" if others else _HINTS.get(status)
        raise InputError(f"{path} is missing (run status: {status})", hint=hint)
    weights = read_weights(path)
    if weights.config != record.config or weights.candidates[0].num_classes != len(record.dataset.classes):
        raise InputError(
            f"{path} does not belong to the run: its configuration or number of classes differs from run.json"
        )
    return weights


def load_initial_weights(run: RunDir) -> WeightFile | None:
    """Read the weights that `train --init-from` started a run from; None if they follow from its seed.

    Raises:
        RunFileError: the record or the weights of the run cannot be read.
        InputError: the weights are unusable, or are not those that the run started from.
    """
    recorded = run.read_record().init_from
    if recorded is None:
        return None
    if file_sha256(run.init_weights_path) != recorded.copy_sha256:
        raise InputError(f"{run.init_weights_path} was changed since the run started", hint="restore it")
    return read_weights(run.init_weights_path)
