"""Complete run directories with random results, written by the package's own writers.

They belong to the report's four networks. Errors follow a random walk around a curve that falls with the learning rate
and ends near the network's published accuracy, so that tables and figures are as large as those of real runs.
"""

import datetime
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np

from resnet_cli import __version__
from resnet_cli.analysis.paper import published
from resnet_cli.config import RunConfig
from resnet_cli.recipes import make_config, recipe_label, train_arguments
from resnet_cli.rundir import (
    Attempt,
    DatasetRecord,
    Decision,
    EpochMetrics,
    GradflowRow,
    ModelRecord,
    Predictions,
    RunDir,
    RunRecord,
    Summary,
)
from resnet_cli.rundir.page import run_page
from resnet_cli.rundir.probe_files import ProbeFiles, ProbeKey, rows_to_csv

NETWORKS = (("plain", 20), ("resnet", 20), ("plain", 56), ("resnet", 56))

_SIZES = {20: (269_722, 40_551_040), 56: (853_018, 125_485_696)}  # parameters, multiply-accumulates
_NUM_TRAIN, _NUM_TEST = 50_000, 10_000
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_ENVIRONMENT = {
    "python": "3.12.3", "platform": "Linux-6.8.0-x86_64-with-glibc2.39", "torch": "2.10.0", "torchvision": "0.25.0",
    "cuda": None, "cudnn": None, "device_name": "generated", "cpu": "generated", "cpu_capability": "AVX512",
    "num_cpus": 8, "num_threads": 8, "deterministic": False,
}  # fmt: skip
_DECISIONS = {
    name: Decision(value, "as in a real run")
    for name, value in (
        ("device", "cpu"), ("precision", "fp32"), ("compile", "on"), ("threads", "8"),
        ("memory_format", "channels_last"), ("allocator", "keep freed memory"),
    )
}  # fmt: skip


def generate(
    folder: Path,
    num_runs: int,
    *,
    gradflow: bool = False,
    predictions: bool | Literal["shared"] = False,
    bn: bool = False,
) -> None:
    """Write `num_runs` complete runs of 200 epochs: the four networks in turn, with increasing seeds.

    Args:
        folder: folder for the run directories; created if needed.
        num_runs: number of runs.
        gradflow: write gradient norms of every layer and epoch.
        predictions: write outputs for the test images; `shared`: hard links to those of the network's first run, which
            take as long to read and less space.
        bn: write the rows of the probe `bn`, which `resnet reproduce` measures by default.
    """  # fmt: skip
    # these files need not survive a power failure, and waiting for the disk would take most of the time
    with patch("os.fsync"):
        for number in range(num_runs):
            seed, network = divmod(number, len(NETWORKS))
            arch, depth = NETWORKS[network]
            config = make_config("report2025", arch=arch, depth=depth, seed=seed, gradflow_every=int(gradflow))
            run = RunDir(folder / f"{config.network}-seed{seed}")
            first = RunDir(folder / f"{config.network}-seed0") if predictions == "shared" and seed else None
            _write(run, config, gradflow=gradflow, predictions=bool(predictions), first=first, bn=bn)


def _write(
    run: RunDir, config: RunConfig, *, gradflow: bool, predictions: bool, first: RunDir | None, bn: bool
) -> None:
    rng = np.random.default_rng([config.seed, config.depth, config.arch == "plain"])
    started = _START + datetime.timedelta(seconds=int(rng.integers(10**7)))
    argv = ("resnet", "train", "--arch", config.arch, "--depth", str(config.depth), "--seed", str(config.seed))
    parameters, macs = _SIZES[config.depth]
    record = RunRecord(
        run_id=hashlib.sha256(f"generated {config.fingerprint()}".encode()).hexdigest()[:16],
        created_at=started.isoformat(), argv=argv, tool_version=__version__, config=config, environment=_ENVIRONMENT,
        dataset=DatasetRecord(
            name="cifar10", display_name="CIFAR-10 (generated)", fingerprint=hashlib.sha256(b"generated").hexdigest(),
            num_train=_NUM_TRAIN, num_val=0, num_test=_NUM_TEST, classes=_CLASSES, image_size=32,
            mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), location="generated",
        ),
        model=ModelRecord(
            arch=config.arch, depth=config.depth, shortcut=config.shortcut, num_classes=10, parameters=parameters,
            macs=macs,
        ),
        decisions=_DECISIONS,
    )  # fmt: skip
    run.path.mkdir(parents=True)
    run.create(record)
    run.append_attempt(
        Attempt(
            started_at=started.isoformat(), argv=argv, tool_version=__version__, step=0, environment=_ENVIRONMENT,
            decisions=_DECISIONS,
        )
    )  # fmt: skip
    rows = _epochs(config, rng)
    for row in rows:
        run.append_metrics(row)
    if gradflow:
        run.append_gradflow(_gradients(config, len(rows), rng))
    if first is not None:
        os.link(first.predictions_path, run.predictions_path)
    elif predictions:
        run.write_predictions(_predictions(rows[-1].test_error_pct, rng))
    if bn:
        _write_bn(run, record, rows[-1])
    seconds = {name: sum(getattr(row, name) for row in rows) for name in ("train_seconds", "eval_seconds")}
    summary = Summary(
        run_id=record.run_id, finished_at=(started + datetime.timedelta(seconds=sum(seconds.values()))).isoformat(),
        last=rows[-1], best=min(rows, key=EpochMetrics.selection_error_pct), best_chosen_on="test", **seconds,
        peak_memory_bytes=max(row.peak_memory_bytes or 0 for row in rows), files=run.hash_results(),
    )  # fmt: skip
    page = run_page(record, summary, recipe=recipe_label(config), arguments=train_arguments(config))
    run.write_summary(summary, page)


