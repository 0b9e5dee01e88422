"""Time of whole epochs with evaluation on a CPU, textbook trainer and ours in turn.

    python benchmarks/cpu_epoch.py --depth 20 --pairs 3 [--arch resnet] [--images 50000] [--compile on|off]

Each trainer has its own process, which waits while the other one works, so that threads and allocators do not affect
each other. The images are random bytes, since speed does not depend on their content. The first epoch of each trainer,
which allocates and compiles, is reported separately.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from where import command_line, parser, where


def data(num_images: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Random training images and labels in the shape of CIFAR-10, and a fifth as many test images."""
    rng = np.random.default_rng(0)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count)

    return images(num_images), images(num_images // 5)


def textbook(pipe: Connection, args: argparse.Namespace) -> None:
    """Process of the textbook trainer."""
    from textbook import Textbook

    trainer = Textbook(args.arch, args.depth, *data(args.images), "cpu")
    serve(pipe, trainer.epoch)


def ours(pipe: Connection, args: argparse.Namespace) -> None:
    """Process of this project's engine."""
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


def serve(pipe: Connection, epoch: Callable[[], float]) -> None:
    """Run one epoch per request and send its seconds; after the last request, send the peak memory in bytes."""
    while pipe.recv():
        started = time.perf_counter()
        epoch()
        pipe.send(time.perf_counter() - started)
    pipe.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # Linux counts KiB


def main() -> None:
    """Let the two trainers take turns and print medians and ratios."""
    args = _arguments()
    print(command_line())
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for trainer in (textbook, ours):
        pipes[trainer.__name__], far = context.Pipe()
        context.Process(target=trainer, args=(far, args)).start()

    def measure(trainer: str) -> float:
        pipes[trainer].send(True)
        return pipes[trainer].recv()

    first = {trainer: measure(trainer) for trainer in pipes}
    times: dict[str, list[float]] = {trainer: [] for trainer in pipes}
    for pair in range(args.pairs):
        for trainer in pipes:
            times[trainer].append(measure(trainer))
        print(f"pair {pair + 1}: " + "  ".join(f"{name} {times[name][-1]:.1f} s" for name in pipes), flush=True)
    for pipe in pipes.values():
        pipe.send(False)
    memory = pipes["ours"].recv()

    ratios = [a / b for a, b in zip(times["textbook"], times["ours"], strict=True)]
    print(f"{args.arch}-{args.depth}, {args.images:,} training images per epoch, compile {args.compile}")
    for trainer in pipes:
        print(f"{trainer:9} median {statistics.median(times[trainer]):7.1f} s   first epoch {first[trainer]:7.1f} s")
    print(f"textbook ÷ ours: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"peak resident memory of ours, including its images: {memory / 2**20:.0f} MiB")
    print(f"\n{where()}")


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--arch", default="resnet", choices=["plain", "resnet"])
    options.add_argument("--depth", type=int, default=20, help="weighted layers, 6n+2")
    options.add_argument("--pairs", type=int, default=3, help="epochs of each trainer, after the first")
    options.add_argument("--images", type=int, default=50_000, help="training images per epoch")
    options.add_argument("--compile", default="on", choices=["on", "off"], help="use torch.compile for ours")
    return options.parse_args()


if __name__ == "__main__":
    main()
