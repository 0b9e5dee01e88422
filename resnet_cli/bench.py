"""Cost of a run on this machine, extrapolated from a few training steps and evaluated batches of random images."""

import math
import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from resnet_cli.config import RunConfig, RunOptions
from resnet_cli.data import Dataset, Images, Source, prepare
from resnet_cli.data.open import PUBLISHED_SIZES
from resnet_cli.device import DeviceSetup, decide, peak_memory_bytes
from resnet_cli.engine import Engine, EpochRecord, InitialRecord, StepEvent
from resnet_cli.engine.graphs import NUM_WARMUP_CALLS
from resnet_cli.model import CifarNet, count_macs, count_parameters
from resnet_cli.optim import steps_per_epoch, total_steps
from resnet_cli.rundir import Decision
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors

TimedBatch = tuple[str, int, float]
"""A training step or evaluated batch: phase (`train` or `evaluate`), number of images, seconds."""

NUM_WARMUP_STEPS = NUM_WARMUP_CALLS + 1  # the first compiles or chooses kernels, the last records a CUDA graph
NUM_EVAL_BATCHES = 3  # timed, after those of the warm-up
NUM_PRODUCTS = 10  # of matrices, for the peak

# the folder itself is not read
_SIZES = {**PUBLISHED_SIZES, "imagefolder": PUBLISHED_SIZES["cifar10"]}


class Timing(NamedTuple):
    """Measured times of one network, in seconds."""

    step_seconds: tuple[float, ...]  # of each timed training step of a whole batch
    eval_seconds_per_image: float
    compile_seconds: float  # extra time of the first steps over the timed ones if the step is compiled, else 0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one run of a network, a row of the command's JSON document. Times are in seconds."""

    network: str
    batch_size: int  # images per step: of the configuration, or all training images where there are fewer
    parameters: int
    macs: int  # multiply-accumulates of a forward pass of one image
    num_epochs: int
    num_train_images: int  # of all training steps
    num_eval_images: int  # of all evaluations
    num_timed_steps: int
    step_seconds: float  # median
    step_seconds_min: float
    step_seconds_max: float
    images_per_second: float  # in training
    flops_per_second: float  # in training; forward and backward count as three forward passes
    train_seconds: float  # all steps of the run; the partial batch of an epoch counts in proportion
    eval_seconds: float  # all evaluations of the run
    epoch_seconds: float  # mean of an epoch with its evaluations
    compile_seconds: float
    total_seconds: float  # the whole run: training, evaluation and compilation
    peak_memory_bytes: int | None  # of this network on a GPU; elsewhere of the process so far; None: unknown
    decisions: dict[str, Decision]


class MatrixPeak(NamedTuple):
    """The fastest product of two square matrices, as an upper bound of this machine's speed in one precision."""

    flops_per_second: float
    size: int  # rows and columns
    precision: str


def bench(
    configs: list[RunConfig], *, num_steps: int = 10, progress: Progress = silent
) -> tuple[list[Cost], MatrixPeak]:
    """Measure the cost of one run of each configuration; downloads nothing and writes no files.

    Args:
        configs: configurations that differ in the network only.
        num_steps: number of training steps to time, after warm-up.
        progress: called after every step.

    Raises:
        UsageError: this machine lacks the requested device or precision.
        ResnetError: a batch does not fit into memory.
    """
    dataset = random_dataset(configs[0])
    costs = []
    for config in configs:
        setup = setup_for(config, dataset)
        with translate_errors(batch_size=config.batch_size, network=config.network):
            timing = measure(config, dataset, setup, num_steps=num_steps, progress=progress)
        costs.append(estimate(config, dataset, setup, timing))
    progress("measuring the matrix peak", 0, NUM_PRODUCTS, "products")
    return costs, matrix_peak(setup)


