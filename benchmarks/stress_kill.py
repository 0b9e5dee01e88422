"""Kill training at random moments, again and again: all files stay readable, and resumed runs end bit-identically.

    python benchmarks/stress_kill.py --kills 100 [--seed 0] [--arch plain|resnet|both] [--epochs 36]

A network of eight layers is trained on 300 of the embedded digits, three steps per epoch, and saved after every second
step. After each kill every file of the run directory must be readable or absent, the checkpoint must load and must
not be older than the last save, and the next process must begin where it stands. Each run is then finished and
compared with one that was never interrupted: weights, momentum, statistics of batch normalisation, metrics without
the clock, gradient norms and predictions. Exits 1 at the first violation.

One kill in ten hits `python -m resnet_cli train` itself. The others hit the same command in processes that are forked
from one that has imported PyTorch, which saves four seconds each.
"""

import argparse
import datetime
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]
os.environ["OMP_NUM_THREADS"] = "1"

from killing import Subject, kill_often  # noqa: E402 (after the path to it)
from launching import CommandLine, Launcher  # noqa: E402

from resnet_cli.device import decide, describe_environment  # noqa: E402
from resnet_cli.errors import ResnetError  # noqa: E402

COMMAND_LINE_SECONDS = 12.0  # of which starting takes about five
FORKED_SHARE = 0.7  # of the time of a straight run, of which starting takes a sixth


def main() -> int:
    options = _options()
    architectures = ["plain", "resnet"] if options.arch == "both" else [options.arch]
    started, found = time.monotonic(), Counter()
    print(f"python benchmarks/stress_kill.py {' '.join(sys.argv[1:])}")
    with tempfile.TemporaryDirectory() as name:
        forked, command_line = Launcher(Path(name)), Launcher(Path(name), CommandLine)
        try:
            for position, arch in enumerate(architectures):
                subject = Subject(Path(name), arch, options.epochs)
                kills = (options.kills + position) // len(architectures)
                by_command = -(-kills // 10)
                most_seconds = FORKED_SHARE * subject.train_straight(forked)
                plan = [(forked, kills - by_command, most_seconds), (command_line, by_command, COMMAND_LINE_SECONDS)]
                for launcher, count, seconds in plan:
                    kill_often(subject, launcher, kills=count, most_seconds=seconds, seed=options.seed, found=found)
                    found["… of them of `python -m resnet_cli train`"] += count if launcher is command_line else 0
        except (AssertionError, ResnetError):
            traceback.print_exc()
            print(f"violated after {found['kills']} kills", file=sys.stderr)
            return 1
        finally:
            forked.close()
            command_line.close()
    _print_table(found, subject, time.monotonic() - started)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the moments")
    parser.add_argument("--arch", choices=["plain", "resnet", "both"], default="both")
    parser.add_argument("--epochs", type=int, default=36)
    return parser.parse_args()


def _print_table(found: Counter, subject: Subject, seconds: float) -> None:
    environment = describe_environment(decide(subject.config))
    versions = ", ".join(f"{name} {environment[name]}" for name in ("python", "torch"))
    print(f"{datetime.date.today()}, {environment['cpu']}, one thread, {versions}, {environment['platform']}\n")
    for name, count in found.items():
        print(f"{count:6}  {name}")
    print(
        "     0  files that could not be read, saved steps that were lost, rows missing or twice, numbers that differ"
    )
    print(f"\n{seconds:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
