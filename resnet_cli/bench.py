"""What a run costs on this machine: a few steps and evaluated batches of it, timed on random images and scaled."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset, Images, Source, prepare
from resnet_cli.device import DeviceSetup, decide, peak_memory_bytes
from resnet_cli.engine import Engine, EpochRecord, StepEvent
from resnet_cli.engine.graphs import NUM_WARMUP_CALLS
from resnet_cli.model import CifarNet, count_macs, count_parameters
from resnet_cli.optim import steps_per_epoch, total_steps
from resnet_cli.rundir import Decision
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors

Clock = Callable[[], float]

NUM_WARMUP_STEPS = NUM_WARMUP_CALLS + 1  # the first compiles or chooses kernels, the last records a CUDA graph
NUM_EVAL_BATCHES = 3  # timed, after those of the warm-up
NUM_PRODUCTS = 10  # of matrices, for the peak
NOISY = 1.5  # the slowest step over the median one, from which on the times are in doubt


class Shape(NamedTuple):
    """Size of a dataset."""

    num_train: int
    """With what is split off for validation."""
    num_test: int
    image_size: int
    """Height and width in pixels."""
    num_classes: int


_CIFAR10 = Shape(50_000, 10_000, 32, 10)
SHAPES = {
    "cifar10": _CIFAR10,
    "cifar100": _CIFAR10._replace(num_classes=100),
    "imagefolder": _CIFAR10,  # the folder's own number of images is not known here
    "digits": Shape(1_437, 360, 16, 10),
}


class Workload(NamedTuple):
    """How much a run computes."""

    num_epochs: int
    num_train_images: int
    """Images of all training steps."""
    num_eval_images: int
    """Images of all evaluations: test and validation set every epoch, the training set where it is due."""

    @classmethod
    def of(cls, config: RunConfig, *, num_train: int, num_val: int, num_test: int) -> "Workload":
        """The workload of `config` on splits of these sizes."""
        per_epoch = steps_per_epoch(num_train, config.batch_size)
        full_epochs, rest = divmod(total_steps(config, num_train), per_epoch)
        num_epochs = full_epochs + (rest > 0)
        num_clean = math.ceil(num_epochs / (config.clean_train_every or num_epochs))  # the last epoch always is due
        return cls(
            num_epochs=num_epochs,
            num_train_images=full_epochs * num_train + rest * config.batch_size,
            num_eval_images=num_epochs * (num_test + num_val) + num_clean * num_train,
        )


class Timing(NamedTuple):
    """What the clock said, in seconds."""

    step_seconds: tuple[float, ...]
    """Of each timed training step, a whole batch each."""
    eval_seconds_per_image: float
    compile_seconds: float
    """What the first steps took longer than the timed ones, where the step is compiled; else 0."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a network costs. Times are in seconds."""

    config: RunConfig
    decisions: dict[str, Decision]
    parameters: int
    macs: int
    """Multiply-accumulates of a forward pass of one image."""
    images_per_step: int
    workload: Workload
    timing: Timing
    peak_memory_bytes: int | None
    """On a GPU of this network; elsewhere of the process, so of the largest network so far. None: unknown."""

    @property
    def step_seconds(self) -> float:
        """Median of the timed steps."""
        return statistics.median(self.timing.step_seconds)

    @property
    def is_noisy(self) -> bool:
        """Whether the slowest step took more than 1.5 times the median."""
        return max(self.timing.step_seconds) > NOISY * self.step_seconds

    @property
    def images_per_second(self) -> float:
        """Training images a second."""
        return self.images_per_step / self.step_seconds

    @property
    def flops_per_second(self) -> float:
        """Floating-point operations a second of a step: forward and backward are three forward passes."""
        return 3 * 2 * self.macs * self.images_per_second

    @property
    def train_seconds(self) -> float:
        """All training steps of the run; the partial batch of an epoch counts in proportion."""
        return self.workload.num_train_images / self.images_per_second

    @property
    def eval_seconds(self) -> float:
        """All evaluations of the run."""
        return self.workload.num_eval_images * self.timing.eval_seconds_per_image

    @property
    def epoch_seconds(self) -> float:
        """An epoch with its evaluations, on average over the run."""
        return (self.train_seconds + self.eval_seconds) / self.workload.num_epochs

    @property
    def total_seconds(self) -> float:
        """The whole run: training, evaluation and compilation."""
        return self.train_seconds + self.eval_seconds + self.timing.compile_seconds


