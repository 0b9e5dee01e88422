"""Training speed against the time that waiting threads spin, alone, beside a busy process and in pairs.

    python benchmarks/spin_count.py [--rounds 3] [--seconds 4] [--depth 20]

PyTorch's threads wait for each other in libgomp, which spins before it sleeps: about 300,000 times by default, or as
often as GOMP_SPINCOUNT says. A thread that spins takes the core from the thread that it waits for, if another process
uses the cores too. For every spin count, two processes train the same network on random images in the shape of
CIFAR-10, each with as many threads as there are cores. After their warm-up (and compilation) they are timed in turn:
the first one alone; the first one beside a process that only counts; both at once. Every round measures all counts;
the script prints medians in images per second.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import IO, Any, cast

from where import command_line, parser, where

COUNTS = ("default", "0", "300", "1000", "3000", "10000")
SITUATIONS = ("alone", "beside a busy process", "pair, first", "pair, second")


def worker(depth: int, compile_mode: str) -> None:
    """Train; for every number of seconds on stdin, print the images per second reached in that time."""
    from resnet_cli.bench import random_dataset
    from resnet_cli.device import decide
    from resnet_cli.engine import Engine, StepEvent
    from resnet_cli.recipes import make_config

    config = make_config(arch="plain", depth=depth, lr=0.0, device="cpu", compile=compile_mode)
    events = Engine(config, random_dataset(config), decide(config)).run()
    steps = (event for event in events if isinstance(event, StepEvent) and event.phase == "train")
    for _ in range(4):
        next(steps)
    print("ready", flush=True)
    for line in sys.stdin:
        count, started, seconds = 0, time.perf_counter(), float(line)
        while (elapsed := time.perf_counter() - started) < seconds:
            next(steps)
            count += 1
        print(json.dumps(count * config.batch_size / elapsed), flush=True)


def start(count: str, depth: int, compile_mode: str) -> "subprocess.Popen[str]":
    """Start a worker and wait for the end of its warm-up."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    spin = {} if count == "default" else {"GOMP_SPINCOUNT": count}
    command = [sys.executable, __file__, "--depth", str(depth), "--worker", compile_mode]
    process = subprocess.Popen(command, env={**kept, **spin}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert cast(IO[str], process.stdout).readline() == "ready\n"
    return process


def rates(processes: "list[subprocess.Popen[str]]", seconds: float) -> list[float]:
    """Images per second of workers that run at the same time."""
    for process in processes:
        stdin = cast(IO[str], process.stdin)
        stdin.write(f"{seconds}\n")
        stdin.flush()
    return [json.loads(cast(IO[str], process.stdout).readline()) for process in processes]


def count_up() -> None:
    """Keep one core busy."""
    while True:
        pass


def measure(count: str, depth: int, compile_mode: str, seconds: float) -> dict[str, float]:
    """Images per second in each situation."""
    first, second = (start(count, depth, compile_mode) for _ in range(2))
    try:
        (alone,) = rates([first], seconds)
        busy = multiprocessing.Process(target=count_up, daemon=True)
        busy.start()
        (beside,) = rates([first], seconds)
        busy.terminate()
        busy.join()
        return dict(zip(SITUATIONS, (alone, beside, *rates([first, second], seconds)), strict=True))
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4.0)
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--worker", help="internal")
    args = options.parse_args()
    if args.worker:
        worker(args.depth, args.worker)
        return
    print(command_line())
    results: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for _ in range(args.rounds):
        for mode in ("off", "on"):
            for count in COUNTS:
                for situation, rate in measure(count, args.depth, mode, args.seconds).items():
                    results[mode, count, situation].append(rate)
    for mode, name in (("off", "eager"), ("on", "compiled")):
        print(f"\nplain-{args.depth}, {name}: images/s, median of {args.rounds} rounds (lowest to highest)\n")
        print(f"{'spin count':>10}" + "".join(f"{situation:>26}" for situation in SITUATIONS))
        for count in COUNTS:
            cells: list[Any] = [results[mode, count, situation] for situation in SITUATIONS]
            shown = (f"{statistics.median(cell):.0f} ({min(cell):.0f} to {max(cell):.0f})" for cell in cells)
            print(f"{count:>10}" + "".join(f"{text:>26}" for text in shown))
    print(f"\n{where()}")


if __name__ == "__main__":
    main()
