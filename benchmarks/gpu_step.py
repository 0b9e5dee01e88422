"""Milliseconds per training step on a GPU: the textbook's loop against ours, in every precision, with what it takes.

    python benchmarks/gpu_step.py [--depths 20 56] [--steps 300] [--rounds 5]

Batches of 128 of random images with the shapes of CIFAR-10. Each row is timed over `--steps` steps at a time, a round
of all rows after another; printed are medians over the rounds. "textbook" moves each batch to the device and asks for
its loss, without the DataLoader, so that its row flatters it. Goals on one H200: ResNet-20 at most 0.6 ms, ResNet-56
at most 1.6 ms. Needs a CUDA device.
"""

import argparse
import datetime
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from textbook import network

from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset, Images, Source, prepare
from resnet_cli.device import decide
from resnet_cli.engine import Engine, StepEvent
from resnet_cli.recipes import make_config

WAYS = [
    # precision, compile, CUDA graph
    ("fp32", "off", False), ("tf32", "off", False), ("tf32", "off", True), ("tf32", "on", True),
    ("bf16", "off", True), ("bf16", "on", True),
]  # fmt: skip
BATCH_SIZE = 128


def main() -> None:
    """Print a table for each depth."""
    args = _options()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu_step.py: PyTorch finds no CUDA device here")
    print(f"python benchmarks/gpu_step.py {' '.join(sys.argv[1:])}")
    dataset = random_dataset()
    for depth in args.depths:
        for arch in ("plain", "resnet"):
            _table(arch, depth, dataset, args)
    device = torch.cuda.get_device_name()
    print(f"\n{datetime.date.today()}, {device}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _table(arch: str, depth: int, dataset: Dataset, args: argparse.Namespace) -> None:
    torch.compiler.reset()
    sides = {"textbook": Side(set_defaults, textbook_steps(arch, depth, dataset))}
    for precision, compile_mode, graph in WAYS:
        name = f"{precision}{', compiled' if compile_mode == 'on' else ''}{', one graph' if graph else ''}"
        config = config_of(arch, depth, precision, compile_mode)
        sides[name] = Side(partial(decide, config), our_steps(config, dataset, graph))
    for side in sides.values():
        timed(side, 20)  # kernels are chosen, steps compiled and recorded
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            seconds[name].append(timed(side, args.steps) / args.steps)
    print(f"\n{arch}-{depth}, batches of {BATCH_SIZE}")
    base = statistics.median(seconds["textbook"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:28}{1e3 * median:8.3f} ms a step{base / median:8.1f} × the textbook's speed")


class Side(NamedTuple):
    """What is timed."""

    set_up: Callable[[], object]
    """Sets what holds for the whole process: precision of products, choice of kernels."""
    steps: Iterator[object]


def timed(side: Side, steps: int) -> float:
    """Seconds of `steps` steps."""
    side.set_up()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        next(side.steps)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def set_defaults() -> None:
    """As PyTorch starts: TF32 in convolutions, not in products; kernels by heuristics."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False


def textbook_steps(arch: str, depth: int, dataset: Dataset) -> Iterator[float]:
    """The textbook's step on images that were augmented and normalised before, for ever."""
    model = network(arch, depth).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(BATCH_SIZE, 3, 32, 32).pin_memory()
    labels = torch.from_numpy(dataset.train.labels[:BATCH_SIZE]).pin_memory()
    while True:
        loss = F.cross_entropy(model(images.cuda(non_blocking=True)), labels.cuda(non_blocking=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def config_of(arch: str, depth: int, precision: str, compile_mode: str) -> RunConfig:
    """A run that outlasts the benchmark."""
    return make_config(
        arch=arch, depth=depth, device="cuda", precision=precision, compile=compile_mode, lr=0.01, epochs=10_000,
        milestones=(), clean_train_every=0,
    )  # fmt: skip


def our_steps(config: RunConfig, dataset: Dataset, graph: bool) -> Iterator[StepEvent]:
    """Our steps, crop, flip and normalisation included; the evaluations between epochs are left out."""
    engine = Engine(config, dataset, decide(config, cuda_graph=graph))
    while True:
        yield from engine._train_epoch()
        engine.epochs_done += 1
        engine.sums.reset()


def random_dataset() -> Dataset:
    """50,000 random images with random labels."""
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 50_000))
    return prepare(
        Source(name="cifar10", display_name="random", classes=tuple("0123456789"), train=images, test=images.take(
            np.arange(10_000)
        ))
    )  # fmt: skip


if __name__ == "__main__":
    main()
