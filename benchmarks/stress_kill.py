"""Kill training with SIGKILL at random moments, resume it, and compare it with an uninterrupted run.

    python benchmarks/stress_kill.py --kills 100 [--seed 0] [--arch plain|resnet|both] [--epochs 36]

A network with eight layers is trained on 300 of the embedded digits, with three steps per epoch and a checkpoint after
every second step. After each kill, every file of the run directory must be readable or absent, the checkpoint must load
and be at least as new as the last save, and the next process must continue from it. Each run is finally completed and
compared with an uninterrupted one: weights, momentum, batch-normalisation statistics, gradient norms, predictions, and
metrics without the columns that depend on the clock or the process. Exits with code 1 at the first violation.

One kill in ten hits `python -m resnet_cli train` itself. The others hit the same command in processes that are forked
from one that has imported PyTorch but computed nothing, which saves four seconds each.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]
os.environ["OMP_NUM_THREADS"] = "1"

from killing import Subject, kill_often  # noqa: E402 (after the path to it)
from launching import CommandLine, Launcher  # noqa: E402

from resnet_cli.errors import ResnetError  # noqa: E402

COMMAND_LINE_SECONDS = 12.0  # starting takes about five of them
FORKED_SHARE = 0.7  # of the time of an uninterrupted run; starting takes a sixth of that time


def main() -> int:
    options = _arguments()
    architectures = ["plain", "resnet"] if options.arch == "both" else [options.arch]
    started, found = time.monotonic(), Counter()
    print(command_line())
    with tempfile.TemporaryDirectory() as name:
        forked, direct = Launcher(Path(name)), Launcher(Path(name), CommandLine)
        try:
            for position, arch in enumerate(architectures):
                subject = Subject(Path(name), arch, options.epochs)
                kills = (options.kills + position) // len(architectures)
                num_direct = -(-kills // 10)
                most_seconds = FORKED_SHARE * subject.train_straight(forked)
                series = [(forked, kills - num_direct, most_seconds), (direct, num_direct, COMMAND_LINE_SECONDS)]
                for launcher, count, seconds in series:
                    kill_often(subject, launcher, kills=count, most_seconds=seconds, seed=options.seed, found=found)
                    found["kills of `python -m resnet_cli train` itself"] += count if launcher is direct else 0
        except (AssertionError, ResnetError):
            traceback.print_exc()
            print(f"violated after {found['kills']} kills", file=sys.stderr)
            return 1
        finally:
            forked.close()
            direct.close()
    _print_table(found, time.monotonic() - started)
    return 0


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=0, help="seed for the moments of the kills")
    options.add_argument("--arch", choices=["plain", "resnet", "both"], default="both")
    options.add_argument("--epochs", type=int, default=36, help="length of each run")
    return options.parse_args()


def _print_table(found: Counter, seconds: float) -> None:
    print(f"{where()}\n")
    for name, count in found.items():
        print(f"{count:6}  {name}")
    print("     0  unreadable files, lost steps, missing or duplicated rows, different numbers")
    print(f"\n{seconds:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
