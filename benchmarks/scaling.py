"""How cost grows: a training image with depth, batch size and threads, and `resnet compare` with the number of runs.

    python benchmarks/scaling.py [--rounds 9] [--plot scaling.png]

Steps are those of the package's own engine, eager, on random images in the shape of CIFAR-10; each visit to a point
takes one step that is not timed and then steps for at least 0.4 s. Every round visits all points, one after another,
and the figures are medians over the rounds, with the lowest and the highest. Each number of threads has a process of
its own; `resnet compare` is timed as a whole fresh process, after one that is not timed, on generated runs.

Every 3×3 layer but the two that halve the image has the same number of multiply-accumulates, whatever its stage, so
cost should be linear in depth. The line is fitted by least squares to the median times, weighted by one over the time:
the relative differences are made small, which are printed. The part that does not depend on depth may be negative: by
multiply-accumulates the first and the last layer and the two that halve the image cost 2.8 layers less than four
others would.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from processes import RESNET, ROOT, run

sys.path.insert(0, str(ROOT))

from generated_runs import generate
from where import command_line, where

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
BATCH_SIZES = (16, 32, 64, 128, 256, 512)
RUN_COUNTS = (10, 100, 1000)
BATCH_SIZE, DEPTH = 128, 20  # where they do not vary
NUM_WARMUP_STEPS = 2
VISIT_SECONDS = 0.4
PNG_DPI = 200  # of a screen; for paper there are .svg and .pdf


class Point(NamedTuple):
    """What is measured at one place of one table."""

    what: str
    """`step`, `threads` or `compare`."""
    arch: str = ""
    depth: int = 0
    size: int = 0
    """Images of a batch, threads, or runs."""


Visit = Callable[[], float]


def main() -> None:
    options = _options()
    print(f"{command_line()}\n", flush=True)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        visits = {**_compare_visits(Path(name)), **_thread_visits(stack), **_step_visits()}
        seconds: dict[Point, list[float]] = {point: [] for point in visits}
        for _ in range(options.rounds):
            for point, visit in visits.items():
                seconds[point].append(visit())
    _print_depth(seconds)
    _print_batch_size(seconds)
    _print_threads(seconds)
    _print_compare(seconds)
    if options.plot:
        _plot(seconds, options.plot)
    print(f"medians of {options.rounds} rounds\n{where()}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the tables, as .png, .svg or .pdf")
    return parser.parse_args()


# ------------------------------------------------------------------ measuring


def _step_visits() -> dict[Point, Visit]:
    """Seconds a training image of every depth and of every batch size."""
    points = [Point("step", arch, depth, BATCH_SIZE) for depth in DEPTHS for arch in ("plain", "resnet")]
    points += [Point("step", "resnet", DEPTH, size) for size in BATCH_SIZES if size != BATCH_SIZE]
    dataset = _dataset()
    return {point: _visit(_steps(dataset, point.arch, point.depth, point.size)) for point in points}


def _thread_visits(stack: contextlib.ExitStack) -> dict[Point, Visit]:
    """Seconds a training image of ResNet-20 with every number of threads, up to one a core."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = sorted({2**power for power in range(num_cores.bit_length())} | {num_cores})
    return {Point("threads", "resnet", DEPTH, count): _server(count, stack) for count in counts}


def _compare_visits(folder: Path) -> dict[Point, Visit]:
    """Seconds of `resnet compare` of every number of runs."""
    visits = {}
    for count in RUN_COUNTS:
        runs = folder / str(count)
        generate(runs, count)
        command = (*RESNET, "compare", str(runs))
        # the first brings the package and the runs back into the caches
        visits[Point("compare", size=count)] = lambda command=command: [run(*command) for _ in range(2)][-1].seconds
    return visits


def _dataset() -> Any:
    from resnet_cli.bench import random_dataset

    return random_dataset(_config("resnet", DEPTH, BATCH_SIZE))


def _config(arch: str, depth: int, batch_size: int) -> Any:
    from resnet_cli.recipes import make_config

    # with lr 0 noise cannot diverge, and the arithmetic is the same
    return make_config(
        arch=arch, depth=depth, batch_size=batch_size, epochs=1, milestones=(), lr=0.0, clean_train_every=0,
        device="cpu", precision="fp32", compile="off",
    )  # fmt: skip


