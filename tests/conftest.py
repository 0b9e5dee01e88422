"""Shared fixtures: a builder of realistic run directories, so that analysis is tested without training."""

import hashlib
import math
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from resnet_cli.recipes import make_config
from resnet_cli.rundir import (
    DatasetRecord,
    Decision,
    Divergence,
    EpochMetrics,
    GradflowRow,
    ModelRecord,
    Predictions,
    RunDir,
    RunRecord,
    Summary,
)
from resnet_cli.rundir.probe_files import ProbeFiles, ProbeKey, rows_to_csv

# cuBLAS reads it once per process, in any test
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_TIME = "2026-01-02T03:04:05Z"
_CLASSES = {"cifar100": 100}
_DISPLAY_NAMES = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagefolder": "CIFAR-10 (JPEG)", "digits": "digits (16×16)",
}  # fmt: skip
# The report's Table 1; other networks are given round figures in its spirit.
_ACCURACY_PCT = {("plain", 20): 90.84, ("resnet", 20): 91.95, ("plain", 56): 86.71, ("resnet", 56): 93.25}


def _size(depth: int, shortcut: str, image_size: int, num_classes: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates by the layer shapes of He et al. 2015, section 4.2."""
    n = (depth - 2) // 6
    areas = [image_size**2, image_size**2 // 4, image_size**2 // 16]
    stages = [2 * n * 2304, 4608 + (2 * n - 1) * 9216, 18432 + (2 * n - 1) * 36864]  # weights of the 3×3 layers
    norms = 2 * 16 + sum(2 * 2 * n * width for width in (16, 32, 64))
    parameters = 432 + sum(stages) + norms + 65 * num_classes
    macs = 432 * areas[0] + sum(w * area for w, area in zip(stages, areas, strict=True)) + 64 * num_classes
    if shortcut == "B":
        parameters += 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
        macs += 16 * 32 * areas[1] + 32 * 64 * areas[2]
    return parameters, macs


def _curve(first: float, last: float, epochs: int) -> list[float]:
    """From `first` to exactly `last`; the epoch before the last is 0.1 better, so that best is not last."""
    values = [last + (first - last) * math.exp(-5 * e / epochs) * (1 - e / epochs) for e in range(1, epochs + 1)]
    if epochs > 1:
        values[-2] = max(last - 0.1, 0.0)
    return values


def _metrics(run: dict[str, Any], epochs: int) -> list[EpochMetrics]:
    test, clean = _curve(90, run["test_error"], epochs), _curve(90, run["train_error"], epochs)
    rows = []
    for e in range(epochs):
        val = test[e] + 0.5 if run["num_val"] else None
        rows.append(EpochMetrics(
            epoch=e + 1, step=(e + 1) * run["steps_per_epoch"], lr=run["lr"],
            train_loss=0.03 * clean[e] + 0.05, train_error_pct=min(clean[e] + 1.0, 100.0),
            train_clean_loss=0.03 * clean[e], train_clean_error_pct=clean[e],
            train_clean_images=run["num_train"],
            val_loss=None if val is None else 0.04 * val, val_error_pct=val,
            test_loss=0.04 * test[e], test_error_pct=test[e], test_accuracy_pct=100 - test[e],
            images_per_second=1000.0, train_seconds=30.0, eval_seconds=3.0, peak_memory_bytes=2**20,
        ))  # fmt: skip
    return rows


def _gradients(depth: int, epochs: int, plain: bool) -> list[GradflowRow]:
    per_stage = (depth - 2) // 6
    blocks = [(stage, block) for stage in (1, 2, 3) for block in range(1, per_stage + 1)]
    layers = [("conv1", 0, 0)]
    layers += [(f"layer{stage}.{block - 1}.conv{i}", stage, block) for stage, block in blocks for i in (1, 2)]
    layers.append(("fc", 4, 0))
    shares = {} if plain else {"skip_share": 0.7, "branch_share": 0.3, "skip_branch_cosine": 0.1}
    rows = []
    for epoch in range(epochs + 1):
        for i, (name, stage, block) in enumerate(layers, start=1):
            norm = 0.1 * (0.9**i if plain else 1.0)
            of_block = {"input_grad_norm": norm / 10, "growth": 1.2 if plain else 1.0, **shares}
            rows.append(GradflowRow(
                epoch=epoch, layer_index=i, layer=name, stage=stage, block=block,
                grad_norm=norm, weight_norm=4.0, scale_free_grad_norm=4 * norm, effective_step=0.1 / 16,
                update_to_weight_ratio=1e-3 if epoch else None,
                **(of_block if block and name.endswith("conv1") else {}),
            ))  # fmt: skip
    return rows


def _predictions(num_test: int, num_classes: int, error_pct: float, rng: np.random.Generator) -> Predictions:
    labels = np.arange(num_test) % num_classes
    logits = rng.integers(-12, 13, (num_test, num_classes)) / 4  # few distinct values compress fast
    answers = labels.copy()
    wrong = rng.permutation(num_test)[: round(num_test * error_pct / 100)]
    answers[wrong] = (labels[wrong] + rng.integers(1, num_classes, len(wrong))) % num_classes
    logits[np.arange(num_test), answers] += 8  # the other logits differ by at most 6
    return Predictions(labels=labels, logits=logits.astype(np.float32))


def _build(
    path: Path | str,
    *,
    arch: str = "resnet",
    depth: int = 20,
    seed: int = 0,
    recipe: str = "report2025",
    dataset: str = "cifar10",
    epochs: int = 3,
    accuracy: float | None = None,
    train_error: float | None = None,
    status: str = "complete",
    predictions: bool = True,
    gradflow: bool = False,
    environment: dict[str, Any] | None = None,
    **config_fields: Any,
) -> RunDir:
    config = make_config(recipe, arch=arch, depth=depth, seed=seed, dataset=dataset, **config_fields)
    rng = np.random.default_rng([seed, depth, arch == "plain"])
    if accuracy is None:
        accuracy = round(_ACCURACY_PCT.get((arch, depth), 90.0) + rng.normal(0, 0.2), 2)
    if train_error is None:
        train_error = round(max(0.1, (100 - accuracy) / 2 + rng.normal(0, 0.05)), 2)
    image_size, num_train, num_test = (16, 1437, 360) if dataset == "digits" else (32, 50_000, 10_000)
    num_train, num_test = config.limit_train or num_train, config.limit_test or num_test
    display_name, num_classes = _DISPLAY_NAMES.get(dataset, dataset), _CLASSES.get(dataset, 10)
    parameters, macs = _size(depth, config.shortcut, image_size, num_classes)
    record = RunRecord(
        run_id=hashlib.sha256(f"{path}{config.fingerprint()}".encode()).hexdigest()[:16],
        created_at=_TIME,
        argv=("resnet", "train", "--arch", arch, "--depth", str(depth), "--seed", str(seed)),
        tool_version="0.1.0",
        config=config,
        environment={"python": "3.12.3", "torch": "2.10.0", "device_name": "test CPU", "threads": 2}
        | (environment or {}),
        dataset=DatasetRecord(
            name=dataset, display_name=display_name, location=None, image_size=image_size,
            fingerprint=hashlib.sha256(f"{display_name} {num_train} {num_test}".encode()).hexdigest(),
            num_train=num_train - config.val_size, num_val=config.val_size, num_test=num_test,
            classes=tuple(f"class {i}" for i in range(num_classes)),
            mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
        ),
        model=ModelRecord(
            arch=arch, depth=depth, shortcut=config.shortcut, num_classes=num_classes, parameters=parameters, macs=macs,
        ),
        decisions={
            name: Decision(usual if value == "auto" else value, "for the test")
            for name, value, usual in (
                ("device", config.device, "cpu"), ("precision", config.precision, "fp32"),
                ("compile", config.compile, "off"),
            )
        },
    )  # fmt: skip
    run = RunDir(path)
    run.path.mkdir(parents=True)
    run.create(record)
    truth = {
        "test_error": 100 - accuracy, "train_error": train_error, "num_val": config.val_size, "lr": config.lr,
        "num_train": record.dataset.num_train,
        "steps_per_epoch": -(-record.dataset.num_train // config.batch_size),
    }  # fmt: skip
    rows = _metrics(truth, epochs)
    if status != "complete":
        rows = rows[: max(1, epochs // 2)]
    for row in rows:
        run.append_metrics(row)
    if gradflow:
        run.append_gradflow(_gradients(depth, len(rows), arch == "plain"))
    if status == "diverged":
        last = rows[-1]
        run.write_divergence(
            Divergence(run_id=record.run_id, finished_at=_TIME, epoch=last.epoch + 1, step=last.step + 1, lr=config.lr)
        )
    if status == "complete":
        if predictions:
            run.write_predictions(_predictions(num_test, num_classes, 100 - accuracy, rng))
        summary = Summary(
            run_id=record.run_id, finished_at=_TIME, last=rows[-1],
            best=min(rows, key=EpochMetrics.selection_error_pct),
            best_chosen_on="val" if config.val_size else "test",
            train_seconds=30.0 * epochs, eval_seconds=3.0 * epochs, peak_memory_bytes=2**20,
            files={},
        )  # fmt: skip
        run.write_summary(summary, f"# {config.network}\n")
    return run


@pytest.fixture(scope="session")
def make_run():
    """A factory of run directories, written the way a real run writes them.

    `make_run(path, arch=…, depth=…, seed=…, accuracy=92.0)` writes `epochs` epochs with
    deterministic curves that end exactly at `accuracy` (test, percent) and `train_error`
    (clean training error, percent); by default near the report's Table 1. The configuration
    keeps the recipe's own length, so that three recorded epochs pass for a whole run.
    `status` is complete, incomplete or diverged; any field of `RunConfig` may follow.
    """

    def build(path, **fields):
        # these runs need not survive a power cut, and waiting for the disk takes most of the time
        with patch("os.fsync"):
            return _build(path, **fields)

    return build


@pytest.fixture(scope="session")
def add_probe():
    """A function that stores rows of a probe in a run directory, as measured on its last weights."""

    def add(run, name, rows, *, which="last", run_id=None, images=None, settings=None):
        record = run.read_record()
        key = ProbeKey(
            probe=name, which=which, run_id=run_id or record.run_id, dataset_fingerprint=record.dataset.fingerprint,
            source="weights", source_sha256=None, images=images, batch_size=100, seed=0, settings=settings or {},
            tool_version="0.1.0",
        )  # fmt: skip
        files = ProbeFiles(run, name, which)
        files.write(key, rows_to_csv(rows), device="cpu", seconds=1.0, measured_at="2026-01-02T03:04:05Z")
        return files

    return add


@pytest.fixture(scope="module")
def one_thread():
    """Compute with one thread, which is faster for networks of this size."""
    import torch  # slow, and most tests do without

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
