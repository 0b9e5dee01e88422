"""Evaluation of a run or a weight file: read network and data, check that they match, predict, compute metrics."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch

from resnet_cli.analysis.metrics import Logits, Metrics, evaluate_predictions
from resnet_cli.config import Arch, DatasetName, Device, Precision, Shortcut
from resnet_cli.data import Dataset, Images, load_source, open_data, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.device import decide
from resnet_cli.engine import Predictor, combine_batches, evaluate_batches
from resnet_cli.errors import InputError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunRecord
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors
from resnet_cli.weights import Triple, WeightFile, Which, check_normalization, open_weights


class EvalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of an evaluation; None: determined by the run or the weight file."""

    which: Which | None = None
    """Weights of a run (default: last); not allowed for a weight file."""
    arch: Arch | None = None
    depth: int | None = None
    shortcut: Shortcut | None = None
    dataset: DatasetName | None = None
    """Default: the dataset of the run or of the file's metadata, else cifar10."""
    data_dir: Path | None = None
    """Default: the folder that the run read, else the default folder."""
    split: Literal["test", "train", "val"] = "test"
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
        check_normalization(self.mean, self.std)
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1 (got {self.batch_size})")
        if self.limit_test is not None and self.split != "test":
            raise UsageError(f"--limit-test does not apply to --split {self.split}", hint="omit --limit-test")


class EvalReport(NamedTuple):
    """Result of an evaluation."""

    metrics: Metrics
    details: dict[str, Any]
    """Everything that the metrics depend on: path, weights, best_chosen_on (the set that selected the best weights),
    network, dataset (with `matches_run`, None for a weight file), normalization, device, precision, and notes
    (caveats for readers, one line each)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the metrics at the top level."""
        return {**self.metrics.to_dict(), **self.details}


class _SavedNetwork(NamedTuple):
    """A network from a run directory, or from a weight file, for which the optional fields are None."""

    path: Path
    weights: WeightFile
    which: Which | None = None
    record: RunRecord | None = None
    status: str | None = None
    best_chosen_on: Literal["val", "test"] | None = None

    def matches(self, dataset: Dataset) -> bool | None:
        """Whether the run was trained on `dataset`; None for a weight file."""
        return None if self.record is None else dataset.fingerprint == self.record.dataset.fingerprint


class _Normalization(NamedTuple):
    kind: Literal["channel", "pixel-mean"]
    mean: Triple | None
    std: Triple | None
    source: str


def evaluate_saved(path: Path, options: EvalOptions | None = None, *, progress: Progress = silent) -> EvalReport:
    """Evaluate the network in a run directory or in a weight file.

    Args:
        path: a run directory, or a file that `read_weights` supports.
        options: weights, network, data, normalisation and device.
        progress: receives the number of images decoded and evaluated.

    Raises:
        InputError: the run, weights or data cannot be read or do not fit together.
        UsageError: an option contradicts the run or file, or a necessary one is missing.
        ResnetError: a batch does not fit into memory.
    """
    options = options or EvalOptions()
    saved = _open(path, options.which)
    weights = saved.weights
    architecture = weights.resolve(arch=options.arch, depth=options.depth, shortcut=options.shortcut)
    config = weights.config or make_config(arch=architecture.arch, depth=architecture.depth)
    setup = decide(msgspec.structs.replace(config, compile="off", device=options.device, precision=options.precision))
    dataset = _open_dataset(saved, options, progress)
    images = _select_images(saved, dataset, options)
    weights.check_fits(dataset)
    normalization = _choose_normalization(saved, dataset, options)
    model = weights.build(architecture).to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    statistics = msgspec.structs.replace(
        dataset, mean=normalization.mean or dataset.mean, std=normalization.std or dataset.std
    )
    normalizer = Normalizer.for_dataset(statistics, normalization.kind, setup.device, weights.mean_image)
    predictor = Predictor(model, normalizer, setup)
    logits = _predict(predictor, images, options.batch_size or predictor.batch_size, setup.device, progress)
    if num_bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise InputError(
            f"{weights.path}: the outputs are not finite for {num_bad} of {len(images)} images",
            hint="try --precision fp32"
            if setup.precision in ("fp16", "bf16")
            else "the network diverged; use other weights",
        )
    details = {
        "path": str(path),
        "weights": {"path": str(weights.path), "format": weights.format, "which": saved.which},
        "best_chosen_on": saved.best_chosen_on,
        "network": {"name": architecture.name, **architecture._asdict()},
        "dataset": {
            "name": dataset.name, "display_name": dataset.display_name, "split": options.split,
            "classes": dataset.classes, "fingerprint": dataset.fingerprint, "matches_run": saved.matches(dataset),
        },
        "normalization": normalization._asdict(),
        "device": setup.device.type,
        "precision": setup.precision,
        "notes": list(_notes(saved, dataset, options)),
    }  # fmt: skip
    return EvalReport(evaluate_predictions(logits, images.labels, dataset.classes), details)


