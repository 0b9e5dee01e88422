"""Evaluation of a run or a weight file: reads network and data, checks that they fit, predicts, computes metrics."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch

from resnet_cli.analysis.metrics import Metrics, evaluate_predictions
from resnet_cli.config import Arch, DatasetName, Device, Precision, Shortcut
from resnet_cli.data import Dataset, Images, Source, load_source, open_data, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.device import DeviceSetup, decide
from resnet_cli.engine import Predictor, combine_batches, evaluate_batches
from resnet_cli.errors import InputError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import Predictions, RunDir, RunRecord
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors
from resnet_cli.weights import Architecture, Triple, WeightFile, Which, load_run_weights, read_weights

Split = Literal["test", "train", "val"]


class EvalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of an evaluation; None leaves a choice to the run or the weight file."""

    arch: Arch | None = None
    depth: int | None = None
    shortcut: Shortcut | None = None
    dataset: DatasetName | None = None
    """Default: the dataset of the run or of the file's metadata, else cifar10."""
    data_dir: Path | None = None
    """Default: the folder that the run read, else the default folder."""
    split: Split = "test"
    limit_test: int | None = None
    """Number of test images to keep, a fixed stratified subset."""
    mean: Triple | None = None
    """Per-channel mean for pixels in [0, 1]; requires `std` and overrides the file or run."""
    std: Triple | None = None
    allow_other_data: bool = False
    """Accept data that the run was not trained on."""
    batch_size: int | None = None
    """Images per batch; does not affect the counts. Default: chosen for the device."""
    device: Device = "auto"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise UsageError("--mean and --std must be given together", hint="add the other one")
        for option, values, low in (("--mean", self.mean, 0.0), ("--std", self.std, 1e-6)):
            if values and not all(low <= value <= 1 for value in values):
                raise UsageError(
                    f"{option} {','.join(f'{value:g}' for value in values)} does not fit pixels in [0, 1]",
                    hint="divide values for pixels in [0, 255] by 255",
                )
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1 (got {self.batch_size})")
        if self.limit_test is not None and self.split != "test":
            raise UsageError(f"--limit-test does not apply to --split {self.split}", hint="omit --limit-test")


class NormalizationUsed(NamedTuple):
    """Normalisation of the pixels and its source."""

    kind: Literal["channel", "pixel-mean"]
    mean: Triple | None
    """None for `pixel-mean`."""
    std: Triple | None
    source: str


class DataUsed(NamedTuple):
    """Images of an evaluation."""

    name: str
    display_name: str
    split: Split
    classes: tuple[str, ...]
    fingerprint: str
    """Fingerprint of the dataset that the images belong to."""
    matches_run: bool | None
    """Whether the run was trained on this dataset; None for a weight file without a run."""


