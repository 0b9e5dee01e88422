"""Scaling of cost: time per training image with depth, batch size and threads; `resnet compare` with runs.

    python benchmarks/scaling.py [--rounds 9] [--plot scaling.png]

Training steps are eager steps of the package's own engine on random images in the shape of CIFAR-10. Each measurement
takes one untimed step, then timed steps for at least 0.4 s. Every round measures all points; the script prints the
median, the lowest and the highest value over the rounds. Each number of threads has its own process. `resnet compare`
is timed as a whole fresh process on generated runs, after one that is not timed.

Every 3×3 layer has the same number of multiply-accumulates in every stage, except the two that halve the image, so cost
should be linear in depth. A line is fitted to the median times by least squares of the relative differences, which are
printed. Its constant term may be negative: counted in multiply-accumulates, the first layer, the last layer and the two
that halve the image together cost 2.8 layers less than four other layers.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from processes import RESNET, ROOT, run

sys.path.insert(0, str(ROOT))

from generated_runs import generate
from where import command_line, parser, where

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
BATCH_SIZES = (16, 32, 64, 128, 256, 512)
RUN_COUNTS = (10, 100, 1000)
BATCH_SIZE, DEPTH = 128, 20  # fixed values, while another quantity varies
NUM_WARMUP_STEPS = 2
MEASUREMENT_SECONDS = 0.4
PNG_DPI = 200  # enough for a screen; use .svg or .pdf for print


class Point(NamedTuple):
    """Position of a measurement in one of the tables."""

    table: str
    """`step`, `threads` or `compare`."""
    arch: str = ""
    depth: int = 0
    size: int = 0
    """Batch size, number of threads or number of runs."""


Measurement = Callable[[], float]
"""Measures a point once, in seconds."""


def main() -> None:
    options = _arguments()
    print(f"{command_line()}\n", flush=True)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        measurements = {**_compare_runs(Path(name)), **_steps_by_threads(stack), **_steps_by_depth_and_batch_size()}
        seconds: dict[Point, list[float]] = {point: [] for point in measurements}
        for _ in range(options.rounds):
            for point, measure in measurements.items():
                seconds[point].append(measure())
    _print_depth(seconds)
    _print_batch_size(seconds)
    _print_threads(seconds)
    _print_compare(seconds)
    if options.plot:
        _plot(seconds, options.plot)
    print(f"medians of {options.rounds} rounds\n{where()}")


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--plot", type=Path, metavar="FILE", help="also draw the tables, as .png, .svg or .pdf")
    return options.parse_args()


def _steps_by_depth_and_batch_size() -> dict[Point, Measurement]:
    """Seconds per training image for every depth and every batch size."""
    points = [Point("step", arch, depth, BATCH_SIZE) for depth in DEPTHS for arch in ("plain", "resnet")]
    points += [Point("step", "resnet", DEPTH, size) for size in BATCH_SIZES if size != BATCH_SIZE]
    dataset = _dataset()
    return {point: _median_step(_steps(dataset, point.arch, point.depth, point.size)) for point in points}


def _steps_by_threads(stack: contextlib.ExitStack) -> dict[Point, Measurement]:
    """Seconds per training image of ResNet-20 for every number of threads, up to one per core."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = sorted({2**power for power in range(num_cores.bit_length())} | {num_cores})
    return {Point("threads", "resnet", DEPTH, count): _step_in_process(count, stack) for count in counts}


def _compare_runs(folder: Path) -> dict[Point, Measurement]:
    """Seconds of `resnet compare` for every number of runs."""
    measurements = {}
    for count in RUN_COUNTS:
        runs = folder / str(count)
        generate(runs, count)
        command = (*RESNET, "compare", str(runs))
        # the first of the two brings the package and the runs back into the caches
        measurements[Point("compare", size=count)] = lambda command=command: (
            [run(*command) for _ in range(2)][-1].seconds
        )
    return measurements


def _dataset() -> Any:
    from resnet_cli.bench import random_dataset

    return random_dataset(_config("resnet", DEPTH, BATCH_SIZE))


def _config(arch: str, depth: int, batch_size: int) -> Any:
    from resnet_cli.recipes import make_config

    # at lr 0, training on noise cannot diverge, and the arithmetic is the same
    return make_config(
        arch=arch, depth=depth, batch_size=batch_size, epochs=1, milestones=(), lr=0.0, clean_train_every=0,
        device="cpu", precision="fp32", compile="off",
    )  # fmt: skip


