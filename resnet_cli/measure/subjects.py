"""The networks to measure: of runs, of weight files, or newly initialised."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.errors import InputError, UsageError
from resnet_cli.probes.base import Which
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir

if TYPE_CHECKING:
    import pandas as pd

    from resnet_cli.weights import WeightFile


class Subject(NamedTuple):
    """One network to measure."""

    label: str  # in tables and figures
    config: RunConfig  # supplies the network, the data and the seed
    which: Which
    run: RunDir | None = None
    weights: "WeightFile | None" = None  # without a run and a weight file, the network is newly initialised

    def identify(self, dataset: str, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Put the columns label, network, which, dataset (the display name) and seed before those of `rows`."""
        import pandas as pd

        identity = {
            "label": self.label, "network": self.config.network, "which": self.which, "dataset": dataset,
            "seed": self.config.seed,
        }  # fmt: skip
        return pd.concat([pd.DataFrame([identity] * len(rows)), rows.reset_index(drop=True)], axis=1)


def fresh_subjects(
    *, arch: str | None = None, depth: int = 56, shortcut: str | None = None, seed: int = 0, dataset: str = "digits"
) -> list[Subject]:
    """Describe networks with initial weights: of `arch`, or a plain and a residual one (None).

    Raises:
        ConfigError: a value is not valid.
        UsageError: `shortcut` was given for a plain network alone.
    """
    if arch == "plain" and shortcut not in (None, "none"):
        raise UsageError(f"--shortcut {shortcut} does not fit --arch plain, which has no shortcuts")
    shortcuts = {"plain": "none", "resnet": shortcut or "A"}
    configs = [
        make_config("demo", arch=name, depth=depth, shortcut=shortcuts[name], seed=seed, dataset=dataset)
        for name in ([arch] if arch else shortcuts)
    ]
    return [Subject(config.network, config, "init") for config in configs]


def saved_subjects(
    paths: list[Path], which: Which, *, dataset: str | None = None, warn: Callable[[str], None], **architecture: Any
) -> list[Subject]:
    """Describe the networks of runs, of all complete runs in folders, and of weight files.

    The label of a network is its name, or the name of its file or folder if several would have the same.

    Args:
        paths: run directories in any state, folders to search for complete runs, and weight files.
        which: weights of the runs.
        dataset: data for the weight files of other projects; files of this tool record theirs.
        warn: receives one line for each run that is skipped.
        architecture: arch, depth and shortcut, for weight files that do not determine them.

    Raises:
        InputError: a path does not exist or cannot be read, or there is no complete run.
        UsageError: an option contradicts a path, or a necessary one is missing.
    """
    paths = list(dict.fromkeys(paths))
    files = [path for path in paths if os.path.isfile(path)]
    runs = [run for path in paths if (run := RunDir(path)).exists()]
    folders = [path for path in paths if path not in files and not RunDir(path).exists()]
    subjects = [Subject("", run.read_record().config, which, run) for run in runs]
    where = [run.path for run in runs]
    if folders:
        from resnet_cli.analysis.frames import load_study

        study = load_study(folders)
        if len(study.skipped) == 1 and not study.runs:
            raise InputError(f"{study.skipped[0].path}: {study.skipped[0].reason}")
        for skipped in study.skipped:
            warn(str(skipped))
        study.require_runs()
        subjects += [Subject("", run.record.config, which, run.dir) for run in study.runs]
        where += [run.dir.path for run in study.runs]
    unique: dict[str, tuple[Subject, Path]] = {}  # a run may be given by itself and in a folder
    for subject, path in zip(subjects, where, strict=True):
        unique.setdefault(os.path.realpath(path), (subject, path))
    found = [*unique.values(), *((_file_subject(path, dataset, architecture), path) for path in files)]
    return _labelled([subject for subject, _ in found], [path for _, path in found])


def _file_subject(path: Path, dataset: str | None, architecture: dict[str, Any]) -> Subject:
    from resnet_cli.weights import read_weights  # imports torch

    weights = read_weights(path)
    found = weights.resolve(**architecture)
    if config := weights.config:
        if dataset not in (None, config.dataset):
            raise UsageError(
                f"--dataset {dataset} contradicts {path}, which was trained on {config.dataset}", hint="omit --dataset"
            )
        if config.normalization == "pixel-mean" and weights.mean_image is None:
            raise InputError(
                f"{path} needs the mean image of its training set, which the file does not contain",
                hint="name its run directory instead",
            )
        return Subject("", config, "file", weights=weights)
    if dataset is None:
        raise UsageError(f"{path} does not record its dataset", hint="add --dataset, for example --dataset cifar10")
    config = make_config("demo", arch=found.arch, depth=found.depth, shortcut=found.shortcut, dataset=dataset)
    return Subject("", config, "file", weights=weights)


def _labelled(subjects: list[Subject], paths: list[Path]) -> list[Subject]:
    """Label with short names that differ: the networks, the names of files or folders, or their paths."""
    networks = [subject.config.network for subject in subjects]
    choices = (networks, [path.name for path in paths], [str(path) for path in paths])
    labels = next(labels for labels in choices if len(set(labels)) == len(paths))
    return [subject._replace(label=label) for subject, label in zip(subjects, labels, strict=True)]
