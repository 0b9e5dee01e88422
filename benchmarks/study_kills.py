"""Kill a study at random moments, continue it, and compare its runs with those of an undisturbed study.

    python benchmarks/study_kills.py --kills 20 [--seed 0] [--jobs 2]

The study trains twelve networks of 8 and 14 layers on 300 of the embedded digits, with a checkpoint after every second
step. Each kill hits, at random, the process of the study or that of one of its runs. When the study is killed, its
runs must end by themselves within 30 seconds, and the same command continues; when a run is killed, the study must
restart it. At the end, every run must be bit-identical to the undisturbed one: weights, momentum, batch-normalisation
statistics, gradient norms, predictions, and metrics without the columns that depend on the clock. Exits with code 1
otherwise.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]

import sameness  # noqa: E402 (after the path to it)

from resnet_cli.rundir import RunDir  # noqa: E402

OPTIONS = (
    "--depths", "8,14", "--seeds", "0-2", "--epochs", "20", "--augment", "crop", "--limit-train", "300", "--limit-test",
    "60", "--clean-train-every", "1", "--gradflow-every", "1", "--save-every", "2steps", "--device", "cpu", "--quiet",
)  # fmt: skip
SECONDS_TO_END = 30


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0, help="seed for moments and victims")
    options.add_argument("--jobs", type=int, default=2)
    args = options.parse_args()
    print(command_line())
    rng, found = random.Random(args.seed), Counter()  # noqa: S311 (moments, not secrets)
    with tempfile.TemporaryDirectory() as name:
        straight, disturbed = Path(name, "straight"), Path(name, "disturbed")
        started = time.monotonic()
        assert start(straight, args.jobs).wait() == 0
        seconds = time.monotonic() - started
        while found["kills"] < args.kills:
            kill_some(disturbed, args, rng, found, most_seconds=0.7 * seconds)
        code = start(disturbed, args.jobs).wait()
        differing = compare(straight, disturbed)
    for text, count in found.items():
        print(f"{count:6}  {text}")
    print(
        f"{len(differing):6}  of 12 runs that are not complete or not bit-identical: {', '.join(differing) or 'none'}"
    )
    print(f"\n{seconds:.0f} s undisturbed, exit code {code} at the end; {where()}")
    return int(bool(differing) or code != 0)


def start(folder: Path, jobs: int) -> "subprocess.Popen[bytes]":
    """Start or continue the study in `folder`."""
    command = [sys.executable, "-m", "resnet_cli", "reproduce", "--out", str(folder), "--jobs", str(jobs), *OPTIONS]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def kill_some(folder: Path, args, rng: random.Random, found: Counter, *, most_seconds: float) -> None:
    """Start the study and kill one process after another, until the study itself was hit or ends."""
    study = start(folder, args.jobs)
    while study.poll() is None and found["kills"] < args.kills:
        time.sleep(rng.uniform(0.5, most_seconds / 3))
        children = children_of(study.pid)
        if study.poll() is not None:
            break
        victim = rng.choice([study.pid, *children])
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:  # it has just ended
            continue
        found["kills"] += 1
        found["of the study" if victim == study.pid else "of a run"] += 1
        if victim == study.pid:
            study.wait()
            wait_for_end(children)
    if study.poll() is None:  # the last kill hit a run
        found["studies that restarted a killed run and ended with exit code 0"] += study.wait() == 0


def children_of(pid: int) -> list[int]:
    """Processes of the runs that a study trains at the moment."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(processes: list[int]) -> None:
    """Wait until the processes of a killed study have ended by themselves."""
    deadline = time.monotonic() + SECONDS_TO_END
    while left := [pid for pid in processes if is_alive(pid)]:
        assert time.monotonic() < deadline, f"orphans {left} still run after {SECONDS_TO_END} s"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def compare(straight: Path, disturbed: Path) -> list[str]:
    """The runs of two studies that differ or are not complete."""
    differing = []
    for path in sorted((straight / "runs").iterdir()):
        one, other = RunDir(path), RunDir(disturbed / "runs" / path.name)
        is_same = other.status() == "complete" and sameness.parts(one) == sameness.parts(other)
        if not is_same or sameness.leftovers(other):
            differing.append(path.name)
    return differing


if __name__ == "__main__":
    raise SystemExit(main())