def _steps(dataset: Any, arch: str, depth: int, batch_size: int) -> Iterator[float]:
    """Seconds an image of one training step after another, warmed up; an epoch of them."""
    from resnet_cli.bench import timed
    from resnet_cli.device import decide
    from resnet_cli.engine import Engine

    config = _config(arch, depth, batch_size)
    pieces = timed(Engine(config, dataset, decide(config)).run(), synchronize=lambda: None)
    for _ in range(NUM_WARMUP_STEPS):
        next(pieces)
    for piece in pieces:
        assert piece.phase == "train", "too many rounds for the steps of an epoch"
        yield piece.seconds / piece.num_images


def _visit(steps: Iterator[float]) -> Visit:
    """Median of the steps of a visit."""

    def visit() -> float:
        next(steps)  # what another network left in the caches is gone after it
        started, taken = time.perf_counter(), []
        while not taken or time.perf_counter() - started < VISIT_SECONDS:
            taken.append(next(steps))
        return statistics.median(taken)

    return visit


def _server(num_threads: int, stack: contextlib.ExitStack) -> Visit:
    """Visits to a process that computes with `num_threads`; it ends with `stack`."""
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

    def visit() -> float:
        pipe.send(True)
        return pipe.recv()

    return visit


def _serve(pipe: Connection) -> None:
    import torch

    visit = _visit(_steps(_dataset(), "resnet", DEPTH, BATCH_SIZE))
    pipe.send(torch.get_num_threads())
    while pipe.recv():
        pipe.send(visit())


# ------------------------------------------------------------------- tables


class Line(NamedTuple):
    """fixed + slope · x."""

    fixed: float
    slope: float

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> "Line":
        """The least-squares line of relative differences."""
        slope, fixed = np.polyfit(x, y, 1, w=1 / np.asarray(y))
        return cls(float(fixed), float(slope))

    def at(self, x: Any) -> Any:
        """Its value at `x`, a number or an array."""
        return self.fixed + self.slope * x


Seconds = Mapping[Point, Sequence[float]]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _depth_line(seconds: Seconds, arch: str) -> Line:
    """Milliseconds an image against depth."""
    return Line.through(DEPTHS, [1e3 * _median(seconds[Point("step", arch, d, BATCH_SIZE)]) for d in DEPTHS])


def _compare_line(seconds: Seconds) -> Line:
    """Seconds against number of runs."""
    return Line.through(RUN_COUNTS, [_median(seconds[Point("compare", size=n)]) for n in RUN_COUNTS])


def _print_depth(seconds: Seconds) -> None:
    from resnet_cli.model import count_macs

    print(f"ms per training image against depth (batch {BATCH_SIZE}, eager)")
    print("depth     arch    median   lowest  highest     line  difference  GFLOP/s")
    for arch in ("plain", "resnet"):
        line, worst = _depth_line(seconds, arch), 0.0
        for depth in DEPTHS:
            values = [1e3 * one for one in seconds[Point("step", arch, depth, BATCH_SIZE)]]
            median, expected = _median(values), line.at(depth)
            difference = 100 * (median / expected - 1)
            worst = max(worst, abs(difference))
            # forward and backward are three forward passes, a multiply-accumulate is two operations
            gflops = 6 * count_macs(depth, "none" if arch == "plain" else "A") / median / 1e6
            print(
                f"{depth:5}  {arch:>7}  {median:8.3f} {min(values):8.3f} {max(values):8.3f} {expected:8.3f} "
                f"{difference:+10.1f}%  {gflops:7.0f}"
            )
        print(
            f"{arch}: {line.slope:.4f} ms a layer and {line.fixed:+.4f} ms whatever the depth; "
            f"no depth differs by more than {worst:.1f} %"
        )
    ratios = [
        _median(seconds[Point("step", "resnet", d, BATCH_SIZE)])
        / _median(seconds[Point("step", "plain", d, BATCH_SIZE)])
        for d in DEPTHS
    ]
    print(
        f"resnet ÷ plain: median {_median(ratios):.3f} over depths, from {min(ratios):.3f} to {max(ratios):.3f}\n",
    )


def _print_batch_size(seconds: Seconds) -> None:
    print(f"ms per training image against batch size (resnet-{DEPTH}, eager)")
    print("images    median   lowest  highest   ms a step")
    for size in BATCH_SIZES:
        values = [1e3 * one for one in seconds[Point("step", "resnet", DEPTH, size)]]
        print(f"{size:6}  {_row(values)}  {size * _median(values):10.1f}")
    print()


def _print_threads(seconds: Seconds) -> None:
    print(f"ms per training image against threads (resnet-{DEPTH}, batch {BATCH_SIZE}, eager, a process each)")
    print("threads    median   lowest  highest  times as fast as one")
    points = [point for point in seconds if point.what == "threads"]
    for point in points:
        values = [1e3 * one for one in seconds[point]]
        gain = _median(seconds[points[0]]) / _median(seconds[point])
        print(f"{point.size:7}  {_row(values)}  {gain:20.2f}")
    print()