class EvalReport(NamedTuple):
    """Result of an evaluation, with everything that it depends on."""

    path: Path
    """Run directory or weight file, as given."""
    weights_path: Path
    weights_format: str
    which: Which | None
    """None for a weight file."""
    best_chosen_on: Literal["val", "test"] | None
    """Set that selected the best weights; None for other weights."""
    architecture: Architecture
    data: DataUsed
    normalization: NormalizationUsed
    device: str
    precision: str
    notes: tuple[str, ...]
    """Caveats for readers of the metrics, one line each."""
    predictions: Predictions
    metrics: Metrics

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the metrics at the top level and paths as text."""
        return {
            **self.metrics.to_dict(),
            "path": str(self.path),
            "weights": {"path": str(self.weights_path), "format": self.weights_format, "which": self.which},
            "best_chosen_on": self.best_chosen_on,
            "network": {"name": self.architecture.name, **self.architecture._asdict()},
            "dataset": self.data._asdict(),
            "normalization": self.normalization._asdict(),
            "device": self.device,
            "precision": self.precision,
            "notes": list(self.notes),
        }


class _SavedNetwork(NamedTuple):
    """A network in a run directory or in a weight file."""

    path: Path
    weights: WeightFile
    which: Which | None = None
    record: RunRecord | None = None
    """Record of the run; None for a weight file, like `which` and `status`."""
    status: str | None = None

    @property
    def best_chosen_on(self) -> Literal["val", "test"] | None:
        if self.record is None or self.which != "best":
            return None
        return "val" if self.record.dataset.num_val else "test"


def evaluate_saved(
    path: Path, *, which: Which | None = None, options: EvalOptions | None = None, progress: Progress = silent
) -> EvalReport:
    """Evaluate the network in a run directory or in a weight file.

    Args:
        path: a run directory, or a file that `read_weights` supports.
        which: `last` (default) or `best` weights of a run; not allowed for a weight file.
        options: network, data, normalisation and device.
        progress: receives the number of images decoded and evaluated.

    Raises:
        InputError: the run, weights or data cannot be read or do not fit together.
        UsageError: an option contradicts the run or file, or a necessary one is missing.
    """
    options = options or EvalOptions()
    saved = _open_run(path, which or "last") if os.path.isdir(path) else _open_file(path, which)
    architecture = saved.weights.resolve(arch=options.arch, depth=options.depth, shortcut=options.shortcut)
    dataset = _open_dataset(saved, options, progress)
    images = _select_images(saved, dataset, options)
    if architecture.num_classes != len(dataset.classes):
        raise InputError(
            f"{saved.weights.path} has {architecture.num_classes} outputs, but {dataset.display_name} has "
            f"{len(dataset.classes)} classes",
            hint="choose another --dataset",
        )
    normalization = _choose_normalization(saved, dataset, options)
    setup = _device_setup(saved, architecture, options)
    model = saved.weights.build(architecture).to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    predictor = Predictor(model, _normalizer(normalization, dataset, setup), setup)
    logits = _predict(predictor, images, options.batch_size or predictor.batch_size, setup, progress)
    if num_bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise InputError(
            f"{saved.weights.path}: the outputs are not finite for {num_bad} of {len(images)} images",
            hint="try --precision fp32" if setup.precision in ("fp16", "bf16") else "the weights are too large",
        )
    return EvalReport(
        path=path,
        weights_path=saved.weights.path,
        weights_format=saved.weights.format,
        which=saved.which,
        best_chosen_on=saved.best_chosen_on,
        architecture=architecture,
        data=DataUsed(
            dataset.name, dataset.display_name, options.split, dataset.classes, dataset.fingerprint,
            _matches_run(saved, dataset),
        ),
        normalization=normalization,
        device=setup.device.type,
        precision=setup.precision,
        notes=tuple(_notes(saved, dataset, options)),
        predictions=Predictions(labels=images.labels, logits=logits),
        metrics=evaluate_predictions(logits, images.labels, dataset.classes),
    )  # fmt: skip


def _open_run(path: Path, which: Which) -> _SavedNetwork:
    run = RunDir(path)
    return _SavedNetwork(path, load_run_weights(run, which), which, run.read_record(), run.status())


def _open_file(path: Path, which: Which | None) -> _SavedNetwork:
    if which is not None and os.path.exists(path):
        raise UsageError(f"--which {which} applies to runs, but {path} is a file", hint="omit --which")
    return _SavedNetwork(path, read_weights(path))


def _open_dataset(saved: _SavedNetwork, options: EvalOptions, progress: Progress) -> Dataset:
    record, config = saved.record, saved.weights.config
    name = options.dataset or (config.dataset if config else "cifar10")
    if record and name == record.config.dataset:
        return open_data(
            record.config,
            data_dir=options.data_dir,
            recorded=record.dataset,
            run=saved.path,
            allow_other_data=options.allow_other_data,
            override="--allow-other-data",
            progress=progress,
        )
    if record and not options.allow_other_data:
        raise UsageError(
            f"--dataset {name} contradicts {saved.path}, which was trained on {record.config.dataset}",
            hint="add --allow-other-data to evaluate on it anyway",
        )
    source = load_source(name, options.data_dir, progress=progress)
    if config and config.dataset == name and options.split != "test":
        return prepare(source, limit_train=config.limit_train, val_size=config.val_size, seed=config.seed)
    return prepare(source, limit_test=None if record else options.limit_test)


def _select_images(saved: _SavedNetwork, dataset: Dataset, options: EvalOptions) -> Images:
    if options.split == "val":
        if dataset.val is None:
            raise UsageError(
                f"--split val: {saved.path} has no validation split", hint="use --split test or --split train"
            )
        return dataset.val
    if options.split == "train":
        return dataset.train
    if saved.record is None or options.limit_test is None:
        return dataset.test
    # a subset of the test images of the run, whose fingerprint covers all of them
    whole = Source(
        name=dataset.name, display_name=dataset.display_name, classes=dataset.classes,
        train=dataset.train, test=dataset.test, mean=dataset.mean, std=dataset.std,
    )  # fmt: skip
    return prepare(whole, limit_test=options.limit_test).test


def _matches_run(saved: _SavedNetwork, dataset: Dataset) -> bool | None:
    return None if saved.record is None else dataset.fingerprint == saved.record.dataset.fingerprint


def _choose_normalization(saved: _SavedNetwork, dataset: Dataset, options: EvalOptions) -> NormalizationUsed:
    weights = saved.weights
    if options.mean and options.std:
        return NormalizationUsed("channel", options.mean, options.std, "--mean and --std")
    if weights.config and weights.config.normalization == "pixel-mean":
        if not _matches_run(saved, dataset):
            remedy = "use the data of the run" if saved.record else "evaluate its run directory"
            raise InputError(
                f"{weights.path} needs the mean image of its training set, which the file does not contain",
                hint=f"{remedy}, or pass --mean and --std",
            )
        return NormalizationUsed("pixel-mean", None, None, "the run's training set")
    if weights.normalization:
        source = "the file's metadata" if weights.config else f"the format {weights.format}"
        return NormalizationUsed("channel", *weights.normalization, source)
    return NormalizationUsed("channel", dataset.mean, dataset.std, dataset.display_name)


def _normalizer(used: NormalizationUsed, dataset: Dataset, setup: DeviceSetup) -> Normalizer:
    if used.mean and used.std:
        dataset = msgspec.structs.replace(dataset, mean=used.mean, std=used.std)
    return Normalizer.for_dataset(dataset, used.kind, setup.device)


def _device_setup(saved: _SavedNetwork, architecture: Architecture, options: EvalOptions) -> DeviceSetup:
    trained_with = saved.weights.config
    return decide(
        make_config(
            arch=architecture.arch,
            depth=architecture.depth,
            shortcut=architecture.shortcut,
            compile="off",
            device=options.device,
            precision=options.precision,
            deterministic=trained_with is not None and trained_with.deterministic,
        )
    )


def _predict(
    predictor: Predictor, images: Images, batch_size: int, setup: DeviceSetup, progress: Progress
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Compute the logits (N, classes) in dataset order."""
    batches, num_done = [], 0
    with translate_errors(batch_size=batch_size):
        for batch in evaluate_batches(predictor, DeviceImages.on(setup.device, images), batch_size):
            batches.append(batch)
            num_done += len(batch.labels)
            progress("evaluating", num_done, len(images), "images")
    return combine_batches(batches).logits.numpy()


def _notes(saved: _SavedNetwork, dataset: Dataset, options: EvalOptions) -> Iterator[str]:
    weights, record = saved.weights, saved.record
    if record and saved.status != "complete":
        yield f"the run is not complete ({saved.status}); these are the weights saved so far"
    if saved.best_chosen_on:
        yield f"the best weights were chosen on the {'validation' if saved.best_chosen_on == 'val' else 'test'} set"
    if record and not _matches_run(saved, dataset):
        yield (
            f"evaluated on {dataset.display_name} ({dataset.fingerprint[:12]}), not on the data of the run "
            f"({record.dataset.display_name}, {record.dataset.fingerprint[:12]})"
        )
    if record and dataset.classes != record.dataset.classes:
        yield "the names of the classes differ from those in training"
    if weights.config or options.mean:
        return
    if weights.normalization:
        yield (
            f"recognised as a network from {weights.format}: using the mean and std that it was trained with; "
            "--mean and --std override them"
        )
    else:
        yield (
            f"the file does not record the normalisation of its inputs: using the mean and std of "
            f"{dataset.display_name}; --mean and --std override them"
        )
