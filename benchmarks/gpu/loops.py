"""Training loops to time: ours in every variant, and the textbook's on data that is already on the device."""

import contextlib
import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from textbook import network

from resnet_cli.bench import random_dataset
from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset, Images
from resnet_cli.device import decide
from resnet_cli.engine import Engine, StepEvent
from resnet_cli.recipes import make_config


class Size(NamedTuple):
    """How much to measure."""

    batch_size: int
    num_train: int | None
    """Number of training images; None: as in CIFAR-10."""
    num_test: int | None
    warmup_steps: int
    round_seconds: float
    """Length of one timed round."""
    num_rounds: int


FULL = Size(128, None, None, warmup_steps=20, round_seconds=0.5, num_rounds=5)
TINY = Size(8, 64, 32, warmup_steps=1, round_seconds=0.01, num_rounds=2)
"""For a rehearsal on a CPU."""


class Variant(NamedTuple):
    """How a training step is computed."""

    precision: str
    compile: bool
    graph: bool

    @property
    def name(self) -> str:
        """For example `tf32, compiled, graph`."""
        return ", ".join([self.precision, *["compiled"] * self.compile, *(["graph"] if self.graph else [])])


EAGER = [Variant(precision, False, False) for precision in ("fp32", "tf32", "bf16")]
GRAPH = [Variant(precision, False, True) for precision in ("tf32", "fp32", "bf16")]
COMPILED = [
    Variant("tf32", True, True), Variant("bf16", True, True), Variant("fp32", True, True), Variant("tf32", True, False)
]  # fmt: skip


class Loop(NamedTuple):
    """A training loop."""

    set_up: Any
    """Function that applies the settings of the process: precision of matrix products, choice of kernels."""
    steps: Iterator[object]
    """Takes one training step per item, without end."""


def config_of(arch: str, depth: int, device: str, size: Size, variant: Variant, **fields: Any) -> RunConfig:
    """Configuration of a run that is longer than any measurement, with a rate at which random labels do not diverge."""
    values: dict[str, Any] = {"lr": 0.001, "epochs": 100_000, "milestones": (), "clean_train_every": 0, **fields}
    return make_config(
        arch=arch, depth=depth, device=device, precision=variant.precision, batch_size=size.batch_size,
        compile="on" if variant.compile else "off", **values,
    )  # fmt: skip


@functools.cache
def dataset_of(size: Size) -> Dataset:
    """Random images in the shape of CIFAR-10."""
    data = random_dataset(make_config(arch="plain", depth=8))
    train, test = (
        Images(split.pixels[:count].copy(), split.labels[:count])
        for split, count in ((data.train, size.num_train), (data.test, size.num_test))
    )
    return msgspec.structs.replace(data, train=train, test=test)


def ours(config: RunConfig, dataset: Dataset, *, graph: bool) -> Loop:
    """Our steps with crop, flip and normalisation, and without the evaluations between epochs."""
    set_up = functools.partial(decide, config, cuda_graph=graph)
    return Loop(set_up, _our_steps(Engine(config, dataset, set_up())))


def _our_steps(engine: Engine) -> Iterator[StepEvent]:
    while True:
        yield from engine._train_epoch()
        engine.epochs_done += 1
        engine.sums.reset()


def textbook(arch: str, depth: int, device: str, size: Size) -> Loop:
    """The textbook's steps on one batch that is already augmented, normalised and on the device."""
    return Loop(_set_defaults, _textbook_steps(arch, depth, device, size))


def _set_defaults() -> None:
    """Apply PyTorch's defaults: TF32 in convolutions but not in matrix products, kernels chosen by heuristics."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False


def _textbook_steps(arch: str, depth: int, device: str, size: Size) -> Iterator[float]:
    model = network(arch, depth).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(size.batch_size, 3, 32, 32, device=device)
    labels = torch.arange(size.batch_size, device=device) % 10
    while True:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    torch.get_device_module(device).synchronize()


def time_steps(loop: Loop, device: str, size: Size) -> tuple[float, list[float]]:
    """Seconds of the warm-up, which chooses kernels, compiles and records graphs; seconds per step of each round."""
    loop.set_up()
    warmup = seconds_of(loop.steps, size.warmup_steps, device)
    estimate = seconds_of(loop.steps, size.warmup_steps, device) / size.warmup_steps
    num_steps = max(int(size.round_seconds / estimate), 1)
    return warmup, [seconds_of(loop.steps, num_steps, device) / num_steps for _ in range(size.num_rounds)]


def seconds_of(steps: Iterator[object], count: int, device: str) -> float:
    """Seconds that `count` steps take."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    synchronize(device)
    return time.perf_counter() - started


def on_own_streams(loops: list[Loop], device: str) -> Iterator[None]:
    """One step of every loop per item, each on a stream of its own.

    For times only: graphs recorded on one stream share its cuBLAS workspace, so their results may be wrong.
    """
    cuda = device == "cuda"
    contexts = [torch.cuda.stream(torch.cuda.Stream()) if cuda else contextlib.nullcontext() for _ in loops]
    while True:
        for loop, context in zip(loops, contexts, strict=True):
            with context:
                next(loop.steps)
        yield


def copy_bytes_per_second(device: str, size: Size) -> float:
    """Speed of copies within the device's memory, counting bytes read and bytes written."""
    source = torch.empty(2**30 if size is FULL else 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(12):
        synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * source.numel() / statistics.median(seconds[2:])
