"""Gradient profiles of runs and of fresh networks: what `resnet gradflow` measures."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset, Source, load_source, prepare
from resnet_cli.errors import InputError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir, RunRecord
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


class Subject(NamedTuple):
    """One network to measure."""

    label: str
    config: RunConfig
    at: str
    """`init`, `last` or `best`."""
    weights: Path | None
    """None: initial weights from the configuration's seed."""
    record: RunRecord | None
    """Of the run; None for a fresh network."""


def subjects_of_networks(
    *, arch: str | None, depth: int, shortcut: str | None, seed: int, dataset: str
) -> list[Subject]:
    """Fresh networks: plain and resnet of one depth, or `arch` alone; raises `ConfigError`."""
    if arch == "plain" and shortcut is not None:
        raise UsageError(f"--shortcut {shortcut} does not fit a plain network, which has none")
    subjects = []
    for name in (arch,) if arch else ("plain", "resnet"):
        extra = {"shortcut": shortcut} if shortcut and name == "resnet" else {}
        config = make_config("demo", arch=name, depth=depth, seed=seed, dataset=dataset, **extra)
        subjects.append(Subject(config.network, config, "init", None, None))
    return subjects


def subjects_of_runs(paths: list[Path], at: str) -> list[Subject]:
    """The networks of run directories; raises `RunFileError`, or `InputError` when the weights are not there yet."""
    subjects = []
    for path in paths:
        run = RunDir(path)
        record = run.read_record()
        weights = {"init": None, "last": run.last_weights_path, "best": run.best_weights_path}[at]
        if weights is not None and not weights.is_file():
            raise InputError(f"{weights} is missing: the run has not saved {at} weights", hint="use --at init")
        subjects.append(Subject(record.config.network, record.config, at, weights, record))
    names = [subject.label for subject in subjects]
    if len(set(names)) < len(names):  # several seeds or recipes of one network
        subjects = [s._replace(label=path.name) for s, path in zip(subjects, paths, strict=True)]
    if len({s.label for s in subjects}) < len(subjects):
        subjects = [s._replace(label=str(path)) for s, path in zip(subjects, paths, strict=True)]
    return subjects


def profile(
    subjects: list[Subject],
    *,
    data_dir: Path | None = None,
    num_batches: int = 8,
    batch_size: int = 128,
    device: str = "auto",
    progress: Progress = silent,
) -> "pd.DataFrame":
    """Measure gradient norms of all `subjects` on their own training images.

    Returns:
        The rows of `measure_gradflow` for every subject, with label, network, at, dataset and seed before them.

    Raises:
        InputError: data or weights cannot be read, or the data are not those that a run was trained on.
        ConfigError: there are too few images for the batches.
    """
    import msgspec
    import pandas as pd

    from resnet_cli.data.batches import DeviceImages, Normalizer
    from resnet_cli.device import decide
    from resnet_cli.model import build_model
    from resnet_cli.probes.gradflow import measure_gradflow

    frames = []

    @functools.lru_cache(maxsize=1)  # the runs of a study share their data
    def source_of(name: str, place: Path | None) -> Source:
        return load_source(name, place, progress=progress)

    for number, subject in enumerate(subjects):
        progress("measuring gradients", number, len(subjects), "networks")
        # norms are compared between runs of any precision, so they are measured in one
        config = msgspec.structs.replace(subject.config, device=device, precision="fp32", compile="off")
        dataset = prepare(
            source_of(config.dataset, _place(subject, data_dir)),
            limit_train=config.limit_train, limit_test=config.limit_test, val_size=config.val_size, seed=config.seed,
        )  # fmt: skip
        _check_same_data(subject, dataset)
        setup = decide(config)
        model = build_model(config.arch, config.depth, config.shortcut, len(dataset.classes), seed=config.seed)
        if subject.weights is not None:
            model.load_state_dict(_weights_of(subject.weights, subject.config, len(dataset.classes)))
        with translate_errors(batch_size=batch_size):
            rows = measure_gradflow(
                model.to(setup.device),
                DeviceImages.on(setup.device, dataset.train),
                Normalizer.for_dataset(dataset, config.normalization, setup.device),
                num_batches=num_batches,
                batch_size=batch_size,
                seed=config.seed,
            )
        identity = {
            "label": subject.label,
            "network": config.network,
            "at": subject.at,
            "dataset": dataset.display_name,
            "seed": config.seed,
        }
        frames.append(pd.concat([pd.DataFrame([identity] * len(rows)), rows], axis=1))
    progress("measuring gradients", len(subjects), len(subjects), "networks")
    return pd.concat(frames, ignore_index=True)


def _weights_of(path: Path, config: RunConfig, num_classes: int) -> "dict[str, Tensor]":
    from resnet_cli.weights import read_weights

    file = read_weights(path)
    if file.config != config or file.num_classes != num_classes:
        raise InputError(f"{path} does not belong to the run: it has another configuration, or none, or other classes")
    return file.state_dict


def _place(subject: Subject, data_dir: Path | None) -> Path | None:
    location = subject.record.dataset.location if subject.record else None
    return Path(location) if data_dir is None and location and os.path.isdir(location) else data_dir


def _check_same_data(subject: Subject, dataset: Dataset) -> None:
    record = subject.record
    if record and record.dataset.fingerprint != dataset.fingerprint:
        raise InputError(
            f"these data have fingerprint {dataset.fingerprint[:12]}, "
            f"the run was trained on {record.dataset.fingerprint[:12]}",
            hint="give the original --data-dir",
        )