def random_dataset(config: RunConfig) -> Dataset:
    """Random images, equal in size and number to those that `config` trains and tests on."""
    num_train, num_test, num_classes, image_size = _SIZES[config.dataset]
    num_train = min(num_train, config.limit_train or num_train)
    num_test = min(num_test, config.limit_test or num_test)
    rng = np.random.default_rng(0)

    def images(count: int) -> Images:
        pixels = rng.integers(256, size=(count, image_size, image_size, 3), dtype=np.uint8)
        return Images(pixels, np.arange(count) % num_classes)

    source = Source(
        name=config.dataset,
        display_name=f"random images in the shape of {config.dataset}",
        classes=tuple(map(str, range(num_classes))),
        train=images(num_train),
        test=images(num_test),
        mean=(0.5, 0.5, 0.5),
        std=(0.289, 0.289, 0.289),  # of a uniform distribution
    )
    return prepare(source, val_size=config.val_size, seed=config.seed)


def setup_for(config: RunConfig, dataset: Dataset) -> DeviceSetup:
    """The device setup that a run of `config` on data of this size would choose."""
    # as in a session, a partial batch counts as a whole one
    num_images = total_steps(config, len(dataset.train)) * config.batch_size
    return decide(config, planned_macs=num_images * _macs(config, dataset), cuda_graph=RunOptions().cuda_graph)


def count_images(config: RunConfig, dataset: Dataset) -> tuple[int, int, int]:
    """Number of epochs, training images and evaluated images of a run of `config` on data of this size.

    Test and validation images are evaluated every epoch, training images where `clean_train_every` asks for it.
    """
    num_train, num_val = len(dataset.train), len(dataset.val or ())
    full_epochs, rest = divmod(total_steps(config, num_train), steps_per_epoch(num_train, config.batch_size))
    num_epochs = full_epochs + (rest > 0)
    num_clean = math.ceil(num_epochs / (config.clean_train_every or num_epochs))  # always after the last epoch
    num_train_images = full_epochs * num_train + rest * config.batch_size
    subset = min(config.clean_train_images or num_train, num_train)  # before the last epoch
    num_clean_images = (num_clean - 1) * subset + num_train
    return num_epochs, num_train_images, num_epochs * (len(dataset.test) + num_val) + num_clean_images


