"""Evaluates a run directory or a bare weight file: reads, checks that data and weights belong together, measures."""

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import torch

from resnet_cli.analysis.metrics import Metrics, evaluate_predictions
from resnet_cli.config import Arch, DatasetName, Device, Precision, Shortcut
from resnet_cli.data import Dataset, Images, Source, load_source, open_data, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.device import DeviceSetup, decide
from resnet_cli.engine import EVAL_BATCH_SIZE, Predictor, combine_batches, evaluate_batches
from resnet_cli.errors import InputError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import Predictions, RunDir, RunRecord
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors
from resnet_cli.weights import Network, WeightFile, read_weights

Which = Literal["last", "best"]
Split = Literal["test", "train", "val"]
Triple = tuple[float, float, float]


class EvalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation may be told beside its subject. None leaves a choice to the run or the file."""

    arch: Arch | None = None
    depth: int | None = None
    shortcut: Shortcut | None = None
    dataset: DatasetName | None = None
    """Default: of the run or of the file's metadata, else cifar10."""
    data_dir: Path | None = None
    """Default: where the run read its data, else the usual place."""
    split: Split = "test"
    limit_test: int | None = None
    """Number of test images to keep, a fixed stratified subset."""
    mean: Triple | None = None
    """Of pixels scaled to 0 … 1, per channel; goes with `std` and replaces what the file or run says."""
    std: Triple | None = None
    allow_other_data: bool = False
    """Evaluate a run on data that are not those it was trained with."""
    batch_size: int = EVAL_BATCH_SIZE
    device: Device = "auto"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise UsageError("--mean and --std go together", hint="give both")
        if self.mean and self.std:
            for name, values, low in (("mean", self.mean, 0.0), ("std", self.std, 1e-6)):
                if not all(low <= value <= 1 for value in values):
                    raise UsageError(
                        f"--{name} {','.join(f'{v:g}' for v in values)} is not that of pixels scaled to 0 … 1",
                        hint="divide by 255 what counts pixels from 0 to 255",
                    )
        if self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size} is less than 1")
        if self.limit_test is not None and self.split != "test":
            raise UsageError(f"--limit-test does not apply to --split {self.split}")


class NormalizationUsed(NamedTuple):
    """How pixels became network input, and who said so."""

    kind: Literal["channel", "pixel-mean"]
    mean: Triple | None
    """None for `pixel-mean`."""
    std: Triple | None
    source: str


class DataUsed(NamedTuple):
    """What was evaluated on."""

    name: str
    display_name: str
    split: Split
    classes: tuple[str, ...]
    fingerprint: str
    """Of the dataset that the images are from."""
    is_that_of_run: bool | None
    """Whether it is the dataset that the run was trained with; None for a bare weight file."""


