"""Copies of run directories on other machines, which can be resumed at any time.

A run directory is always written in one order: what the checkpoint refers to, then the checkpoint, and last the file
that marks the run as complete. A copy is written in the same order, so that it can be resumed after a crash between two
files. The original is read in the opposite order while its process works on it: a file is then at least as recent as
the checkpoint that refers to it, and all results are final if there is a summary.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from resnet_cli.errors import ResnetError
from resnet_cli.rundir.directory import RunDir
from resnet_cli.util.files import read_bytes

_MAX_BYTES = 2**30


class FileCopy(NamedTuple):
    """A file on its way to a copy of its run directory."""

    position: int
    """Place in the order of writing."""
    data: bytes
    sha256: str


class ChangedFiles:
    """Finds the files of a run directory that have changed since they were last read."""

    def __init__(self, run: RunDir) -> None:
        self._paths = _paths(run)
        self._states: dict[int, tuple[int, int, int]] = {}
        self._sha256: dict[int, str] = {}

    def read(self) -> list[FileCopy]:
        """Read the changed files, in the order in which they have to be written.

        Raises:
            RunFileError: a file is not regular, is larger than 1 GiB or cannot be read.
        """
        changed = []
        for position, path in reversed(list(enumerate(self._paths))):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if state == self._states.get(position):
                continue
            data = read_bytes(path, _MAX_BYTES)
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 != self._sha256.get(position):
                changed.append(FileCopy(position, data, sha256))
            self._states[position], self._sha256[position] = state, sha256
        return changed[::-1]


def write_files(run: RunDir, files: Iterable[FileCopy]) -> None:
    """Replace files of a copy, each atomically.

    Args:
        run: the copy; it may have a lock.
        files: from `ChangedFiles.read`.

    Raises:
        ResnetError: a file was damaged in transfer; it is not written.
        OSError: from the file system.
    """
    paths = _paths(run)
    for position, data, sha256 in files:
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ResnetError(f"{paths[position]} was damaged in transfer: its SHA-256 differs")
        os.makedirs(run.path, exist_ok=True)
        run.write_bytes(paths[position], data)


def _paths(run: RunDir) -> list[Path]:
    """The files of a run directory, in the order in which they have to be written."""
    return [
        run.metrics_path, run.gradflow_path, run.init_weights_path, run.record_path, run.attempts_path,
        run.best_weights_path, run.predictions_path, run.readme_path, run.checkpoint_path, run.last_weights_path,
        run.diverged_path, run.summary_path,
    ]  # fmt: skip