def measure(
    config: RunConfig, dataset: Dataset, setup: DeviceSetup, *, num_steps: int, progress: Progress = silent
) -> Timing:
    """Time training steps and evaluated batches of `config`, run by the same engine as in training.

    Raises:
        RuntimeError: PyTorch could not allocate memory.
    """
    if setup.compile:
        torch.compiler.reset()  # in training, each network has a process and so an empty compiler cache
    if setup.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setup.device)
    num_train = len(dataset.train)
    batch = min(config.batch_size, num_train)
    needed = NUM_WARMUP_STEPS + num_steps
    # just long enough for that many whole batches, so that an evaluation of everything follows them
    epochs, rest = divmod(needed, num_train // batch)
    steps = epochs * steps_per_epoch(num_train, config.batch_size) + rest
    # lr 0 cannot diverge on random images, and costs the same
    short = msgspec.structs.replace(
        config, epochs=None, steps=steps, milestones=(), lr=0.0, warmup_steps=0, clean_train_every=0, gradflow_every=0
    )
    num_warmup_batches = NUM_WARMUP_STEPS if setup.cuda_graph else 1
    first = "compiling" if setup.compile else "warming up"
    progress(f"{first} {config.network}", 0, needed, "steps")
    step_seconds: list[float] = []
    batches: list[TimedBatch] = []
    synchronize = torch.get_device_module(setup.device).synchronize
    for phase, num_images, seconds in time_batches(Engine(short, dataset, setup).run(), synchronize=synchronize):
        if phase == "evaluate":
            batches.append((phase, num_images, seconds))
        elif num_images == batch and len(step_seconds) < needed:
            step_seconds.append(seconds)
            label = "timing" if len(step_seconds) >= NUM_WARMUP_STEPS else first
            progress(f"{label} {config.network}", len(step_seconds), needed, "steps")
        if len(step_seconds) == needed and len(batches) >= num_warmup_batches + NUM_EVAL_BATCHES:
            break
    return summarize(step_seconds, batches, num_warmup_batches, is_compiled=setup.compile)


def time_batches(
    events: Iterable[StepEvent | InitialRecord | EpochRecord], *, synchronize: Callable[[], None]
) -> Iterator[TimedBatch]:
    """Yield the time of each step or evaluated batch in the engine, excluding the caller's own time in between.

    Args:
        events: as `Engine.run` yields them.
        synchronize: waits until the device has finished its work.
    """
    images_before, start = 0, time.perf_counter()
    for event in events:
        if isinstance(event, StepEvent):
            synchronize()
            yield event.phase, event.done - images_before, time.perf_counter() - start
            images_before = event.done % event.total  # the next event after the last image is of another set
        start = time.perf_counter()


def summarize(
    step_seconds: list[float], batches: list[TimedBatch], num_warmup_batches: int = 1, *, is_compiled: bool
) -> Timing:
    """Separate warm-up from the steps that are representative of the run.

    Args:
        step_seconds: times of whole training batches, warm-up first.
        batches: evaluated batches, warm-up first.
        num_warmup_batches: number of warm-up batches among them; if there are no others, the last one counts.
        is_compiled: whether the extra time of the warm-up is compilation.
    """
    warmup, steps = step_seconds[:NUM_WARMUP_STEPS], step_seconds[NUM_WARMUP_STEPS:]
    timed_batches = batches[num_warmup_batches:] or batches[-1:]
    per_image = statistics.median(seconds / num_images for _, num_images, seconds in timed_batches)
    _, first_images, first_seconds = batches[0]
    excess = sum(warmup) - len(warmup) * statistics.median(steps) + first_seconds - first_images * per_image
    return Timing(tuple(steps), per_image, max(excess, 0.0) if is_compiled else 0.0)


# Large enough that a product is limited by arithmetic, small enough for a laptop to do it in about half a second.
_MATRIX_SIZES = {"cuda": 8192, "mps": 4096, "cpu": 2048}
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def matrix_peak(setup: DeviceSetup) -> MatrixPeak:
    """Time products of two random square matrices on the device and in the precision of `setup`; the fastest counts."""
    size = _MATRIX_SIZES[setup.device.type]
    dtype = _DTYPES.get(setup.precision, torch.float32)  # tf32 is stored as fp32
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(setup.device, dtype) for _ in range(2))
    product = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=product)
        torch.get_device_module(setup.device).synchronize()

    multiply()  # warm-up
    seconds = timeit.repeat(multiply, timer=time.perf_counter, number=1, repeat=NUM_PRODUCTS)
    return MatrixPeak(2 * size**3 / min(seconds), size, setup.precision)


def estimate(config: RunConfig, dataset: Dataset, setup: DeviceSetup, timing: Timing) -> Cost:
    """Extrapolate `timing` to a whole run of `config` on data of this size."""
    num_epochs, num_train_images, num_eval_images = count_images(config, dataset)
    with torch.device("meta"):
        parameters = count_parameters(CifarNet(config.depth, config.shortcut, len(dataset.classes)))
    macs = _macs(config, dataset)
    batch_size = min(config.batch_size, len(dataset.train))
    step_seconds = statistics.median(timing.step_seconds)
    images_per_second = batch_size / step_seconds
    train_seconds = num_train_images / images_per_second
    eval_seconds = num_eval_images * timing.eval_seconds_per_image
    return Cost(
        network=config.network, batch_size=batch_size, parameters=parameters, macs=macs, num_epochs=num_epochs,
        num_train_images=num_train_images, num_eval_images=num_eval_images, num_timed_steps=len(timing.step_seconds),
        step_seconds=step_seconds, step_seconds_min=min(timing.step_seconds), step_seconds_max=max(timing.step_seconds),
        images_per_second=images_per_second, flops_per_second=3 * 2 * macs * images_per_second,
        train_seconds=train_seconds, eval_seconds=eval_seconds,
        epoch_seconds=(train_seconds + eval_seconds) / num_epochs, compile_seconds=timing.compile_seconds,
        total_seconds=train_seconds + eval_seconds + timing.compile_seconds,
        peak_memory_bytes=peak_memory_bytes(setup.device), decisions=setup.decisions,
    )  # fmt: skip


def _macs(config: RunConfig, dataset: Dataset) -> int:
    return count_macs(config.depth, config.shortcut, len(dataset.classes), image_size=dataset.image_size)