def _open(path: Path, which: Which | None) -> _SavedNetwork:
    weights, which, run = open_weights(path, which)
    if run is None:
        return _SavedNetwork(path, weights)
    record = run.read_record()
    selected_on: Literal["val", "test"] = "val" if record.dataset.num_val else "test"
    return _SavedNetwork(path, weights, which, record, run.status(), selected_on if which == "best" else None)


def _open_dataset(saved: _SavedNetwork, options: EvalOptions, progress: Progress) -> Dataset:
    record, config = saved.record, saved.weights.config
    name = options.dataset or (config.dataset if config else "cifar10")
    if record and name == record.config.dataset:
        return open_data(
            record.config, data_dir=options.data_dir, recorded=record.dataset, run=saved.path,
            allow_other_data=options.allow_other_data, override="--allow-other-data", progress=progress,
        )  # fmt: skip
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
    if saved.record and options.limit_test is not None:
        # applied after the fingerprint check, which covers all test images of the run
        dataset = prepare(dataset, limit_test=options.limit_test)
    images: Images | None = getattr(dataset, options.split)
    if images is None:
        raise UsageError(f"--split val: {saved.path} has no validation split", hint="use --split test or --split train")
    return images


def _choose_normalization(saved: _SavedNetwork, dataset: Dataset, options: EvalOptions) -> _Normalization:
    weights = saved.weights
    if options.mean:
        return _Normalization("channel", options.mean, options.std, "--mean and --std")
    if weights.mean_image is not None:
        return _Normalization("pixel-mean", None, None, "the mean image in the file")
    if weights.config and weights.config.normalization == "pixel-mean":
        if not saved.matches(dataset):
            remedy = "use the data of the run" if saved.record else "evaluate its run directory"
            raise InputError(
                f"{weights.path} needs the mean image of its training set, which the file does not contain",
                hint=f"{remedy}, or pass --mean and --std",
            )
        return _Normalization("pixel-mean", None, None, "the run's training set")
    if weights.normalization:
        source = "the file's metadata" if weights.config else f"the format {weights.format}"
        return _Normalization("channel", *weights.normalization, source)
    return _Normalization("channel", dataset.mean, dataset.std, dataset.display_name)


def _predict(predictor: Predictor, images: Images, batch_size: int, device: torch.device, progress: Progress) -> Logits:
    """Compute the logits (N, classes) in dataset order."""
    batches, num_done = [], 0
    with translate_errors(batch_size=batch_size):
        for batch in evaluate_batches(predictor, DeviceImages.on(device, images), batch_size):
            batches.append(batch)
            num_done += len(batch.labels)
            progress("evaluating", num_done, len(images), "images")
    logits: Logits = combine_batches(batches).logits.numpy()
    return logits


def _notes(saved: _SavedNetwork, dataset: Dataset, options: EvalOptions) -> Iterator[str]:
    weights, record = saved.weights, saved.record
    if record and saved.status != "complete":
        yield f"the run is not complete ({saved.status}); these are the weights saved so far"
    if saved.best_chosen_on:
        yield f"the best weights were chosen on the {'validation' if saved.best_chosen_on == 'val' else 'test'} set"
    if record and not saved.matches(dataset):
        yield (
            f"evaluated on {dataset.display_name} ({dataset.fingerprint[:12]}), not on the data of the run "
            f"({record.dataset.display_name}, {record.dataset.fingerprint[:12]})"
        )
    if record and dataset.classes != record.dataset.classes:
        yield "the names of the classes differ from those in training"
    if weights.config or options.mean:
        return
    if weights.normalization:
        used = f"recognised as a network from {weights.format}: using the mean and std that it was trained with"
    else:
        used = (
            "the file does not record the normalisation of its inputs: "
            f"using the mean and std of {dataset.display_name}"
        )
    yield f"{used}; --mean and --std override them"