def _write_bn(run: RunDir, record: RunRecord, last: EpochMetrics) -> None:
    """The files of the probe `bn`: re-estimated statistics change no error."""
    key = ProbeKey(
        probe="bn", which="last", run_id=record.run_id, dataset_fingerprint=record.dataset.fingerprint,
        source="weights", source_sha256=None, images=None, batch_size=250, seed=0, settings={},
        tool_version=__version__,
    )  # fmt: skip
    errors = {"train": (last.train_loss, last.train_clean_error_pct), "test": (last.test_loss, last.test_error_pct)}
    rows = [
        {"statistics": statistics, "split": split, "loss": loss, "error_pct": error,
         "num_images": _NUM_TRAIN if split == "train" else _NUM_TEST}
        for statistics in ("running", "re-estimated") for split, (loss, error) in errors.items()
    ]  # fmt: skip
    ProbeFiles(run, "bn", "last").write(
        key, rows_to_csv(rows), device="cpu", seconds=60.0, measured_at=_START.isoformat()
    )  # fmt: skip


def _epochs(config: RunConfig, rng: np.random.Generator) -> list[EpochMetrics]:
    """The rows of metrics.csv."""
    reference = published(config)
    assert reference is not None
    assert config.epochs is not None
    drops = sum((np.arange(1, config.epochs + 1) > milestone).astype(int) for milestone in config.milestones)
    lr = config.lr * config.lr_decay**drops
    test = _walk(100 - reference.accuracy_pct + rng.normal(0, 0.2), drops, rng)
    clean = np.maximum(_walk((100 - reference.accuracy_pct) / 2, drops, rng), 0.01)
    images_per_second = rng.normal(1500, 20, config.epochs)
    steps = math.ceil(_NUM_TRAIN / config.batch_size)
    rows = []
    for e in range(config.epochs):
        is_measured = (e + 1) % config.clean_train_every == 0
        wrong = round(_NUM_TEST * float(test[e]) / 100)
        rows.append(EpochMetrics(
            epoch=e + 1, step=(e + 1) * steps, lr=float(lr[e]),
            train_loss=0.03 * float(clean[e]) + 0.02, train_error_pct=min(float(clean[e]) + 0.7, 100.0),
            train_clean_loss=0.03 * float(clean[e]) if is_measured else None,
            train_clean_error_pct=float(clean[e]) if is_measured else None,
            train_clean_images=_NUM_TRAIN if is_measured else None,
            val_loss=None, val_error_pct=None,
            test_loss=0.04 * float(test[e]), test_error_pct=100 * wrong / _NUM_TEST,
            test_accuracy_pct=100 * (_NUM_TEST - wrong) / _NUM_TEST,
            images_per_second=float(images_per_second[e]),
            train_seconds=_NUM_TRAIN / float(images_per_second[e]), eval_seconds=float(rng.normal(4, 0.1)),
            peak_memory_bytes=900_000_000 + 4096 * int(rng.integers(e + 1)),
        ))  # fmt: skip
    return rows


def _walk(last: float, drops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Error in per cent, (epochs,): starts near 60, drops with the learning rate `drops`, and ends near `last`."""
    epochs = np.arange(len(drops))
    plateau = last + np.array([9.0, 1.2, 0.0])[drops]
    noise = np.zeros(len(drops))
    for e in epochs[1:]:  # decaying deviations, smaller at a smaller learning rate
        noise[e] = 0.7 * noise[e - 1] + rng.normal(0, (1.5, 0.3, 0.05)[drops[e]])
    return np.clip(plateau + 50 * np.exp(-epochs / 8) + noise, 0, 100)


def _gradients(config: RunConfig, epochs: int, rng: np.random.Generator) -> Iterator[GradflowRow]:
    """The rows of gradflow.csv."""
    per_stage = (config.depth - 2) // 3
    layers = [("conv1", 0, 0)]
    for i in range(config.depth - 2):
        stage, position = divmod(i, per_stage)
        block, conv = divmod(position, 2)
        layers.append((f"layer{stage + 1}.{block}.conv{conv + 1}", stage + 1, block + 1))
    layers.append(("fc", 4, 0))
    slope = 0.97 if config.arch == "plain" else 1.0
    norms = 0.1 * slope ** np.arange(config.depth) * np.exp(np.cumsum(rng.normal(0, 0.05, (epochs, config.depth)), 0))
    for epoch, values in enumerate(norms.tolist(), start=1):
        for index, ((layer, stage, block), norm) in enumerate(zip(layers, values, strict=True), start=1):
            yield GradflowRow(
                epoch=epoch, layer_index=index, layer=layer, stage=stage, block=block,
                grad_norm=norm, weight_norm=4 + norm, scale_free_grad_norm=norm * (4 + norm),
                effective_step=0.1 / (4 + norm) ** 2, update_to_weight_ratio=norm / 40,
                **({"input_grad_norm": norm / 10, "growth": 1 / slope} if layer.endswith(".conv1") else {}),
            )  # fmt: skip


def _predictions(error_pct: float, rng: np.random.Generator) -> Predictions:
    labels = np.arange(_NUM_TEST) % len(_CLASSES)
    answers = labels.copy()
    wrong = rng.permutation(_NUM_TEST)[: round(_NUM_TEST * error_pct / 100)]
    answers[wrong] = (labels[wrong] + rng.integers(1, len(_CLASSES), len(wrong))) % len(_CLASSES)
    logits = rng.normal(0, 1, (_NUM_TEST, len(_CLASSES))).astype(np.float32)
    logits[np.arange(_NUM_TEST), answers] = logits.max(axis=1) + 3
    return Predictions(labels=labels, logits=logits)