class MatrixPeak(NamedTuple):
    """The fastest product of two square matrices: what the machine can do at best in this precision."""

    flops_per_second: float
    size: int
    """Rows and columns."""
    num_products: int
    """How many were timed."""
    precision: str


class Bench(NamedTuple):
    """What all networks cost, one run each."""

    costs: list[Cost]
    peak: MatrixPeak

    @property
    def total_seconds(self) -> float:
        """One run of each network, one after another."""
        return sum(cost.total_seconds for cost in self.costs)

    def peak_fraction(self, cost: Cost) -> float:
        """Share of the matrix peak that a training step reaches."""
        return cost.flops_per_second / self.peak.flops_per_second


def bench(configs: list[RunConfig], *, num_steps: int = 10, progress: Progress = silent) -> Bench:
    """Measure what one run of each configuration costs; downloads nothing and writes nothing.

    Args:
        configs: they may differ in the network only.
        num_steps: number of training steps to time, after warm-up.
        progress: told about steps.

    Raises:
        UsageError: this machine cannot do what was asked.
        OutOfMemoryError: a batch does not fit into memory.
    """
    dataset = random_dataset(configs[0])
    costs = []
    for config in configs:
        setup = setup_for(config, dataset)
        with translate_errors(batch_size=config.batch_size, network=config.network):
            timing = measure(config, dataset, setup, num_steps=num_steps, progress=progress)
        costs.append(_cost(config, dataset, setup, timing))
    progress("measuring the matrix peak", 0, NUM_PRODUCTS, "products")
    return Bench(costs, matrix_peak(setup))


def random_dataset(config: RunConfig) -> Dataset:
    """Noise in the shape and number of the images that `config` trains and tests on."""
    shape = SHAPES[config.dataset]
    rng = np.random.default_rng(0)

    def images(count: int) -> Images:
        size = (count, shape.image_size, shape.image_size, 3)
        return Images(rng.integers(256, size=size, dtype=np.uint8), np.arange(count) % shape.num_classes)

    source = Source(
        name=config.dataset,
        display_name=f"random images in the shape of {config.dataset}",
        classes=tuple(map(str, range(shape.num_classes))),
        train=images(shape.num_train),
        test=images(shape.num_test),
        mean=(0.5, 0.5, 0.5),
        std=(0.289, 0.289, 0.289),  # of a uniform distribution
    )
    return prepare(source, val_size=config.val_size, seed=config.seed)


def setup_for(config: RunConfig, dataset: Dataset) -> DeviceSetup:
    """The device setup of a run of `config` on data of this size; raises `UsageError`."""
    # as a session counts: a partial batch is a whole one
    num_images = total_steps(config, len(dataset.train)) * config.batch_size
    return decide(config, planned_macs=num_images * _macs(config, dataset))