def _steps(dataset: Any, arch: str, depth: int, batch_size: int) -> Iterator[float]:
    """Seconds per image of each training step of an epoch, after the warm-up."""
    from resnet_cli.bench import time_batches
    from resnet_cli.device import decide
    from resnet_cli.engine import Engine

    config = _config(arch, depth, batch_size)
    batches = time_batches(Engine(config, dataset, decide(config)).run(), synchronize=lambda: None)
    for _ in range(NUM_WARMUP_STEPS):
        next(batches)
    for phase, num_images, seconds in batches:
        assert phase == "train", "too many rounds for the steps of an epoch"
        yield seconds / num_images


def _median_step(steps: Iterator[float]) -> Measurement:
    """Median over the steps of one measurement."""

    def measure() -> float:
        next(steps)  # fills the caches with this network
        started, taken = time.perf_counter(), []
        while not taken or time.perf_counter() - started < MEASUREMENT_SECONDS:
            taken.append(next(steps))
        return median(taken)

    return measure


def _step_in_process(num_threads: int, stack: contextlib.ExitStack) -> Measurement:
    """Measurement in a process with `num_threads` threads, which ends when `stack` closes."""
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    process = context.Process(target=_serve, args=(far,))
    process.start()
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    assert pipe.recv() == num_threads
    stack.callback(process.join)
    stack.callback(pipe.send, False)

    def measure() -> float:
        pipe.send(True)
        return pipe.recv()

    return measure


def _serve(pipe: Connection) -> None:
    import torch

    measure = _median_step(_steps(_dataset(), "resnet", DEPTH, BATCH_SIZE))
    pipe.send(torch.get_num_threads())
    while pipe.recv():
        pipe.send(measure())


class Line(NamedTuple):
    """The line constant + slope · x."""

    constant: float
    slope: float

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> "Line":
        """Fit a line by least squares of the relative differences."""
        slope, constant = np.polyfit(x, y, 1, w=1 / np.asarray(y))
        return cls(float(constant), float(slope))

    def at(self, x: Any) -> Any:
        """Value at `x`, a number or an array."""
        return self.constant + self.slope * x


Seconds = Mapping[Point, Sequence[float]]


def _depth_line(seconds: Seconds, arch: str) -> Line:
    """Milliseconds per image against depth."""
    return Line.through(DEPTHS, [1e3 * median(seconds[Point("step", arch, d, BATCH_SIZE)]) for d in DEPTHS])


def _compare_line(seconds: Seconds) -> Line:
    """Seconds against the number of runs."""
    return Line.through(RUN_COUNTS, [median(seconds[Point("compare", size=n)]) for n in RUN_COUNTS])


def _print_depth(seconds: Seconds) -> None:
    from resnet_cli.model import count_macs

    print(f"ms per training image against depth (batch {BATCH_SIZE}, eager)")
    print("depth     arch    median   lowest  highest     line  difference  GFLOP/s")
    for arch in ("plain", "resnet"):
        line, worst = _depth_line(seconds, arch), 0.0
        for depth in DEPTHS:
            values = [1e3 * one for one in seconds[Point("step", arch, depth, BATCH_SIZE)]]
            middle, expected = median(values), line.at(depth)
            difference = 100 * (middle / expected - 1)
            worst = max(worst, abs(difference))
            # forward and backward count as three forward passes, a multiply-accumulate as two operations
            gflops = 6 * count_macs(depth, "none" if arch == "plain" else "A") / middle / 1e6
            print(
                f"{depth:5}  {arch:>7}  {middle:8.3f} {min(values):8.3f} {max(values):8.3f} {expected:8.3f} "
                f"{difference:+10.1f}%  {gflops:7.0f}"
            )
        print(
            f"{arch}: {line.slope:.4f} ms per layer and {line.constant:+.4f} ms independent of depth; "
            f"no depth differs by more than {worst:.1f} %"
        )
    ratios = [
        median(seconds[Point("step", "resnet", d, BATCH_SIZE)]) / median(seconds[Point("step", "plain", d, BATCH_SIZE)])
        for d in DEPTHS
    ]
    print(f"resnet ÷ plain: median {median(ratios):.3f} over depths, from {min(ratios):.3f} to {max(ratios):.3f}\n")


def _print_batch_size(seconds: Seconds) -> None:
    print(f"ms per training image against batch size (resnet-{DEPTH}, eager)")
    print("images    median   lowest  highest  ms per step")
    for size in BATCH_SIZES:
        values = [1e3 * one for one in seconds[Point("step", "resnet", DEPTH, size)]]
        print(f"{size:6}  {_row(values)}  {size * median(values):11.1f}")
    print()


def _print_threads(seconds: Seconds) -> None:
    print(f"ms per training image against threads (resnet-{DEPTH}, batch {BATCH_SIZE}, eager, one process each)")
    print("threads    median   lowest  highest  speed-up over one")
    points = [point for point in seconds if point.table == "threads"]
    for point in points:
        values = [1e3 * one for one in seconds[point]]
        gain = median(seconds[points[0]]) / median(seconds[point])
        print(f"{point.size:7}  {_row(values)}  {gain:17.2f}")
    print()


