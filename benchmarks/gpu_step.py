"""Time of a training step on a GPU: the textbook's loop, and ours in every precision, compiled and as a CUDA graph.

    python benchmarks/gpu_step.py [--depths 20 56] [--steps 300] [--rounds 5]

Batches of 128 random images in the shape of CIFAR-10. Each round times `--steps` steps of every variant; the script
prints medians over the rounds. The textbook's loop copies each batch to the device and reads its loss but does without
the DataLoader, so its time is optimistic. Goals on one H200: at most 0.6 ms for ResNet-20 and 1.6 ms for ResNet-56.
Needs a CUDA device.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from textbook import network
from where import command_line, parser, where

from resnet_cli.bench import random_dataset
from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset
from resnet_cli.device import decide
from resnet_cli.engine import Engine, StepEvent
from resnet_cli.recipes import make_config

VARIANTS = [
    # precision, compile, CUDA graph
    ("fp32", "off", False), ("tf32", "off", False), ("tf32", "off", True), ("tf32", "on", True),
    ("bf16", "off", True), ("bf16", "on", True),
]  # fmt: skip
BATCH_SIZE = 128


def main() -> None:
    """Print a table for each network."""
    args = _arguments()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu_step.py: PyTorch finds no CUDA device")
    print(command_line())
    dataset = random_dataset(config_of("plain", 20, "auto", "off"))
    for depth in args.depths:
        for arch in ("plain", "resnet"):
            _table(arch, depth, dataset, args)
    print(f"\n{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}\n{where()}")


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--depths", type=int, nargs="+", default=[20, 56], help="weighted layers, 6n+2")
    options.add_argument("--steps", type=int, default=300, help="timed steps per round")
    options.add_argument("--rounds", type=int, default=5)
    return options.parse_args()


def _table(arch: str, depth: int, dataset: Dataset, args: argparse.Namespace) -> None:
    torch.compiler.reset()
    loops = {"textbook": Loop(set_defaults, textbook_steps(arch, depth, dataset))}
    for precision, compile_mode, graph in VARIANTS:
        name = f"{precision}{', compiled' if compile_mode == 'on' else ''}{', one graph' if graph else ''}"
        config = config_of(arch, depth, precision, compile_mode)
        loops[name] = Loop(partial(decide, config), our_steps(config, dataset, graph))
    for loop in loops.values():
        timed(loop, 20)  # chooses kernels, compiles and records graphs
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(args.rounds):
        for name, loop in loops.items():
            seconds[name].append(timed(loop, args.steps) / args.steps)
    print(f"\n{arch}-{depth}, batches of {BATCH_SIZE}")
    base = statistics.median(seconds["textbook"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:28}{1e3 * median:8.3f} ms per step{base / median:8.1f} × the textbook's speed")


class Loop(NamedTuple):
    """A training loop to time."""

    set_up: Callable[[], object]
    """Applies the settings of the whole process: precision of matrix products, choice of kernels."""
    steps: Iterator[object]
    """Takes one training step per item, without end."""


def timed(loop: Loop, steps: int) -> float:
    """Seconds that `steps` steps take."""
    loop.set_up()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        next(loop.steps)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def set_defaults() -> None:
    """Apply PyTorch's defaults: TF32 in convolutions but not in matrix products, kernels chosen by heuristics."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False


def textbook_steps(arch: str, depth: int, dataset: Dataset) -> Iterator[float]:
    """Losses of the textbook's steps on a fixed batch that is already augmented and normalised."""
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
    """Configuration of a run that is longer than the benchmark."""
    return make_config(
        arch=arch, depth=depth, device="cuda", precision=precision, compile=compile_mode, lr=0.01, epochs=10_000,
        milestones=(), clean_train_every=0,
    )  # fmt: skip


def our_steps(config: RunConfig, dataset: Dataset, graph: bool) -> Iterator[StepEvent]:
    """Our steps with crop, flip and normalisation, and without the evaluations between epochs."""
    engine = Engine(config, dataset, decide(config, cuda_graph=graph))
    while True:
        yield from engine._train_epoch()
        engine.epochs_done += 1
        engine.sums.reset()


if __name__ == "__main__":
    main()
