"""Whole epochs with evaluation: the textbook trainer against ours, interleaved.

    python benchmarks/cpu_epoch.py --depth 20 --pairs 3 [--arch resnet] [--images 50000] [--compile on|off]

Each side is a process of its own that waits while the other runs, so that neither's threads or allocator touch the
other's. The images are random bytes: speed does not depend on them. The first epoch of each side, which allocates and
compiles, is not counted; its time is printed apart.
"""

import argparse
import datetime
import multiprocessing
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection

import numpy as np


def data(num_images: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Random images with the shapes of CIFAR-10; a fifth as many for the test."""
    rng = np.random.default_rng(0)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count)

    return images(num_images), images(num_images // 5)


def textbook(pipe: Connection, args: argparse.Namespace) -> None:
    """Serve epochs of the textbook trainer."""
    from textbook import Textbook

    trainer = Textbook(args.arch, args.depth, *data(args.images), "cpu")
    serve(pipe, trainer.epoch)


def ours(pipe: Connection, args: argparse.Namespace) -> None:
    """Serve epochs of this project's engine."""
    from resnet_cli.data.dataset import Images, Source, prepare
    from resnet_cli.device import decide
    from resnet_cli.engine import Engine, EpochRecord
    from resnet_cli.recipes import make_config

    train, test = (Images(*part) for part in data(args.images))
    dataset = prepare(
        Source(name="cifar10", display_name="random", classes=tuple("0123456789"), train=train, test=test)
    )
    config = make_config(
        arch=args.arch, depth=args.depth, device="cpu", compile=args.compile, clean_train_every=0,
    )  # fmt: skip
    events = Engine(config, dataset, decide(config)).run()

    def epoch() -> float:
        return next(event.metrics.test_accuracy_pct for event in events if isinstance(event, EpochRecord))

    serve(pipe, epoch)


def serve(pipe: Connection, epoch: object) -> None:
    """Run an epoch and send its seconds whenever asked; at the end the peak memory in bytes."""
    while pipe.recv():
        started = time.perf_counter()
        epoch()
        pipe.send(time.perf_counter() - started)
    pipe.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # Linux counts KiB


def main() -> None:
    """Interleave the two sides and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--compile", default="on", choices=["on", "off"])
    args = parser.parse_args()

    print(f"python benchmarks/cpu_epoch.py {' '.join(sys.argv[1:])}")
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for side in (textbook, ours):
        pipes[side.__name__], far = context.Pipe()
        context.Process(target=side, args=(far, args)).start()

    def measure(side: str) -> float:
        pipes[side].send(True)
        return pipes[side].recv()

    first = {side: measure(side) for side in pipes}
    times: dict[str, list[float]] = {side: [] for side in pipes}
    for pair in range(args.pairs):
        for side in pipes:
            times[side].append(measure(side))
        print(f"pair {pair + 1}: " + "  ".join(f"{side} {times[side][-1]:.1f} s" for side in pipes), flush=True)
    for pipe in pipes.values():
        pipe.send(False)
    memory = pipes["ours"].recv()

    import torch

    from resnet_cli.device import _cpu_name

    ratios = [a / b for a, b in zip(times["textbook"], times["ours"], strict=True)]
    print(f"{args.arch}-{args.depth}, {args.images:,} training images an epoch, compile {args.compile}")
    for side in pipes:
        print(f"{side:9} median {statistics.median(times[side]):7.1f} s   first epoch {first[side]:7.1f} s")
    print(f"textbook ÷ ours: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"peak resident memory of ours {memory / 2**20:.0f} MiB, its images included")
    print(f"{datetime.date.today()}, {_cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")


if __name__ == "__main__":
    main()