def measure(
    config: RunConfig, dataset: Dataset, setup: DeviceSetup, *, num_steps: int, progress: Progress = silent
) -> Timing:
    """Time training steps and evaluated batches of `config` as its own engine makes them.

    Raises:
        RuntimeError: what PyTorch says, when memory is short.
    """
    if setup.compile:
        torch.compiler.reset()  # a run has a process, and so the compiler's memory, to itself
    if setup.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setup.device)
    num_train = len(dataset.train)
    batch = min(config.batch_size, num_train)
    needed = NUM_WARMUP_STEPS + num_steps
    # just long enough for that many whole batches, so that an evaluation of everything follows them
    epochs, rest = divmod(needed, num_train // batch)
    steps = epochs * steps_per_epoch(num_train, config.batch_size) + rest
    # with lr 0 noise cannot diverge, and the arithmetic is the same
    short = msgspec.structs.replace(
        config, epochs=None, steps=steps, milestones=(), lr=0.0, warmup_steps=0, clean_train_every=0, gradflow_every=0
    )
    num_warmup_batches = NUM_WARMUP_STEPS if setup.cuda_graph else 1
    first = "compiling" if setup.compile else "warming up"
    progress(f"{first} {config.network}", 0, needed, "steps")
    step_seconds: list[float] = []
    batches: list[Piece] = []
    for piece in timed(Engine(short, dataset, setup).run(), synchronize=lambda: _synchronize(setup.device)):
        if piece.phase == "evaluate":
            batches.append(piece)
        elif piece.num_images == batch and len(step_seconds) < needed:
            step_seconds.append(piece.seconds)
            label = "timing" if len(step_seconds) >= NUM_WARMUP_STEPS else first
            progress(f"{label} {config.network}", len(step_seconds), needed, "steps")
        if len(step_seconds) == needed and len(batches) >= num_warmup_batches + NUM_EVAL_BATCHES:
            break
    return summarize(step_seconds, batches, num_warmup_batches, is_compiled=setup.compile)


class Piece(NamedTuple):
    """A training step or an evaluated batch."""

    phase: str
    """`train` or `evaluate`."""
    num_images: int
    seconds: float


def timed(
    events: Iterable[StepEvent | EpochRecord], *, synchronize: Callable[[], None], clock: Clock = time.perf_counter
) -> Iterator[Piece]:
    """How long the engine took from each event to the next tick, without the time that the caller takes.

    Args:
        events: what `Engine.run` yields.
        synchronize: waits until the device has done what it was told.
        clock: seconds.
    """
    seen, before = 0, clock()
    for event in events:
        if isinstance(event, StepEvent):
            synchronize()
            yield Piece(event.phase, event.done - seen, clock() - before)
            seen = event.done % event.total  # another set follows the last image of one
        before = clock()


def summarize(
    step_seconds: list[float], batches: list[Piece], num_warmup_batches: int = 1, *, is_compiled: bool
) -> Timing:
    """Separate warm-up from what repeats.

    Args:
        step_seconds: of whole training batches, warm-up first.
        batches: evaluated ones, warm-up first.
        num_warmup_batches: how many of them are that; where there are no more, the last one counts.
        is_compiled: whether the excess of the warm-up is compilation.
    """
    warmup, steps = step_seconds[:NUM_WARMUP_STEPS], step_seconds[NUM_WARMUP_STEPS:]
    timed_batches = batches[num_warmup_batches:] or batches[-1:]
    per_image = statistics.median(batch.seconds / batch.num_images for batch in timed_batches)
    excess = sum(warmup) - len(warmup) * statistics.median(steps)
    excess += batches[0].seconds - batches[0].num_images * per_image
    return Timing(tuple(steps), per_image, max(excess, 0.0) if is_compiled else 0.0)


# Large enough that a product is limited by arithmetic, small enough for a laptop to do it in about half a second.
_MATRIX_SIZES = {"cuda": 8192, "mps": 4096, "cpu": 2048}
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def matrix_peak(
    setup: DeviceSetup, *, size: int | None = None, num_products: int = NUM_PRODUCTS, clock: Clock = time.perf_counter
) -> MatrixPeak:
    """Multiply two random square matrices in the precision of `setup` (with tf32 in fp32 storage), the best of several.

    Args:
        setup: gives device and precision, for which `decide` has set up the process.
        size: rows and columns; None: 8192 on CUDA, 4096 on MPS, 2048 on the CPU.
        num_products: after one that is not timed.
        clock: seconds.
    """
    size = size or _MATRIX_SIZES[setup.device.type]
    dtype = _DTYPES.get(setup.precision, torch.float32)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(setup.device, dtype) for _ in range(2))
    product = torch.mm(a, b)
    seconds = []
    for _ in range(num_products):
        _synchronize(setup.device)
        before = clock()
        torch.mm(a, b, out=product)
        _synchronize(setup.device)
        seconds.append(clock() - before)
    return MatrixPeak(2 * size**3 / min(seconds), size, num_products, setup.precision)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _macs(config: RunConfig, dataset: Dataset) -> int:
    return count_macs(config.depth, config.shortcut, len(dataset.classes), image_size=dataset.image_size)


def _cost(config: RunConfig, dataset: Dataset, setup: DeviceSetup, timing: Timing) -> Cost:
    num_train, num_val, num_test = len(dataset.train), len(dataset.val) if dataset.val else 0, len(dataset.test)
    with torch.device("meta"):
        parameters = count_parameters(CifarNet(config.depth, config.shortcut, len(dataset.classes)))
    return Cost(
        config=config,
        decisions=setup.decisions,
        parameters=parameters,
        macs=_macs(config, dataset),
        images_per_step=min(config.batch_size, num_train),
        workload=Workload.of(config, num_train=num_train, num_val=num_val, num_test=num_test),
        timing=timing,
        peak_memory_bytes=peak_memory_bytes(setup.device),
    )
