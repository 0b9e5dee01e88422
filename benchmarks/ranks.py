"""One run by one process and by two that torchrun starts: agreement, speed, and a stop in the middle.

    python benchmarks/ranks.py [--depth 20] [--epochs 4] [--pairs 3]

Trains on the embedded digits with one thread a process. Prints how far two processes, with and without --sync-bn, are
from one after each epoch; the seconds of an epoch (the first one, which includes the start, is left out); and whether
a run of two processes that SIGTERM stopped and the same command resumed ends bit-identical to an uninterrupted one.
"""

import hashlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 (after the path to the package)

from resnet_cli.rundir import RunDir  # noqa: E402

HOW = {
    "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
}  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--pairs", type=int, default=3)
    args = options.parse_args()
    print(command_line())
    recipe = [
        "train", "--recipe", "demo", "--arch", "resnet", "--depth", args.depth, "--epochs", args.epochs,
        "--milestones", "none", "--clean-train-every", 1, "--gradflow-every", 0, "--device", "cpu", "--quiet",
    ]  # fmt: skip
    ways = {"one process": (1, []), "two, --sync-bn": (2, ["--sync-bn"]), "two": (2, [])}
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for pair in range(args.pairs):
            for name, (size, more) in ways.items():
                run = RunDir(Path(folder) / f"{name}-{pair}")
                subprocess.run(command(size, [*recipe, *more, "--out", run.path]), **HOW, check=True)
                seconds[name].append(run.read_metrics()["train_seconds"].iloc[1:].median())
        alone, *others = (RunDir(Path(folder) / f"{name}-0") for name in ways)
        for name, run in zip(list(ways)[1:], others, strict=True):
            ours, theirs = (one.read_metrics()["train_loss"].to_numpy() for one in (run, alone))
            shown = ", ".join(f"{value:.1e}" for value in np.abs(ours / theirs - 1))
            print(f"{name:>14}: training loss differs from one process by a factor of 1 ± {shown} (epochs 1, 2, …)")
        for name, values in seconds.items():
            shown = ", ".join(f"{value:.2f}" for value in values)
            print(f"{name:>14}: {statistics.median(values):.2f} s an epoch ({shown})")
        print(f"stopped and resumed: {stop_and_resume(Path(folder) / 'stopped', recipe, others[1])}")
    print(where())


def command(size: int, args: list[object]) -> list[str]:
    """The command that trains with `size` processes."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", size] if size > 1 else []
    return [sys.executable, *map(str, [*start, "-m", "resnet_cli", *args])]


def stop_and_resume(path: Path, recipe: list[object], straight: RunDir) -> str:
    """Stop a run of two processes after its first epoch, resume it and compare it with `straight`."""
    run, args = RunDir(path), command(2, [*recipe, "--out", path])
    process = subprocess.Popen(args, **HOW)
    while not run.metrics_path.exists() or run.metrics_path.read_bytes().count(b"\n") < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on
    process.wait()
    assert run.status() == "incomplete", run.status()
    subprocess.run(args, **HOW, check=True)
    steps = ", ".join(str(attempt.step) for attempt in run.read_attempts())
    files = [one.last_weights_path.read_bytes() + one.predictions_path.read_bytes() for one in (run, straight)]
    is_same = len({hashlib.sha256(data).hexdigest() for data in files}) == 1
    return f"weights and predictions {'bit-identical' if is_same else 'DIFFERENT'} (attempts from steps {steps})"


if __name__ == "__main__":
    main()