class EvalReport(NamedTuple):
    """The result of an evaluation and where it comes from."""

    path: Path
    """The run directory or weight file that was named."""
    weights_path: Path
    weights_format: str
    which: Which | None
    """None for a bare weight file."""
    best_chosen_on: Literal["val", "test"] | None
    """The set that `best` was chosen on; None for other weights."""
    network: Network
    data: DataUsed
    normalization: NormalizationUsed
    device: str
    precision: str
    notes: tuple[str, ...]
    """What a reader of the figures should know, each one line."""
    predictions: Predictions
    metrics: Metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the metrics at its top; paths as text."""
        return {
            **self.metrics.to_dict(),
            "path": str(self.path),
            "weights": {"path": str(self.weights_path), "format": self.weights_format, "which": self.which},
            "best_chosen_on": self.best_chosen_on,
            "network": {"name": self.network.name, **self.network._asdict()},
            "dataset": self.data._asdict(),
            "normalization": self.normalization._asdict(),
            "device": self.device,
            "precision": self.precision,
            "notes": list(self.notes),
        }


class _Subject(NamedTuple):
    """What is evaluated."""

    path: Path
    file: WeightFile
    which: Which | None
    record: RunRecord | None
    notes: list[str]


def evaluate_saved(
    path: Path, *, which: Which | None = None, options: EvalOptions | None = None, progress: Progress = silent
) -> EvalReport:
    """Evaluate the network saved in a run directory or in a weight file.

    Args:
        path: a run directory, or a file that `read_weights` understands.
        which: of a run, the `last` weights (the default) or the `best`; not for a file.
        options: data, normalisation and machine.
        progress: told how many images are decoded and evaluated.

    Raises:
        InputError: run, weights or data cannot be read or do not belong together.
        UsageError: an option contradicts what was read, or is missing.
    """
    options = options or EvalOptions()
    subject = _open_run(path, which or "last") if os.path.isdir(path) else _open_file(path, which)
    network = subject.file.resolve(arch=options.arch, depth=options.depth, shortcut=options.shortcut)
    dataset = _load(subject, options, progress)
    images = _split(subject, dataset, options)
    if network.num_classes != len(dataset.classes):
        raise InputError(
            f"{subject.file.path} has {network.num_classes} outputs, {dataset.display_name} has "
            f"{len(dataset.classes)} classes",
            hint="choose another --dataset",
        )
    data = _data_used(subject, dataset, options.split)
    normalization = _normalization(subject, dataset, data, options)
    setup = _setup(subject, network, options)
    predictions = _predict(
        subject, network, images, _normalizer(normalization, dataset, setup), setup, options, progress
    )
    return EvalReport(
        path=subject.path,
        weights_path=subject.file.path,
        weights_format=subject.file.format,
        which=subject.which,
        best_chosen_on=_best_chosen_on(subject),
        network=network,
        data=data,
        normalization=normalization,
        device=setup.device.type,
        precision=setup.precision,
        notes=tuple(subject.notes),
        predictions=predictions,
        metrics=evaluate_predictions(predictions.logits, predictions.labels, dataset.classes),
    )


def _open_run(path: Path, which: Which) -> _Subject:
    run = RunDir(path)
    record = run.read_record()
    weights_path = run.best_weights_path if which == "best" else run.last_weights_path
    status = run.status()
    if not weights_path.is_file():
        others = {"best": run.last_weights_path, "last": run.best_weights_path}
        other = next((name for name in get_args(Which) if name != which and others[which].is_file()), None)
        raise InputError(
            f"{weights_path} is missing, and the run is {status}",
            hint=f"use --which {other}" if other else "the command that started the run resumes it",
        )
    file = read_weights(weights_path)
    if file.config != record.config:
        raise InputError(f"{weights_path} does not belong to the run: its metadata have another configuration or none")
    subject = _Subject(path, file, which, record, [])
    if status != "complete":
        subject.notes.append(f"the run is not complete ({status}): these are the weights that it saved so far")
    if chosen_on := _best_chosen_on(subject):
        subject.notes.append(f"best was chosen on the {'validation' if chosen_on == 'val' else 'test'} set")
    return subject


def _open_file(path: Path, which: Which | None) -> _Subject:
    if which is not None and os.path.exists(path):
        raise UsageError(
            f"--which {which} chooses among the weights of a run, and {path} is a file", hint="leave out --which"
        )
    return _Subject(path, read_weights(path), None, None, [])


def _best_chosen_on(subject: _Subject) -> Literal["val", "test"] | None:
    if subject.record is None or subject.which != "best":
        return None
    return "val" if subject.record.dataset.num_val else "test"


def _load(subject: _Subject, options: EvalOptions, progress: Progress) -> Dataset:
    record, config = subject.record, subject.file.config
    if record is None:
        name = options.dataset or (config.dataset if config else "cifar10")
        source = load_source(name, options.data_dir, progress=progress)
        if config is None or config.dataset != name or options.split == "test":
            return prepare(source, limit_test=options.limit_test)
        # the training and validation split of our own file is made again from its configuration
        return prepare(source, limit_train=config.limit_train, val_size=config.val_size, seed=config.seed)

    name = options.dataset or record.config.dataset
    if name != record.config.dataset:
        if not options.allow_other_data:
            raise UsageError(
                f"--dataset {name} contradicts {subject.path}, which was trained on {record.config.dataset}",
                hint="--allow-other-data evaluates on it all the same",
            )
        return prepare(load_source(name, options.data_dir, progress=progress))
    return open_data(
        record.config,
        data_dir=options.data_dir,
        recorded=record.dataset,
        run=subject.path,
        allow_other_data=options.allow_other_data,
        override="--allow-other-data",
        progress=progress,
    )


def _split(subject: _Subject, dataset: Dataset, options: EvalOptions) -> Images:
    if options.split == "val":
        if dataset.val is None:
            raise UsageError(
                f"--split val: {subject.path} has no validation split", hint="use --split test or --split train"
            )
        return dataset.val
    if options.split == "train":
        return dataset.train
    if subject.record is None or options.limit_test is None:
        return dataset.test
    whole = Source(
        name=dataset.name, display_name=dataset.display_name, classes=dataset.classes,
        train=dataset.train, test=dataset.test, mean=dataset.mean, std=dataset.std,
    )  # fmt: skip
    return prepare(whole, limit_test=options.limit_test).test


def _data_used(subject: _Subject, dataset: Dataset, split: Split) -> DataUsed:
    is_that_of_run = None
    if record := subject.record:
        is_that_of_run = dataset.fingerprint == record.dataset.fingerprint
        if not is_that_of_run:
            subject.notes.append(
                f"evaluated on {dataset.display_name} ({dataset.fingerprint[:12]}), not on the data of the run "
                f"({record.dataset.display_name}, {record.dataset.fingerprint[:12]})"
            )
        if dataset.classes != record.dataset.classes:
            subject.notes.append("the classes have other names than those that the run was trained on")
    return DataUsed(dataset.name, dataset.display_name, split, dataset.classes, dataset.fingerprint, is_that_of_run)


def _normalization(subject: _Subject, dataset: Dataset, data: DataUsed, options: EvalOptions) -> NormalizationUsed:
    file, record = subject.file, subject.record
    if options.mean and options.std:
        return NormalizationUsed("channel", options.mean, options.std, "--mean and --std")
    if file.config and file.config.normalization == "pixel-mean":
        if not data.is_that_of_run:
            remedy = "evaluate its run directory" if record is None else "use the data of the run"
            raise InputError(
                f"{file.path} needs the mean image of the training set, which it does not hold",
                hint=f"{remedy}, or give --mean and --std",
            )
        return NormalizationUsed("pixel-mean", None, None, "the run's training set")
    if file.normalization:
        source = "the file's metadata" if file.config else f"the format {file.format}"
        if file.config is None:
            subject.notes.append(
                f"recognised as a network of {file.format}: its own mean and std are used; --mean and --std override"
            )
        return NormalizationUsed("channel", *file.normalization, source)
    subject.notes.append(
        f"the file does not say how its inputs were normalised: the mean and std of {dataset.display_name} "
        "are used; --mean and --std override"
    )
    return NormalizationUsed("channel", dataset.mean, dataset.std, dataset.display_name)


def _normalizer(used: NormalizationUsed, dataset: Dataset, setup: DeviceSetup) -> Normalizer:
    if used.mean is None or used.std is None:
        return Normalizer.for_dataset(dataset, "pixel-mean", setup.device)
    mean, std = (torch.tensor(values, device=setup.device).view(3, 1, 1) for values in (used.mean, used.std))
    return Normalizer(mean, std)


def _setup(subject: _Subject, network: Network, options: EvalOptions) -> DeviceSetup:
    trained_with = subject.file.config
    config = make_config(
        arch=network.arch,
        depth=network.depth,
        shortcut=network.shortcut,
        compile="off",
        device=options.device,
        precision=options.precision,
        deterministic=trained_with is not None and trained_with.deterministic,
    )
    return decide(config)


def _predict(
    subject: _Subject,
    network: Network,
    images: Images,
    normalizer: Normalizer,
    setup: DeviceSetup,
    options: EvalOptions,
    progress: Progress,
) -> Predictions:
    model = subject.file.build(network).to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pieces, done = [], 0
    with translate_errors(batch_size=options.batch_size):
        predictor = Predictor(model, normalizer, setup)
        for piece in evaluate_batches(predictor, DeviceImages.on(setup.device, images), options.batch_size):
            pieces.append(piece)
            done += piece.num_examples
            progress("evaluating", done, len(images), "images")
    logits = combine_batches(pieces).logits.numpy()
    num_bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if num_bad:
        raise InputError(
            f"{subject.file.path}: the outputs are not finite for {num_bad} of {len(images)} images",
            hint="try --precision fp32" if setup.precision in ("fp16", "bf16") else "the weights are too large",
        )
    return Predictions(labels=images.labels, logits=logits)