def _print_compare(seconds: Seconds) -> None:
    print("seconds of resnet compare against the number of runs")
    line = _compare_line(seconds)
    print("  runs    median   lowest  highest     line  difference")
    for count in RUN_COUNTS:
        values = seconds[Point("compare", size=count)]
        expected = line.at(count)
        print(f"{count:6}  {_row(values)} {expected:8.3f} {100 * (median(values) / expected - 1):+10.1f}%")
    print(f"{1e3 * line.slope:.2f} ms per run and {line.constant:.2f} s independent of their number\n")


def _row(values: Sequence[float]) -> str:
    return f"{median(values):8.3f} {min(values):8.3f} {max(values):8.3f}"


def _plot(seconds: Seconds, path: Path) -> None:
    from matplotlib.ticker import NullLocator

    from resnet_cli.analysis.figures import style

    colors = {arch: style.network_style(f"{arch}-56").color for arch in ("plain", "resnet")}
    with style.house_style():
        figure, (by_depth, by_batch, by_threads, by_runs) = style.new_figure(2, 2, 4.4)
        for arch, color in colors.items():
            line = _depth_line(seconds, arch)
            by_depth.plot((0, DEPTHS[-1]), line.at(np.array((0, DEPTHS[-1]))), color=color, linewidth=0.8)
            points = [Point("step", arch, depth, BATCH_SIZE) for depth in DEPTHS]
            _draw(by_depth, DEPTHS, seconds, points, 1e3, color, f"{arch}: {line.slope:.3f} ms per layer")
        by_depth.set(title=f"depth (batch {BATCH_SIZE})", xlabel="weighted layers", ylabel="ms per training image")
        by_depth.set(xlim=(0, None), ylim=(0, None), xticks=[depth for depth in DEPTHS if depth != 14])

        points = [Point("step", "resnet", DEPTH, size) for size in BATCH_SIZES]
        _draw(by_batch, BATCH_SIZES, seconds, points, 1e3, colors["resnet"], linestyle="solid")
        by_batch.set_xscale("log", base=2)
        by_batch.set(title=f"batch size (resnet-{DEPTH})", xlabel="images per batch", ylabel="ms per training image")
        by_batch.set(ylim=(0, None), xticks=BATCH_SIZES, xticklabels=BATCH_SIZES)
        by_batch.xaxis.set_minor_locator(NullLocator())

        points = [point for point in seconds if point.table == "threads"]
        counts = [point.size for point in points]
        ideal = [1e3 * median(seconds[points[0]]) / count for count in counts]
        by_threads.plot(counts, ideal, color=style.RULE, linestyle=(0, (3.2, 1.4)), linewidth=0.8, label="ideal")
        _draw(by_threads, counts, seconds, points, 1e3, colors["resnet"], "measured", linestyle="solid")
        by_threads.set(title=f"threads (resnet-{DEPTH}, batch {BATCH_SIZE})", xlabel="threads")
        by_threads.set(ylabel="ms per training image", ylim=(0, None), xticks=counts)

        line = _compare_line(seconds)
        label = f"{line.constant:.2f} s + {1e3 * line.slope:.2f} ms per run"
        by_runs.plot((0, RUN_COUNTS[-1]), line.at(np.array((0, RUN_COUNTS[-1]))), color=style.INK, linewidth=0.8)
        _draw(by_runs, RUN_COUNTS, seconds, [Point("compare", size=n) for n in RUN_COUNTS], 1.0, style.INK, label)
        by_runs.set(title="resnet compare", xlabel="runs", ylabel="seconds", ylim=(0, None))
        by_runs.set(xticks=(10, 100, 500, 1000), xlim=(0, None))

        for axes in (by_depth, by_threads, by_runs):
            axes.legend(loc="best")
        rounds = len(seconds[points[0]])
        style.caption(figure, f"Medians of {rounds} rounds; bars span the quartiles. {where()}.")
        figure.savefig(path, dpi=PNG_DPI)


def _draw(
    axes: Any, x: Sequence[int], seconds: Seconds, points: Sequence[Point], scale: float, color: str,
    label: str | None = None, **line: Any,
) -> None:  # fmt: skip
    """Draw medians with bars that span the quartiles."""
    values = scale * np.array([seconds[point] for point in points])  # (points, rounds)
    low, medians, high = np.quantile(values, (0.25, 0.5, 0.75), axis=1)
    bars = (medians - low, high - medians)
    axes.errorbar(
        x, medians, bars, color=color, label=label,
        **{"linestyle": "none", "linewidth": 0.8, "marker": "o", "markersize": 3.0, "capsize": 2.0, **line},
    )  # fmt: skip


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