def _print_compare(seconds: Seconds) -> None:
    print("seconds of resnet compare against number of runs")
    line = _compare_line(seconds)
    print("  runs    median   lowest  highest     line  difference")
    for count in RUN_COUNTS:
        values = seconds[Point("compare", size=count)]
        expected = line.at(count)
        print(f"{count:6}  {_row(values)} {expected:8.3f} {100 * (_median(values) / expected - 1):+10.1f}%")
    print(f"{1e3 * line.slope:.2f} ms a run and {line.fixed:.2f} s whatever their number\n")


def _row(values: Sequence[float]) -> str:
    return f"{_median(values):8.3f} {min(values):8.3f} {max(values):8.3f}"


# --------------------------------------------------------------------- plot


def _plot(seconds: Seconds, path: Path) -> None:
    from matplotlib.ticker import NullLocator

    from resnet_cli.analysis.figures import style

    colors = {arch: style.network_style(f"{arch}-56").color for arch in ("plain", "resnet")}
    with style.house_style():
        figure = style.new_figure(style.DOUBLE_COLUMN_INCHES, 4.4)
        by_depth, by_batch, by_threads, by_runs = style.panels(figure, 2, 2)
        for arch, color in colors.items():
            line = _depth_line(seconds, arch)
            by_depth.plot((0, DEPTHS[-1]), line.at(np.array((0, DEPTHS[-1]))), color=color, linewidth=0.8)
            points = [Point("step", arch, depth, BATCH_SIZE) for depth in DEPTHS]
            _draw(by_depth, DEPTHS, seconds, points, 1e3, color, f"{arch}: {line.slope:.3f} ms a layer")
        by_depth.set(title=f"depth (batch {BATCH_SIZE})", xlabel="weighted layers", ylabel="ms per training image")
        by_depth.set(xlim=(0, None), ylim=(0, None), xticks=[depth for depth in DEPTHS if depth != 14])

        points = [Point("step", "resnet", DEPTH, size) for size in BATCH_SIZES]
        _draw(by_batch, BATCH_SIZES, seconds, points, 1e3, colors["resnet"], linestyle="solid")
        by_batch.set_xscale("log", base=2)
        by_batch.set(title=f"batch size (resnet-{DEPTH})", xlabel="images in a batch", ylabel="ms per training image")
        by_batch.set(ylim=(0, None), xticks=BATCH_SIZES, xticklabels=BATCH_SIZES)
        by_batch.xaxis.set_minor_locator(NullLocator())

        points = [point for point in seconds if point.what == "threads"]
        counts = [point.size for point in points]
        ideal = [1e3 * _median(seconds[points[0]]) / count for count in counts]
        by_threads.plot(
            counts, ideal, color=style.RULE, linestyle=(0, (3.2, 1.4)), linewidth=0.8, label="one ÷ threads"
        )
        _draw(by_threads, counts, seconds, points, 1e3, colors["resnet"], "measured", linestyle="solid")
        by_threads.set(title=f"threads (resnet-{DEPTH}, batch {BATCH_SIZE})", xlabel="threads")
        by_threads.set(ylabel="ms per training image", ylim=(0, None), xticks=counts)

        line = _compare_line(seconds)
        label = f"{line.fixed:.2f} s + {1e3 * line.slope:.2f} ms a run"
        by_runs.plot((0, RUN_COUNTS[-1]), line.at(np.array((0, RUN_COUNTS[-1]))), color=style.INK, linewidth=0.8)
        _draw(by_runs, RUN_COUNTS, seconds, [Point("compare", size=n) for n in RUN_COUNTS], 1.0, style.INK, label)
        by_runs.set(title="resnet compare", xlabel="runs", ylabel="seconds", ylim=(0, None))
        by_runs.set(xticks=(10, 100, 500, 1000), xlim=(0, None))

        for axes in (by_depth, by_threads, by_runs):
            axes.legend(loc="best")
        rounds = len(seconds[points[0]])
        style.caption(figure, f"Medians of {rounds} rounds, bars over the middle half of them. {where()}.")
        figure.savefig(path, dpi=PNG_DPI)


def _draw(
    axes: Any, x: Sequence[int], seconds: Seconds, points: Sequence[Point], scale: float, color: str,
    label: str | None = None, **line: Any,
) -> None:  # fmt: skip
    """Medians with bars over the middle half."""
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
