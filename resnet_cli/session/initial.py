"""Initial weights that come from another run or from a weight file instead of the seed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset
from resnet_cli.errors import InputError, RunFileError
from resnet_cli.rundir import RunDir
from resnet_cli.util.files import file_sha256

if TYPE_CHECKING:
    from torch import Tensor


class InitialFile(NamedTuple):
    """A weight file to start from."""

    path: Path
    file_sha256: str
    source: str
    """What the weights come from originally: a run directory or a weight file, as the user gave it."""
    source_sha256: str

    def read(self, config: RunConfig, dataset: Dataset) -> "dict[str, Tensor]":
        """Read the tensors by the names of `CifarNet`.

        Raises:
            InputError: the file cannot be read, was changed, or has another number of outputs than `dataset` classes.
            UsageError: the file contains a network other than that of `config`.
        """
        from resnet_cli.weights import read_weights

        weights = read_weights(self.path)
        if file_sha256(self.path) != self.file_sha256:
            raise InputError(f"--init-from {self.path} is being changed", hint="wait until it is complete")
        weights.resolve(arch=config.arch, depth=config.depth, shortcut=config.shortcut)
        weights.check_fits(dataset)
        return weights.state_dict


def find_initial_file(path: Path) -> InitialFile:
    """Find the weight file of `--init-from`: the file itself, or the last weights of a run.

    The initial weights of another run (`weights/init.safetensors`) keep their original source, so that a repeated or
    resumed run starts from the same source as the first one.

    Raises:
        InputError: the file is missing, or is the copy in a run directory and was changed.
    """
    if not os.path.lexists(path):
        raise InputError(
            f"--init-from {path} does not exist",
            hint="pass a run directory or a weight file; to resume a run without it, use --from RUN --out RUN",
        )
    file = RunDir(path).last_weights_path if os.path.isdir(path) else path
    if not os.path.lexists(file):
        raise InputError(f"--init-from {path}: {file} is missing", hint="pass a run with weights, or a weight file")
    sha256 = file_sha256(file)
    resolved = Path(os.path.realpath(file))
    run = RunDir(resolved.parent.parent)
    recorded = run.read_record().init_from if resolved == run.init_weights_path and run.exists() else None
    if recorded is None:
        return InitialFile(file, sha256, str(path), sha256)
    if sha256 != recorded.copy_sha256:
        raise RunFileError(f"{file} was changed since the run started", hint="restore it")
    return InitialFile(file, sha256, recorded.path, recorded.sha256)
