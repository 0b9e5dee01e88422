"""Time of the same grid with one run at a time on all cores, and with one run per core.

    python benchmarks/parallel_jobs.py [--pairs 3] [--epochs 4] [--recipe demo]

Trains Plain-20, ResNet-20, Plain-56 and ResNet-56, eager, in a new folder each time; the two ways alternate (A B A B).
The times include the start of every process.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from resnet_cli.launch import num_cores  # noqa: E402 (after the path to it)
from resnet_cli.recipes import make_config  # noqa: E402
from resnet_cli.study import plan, run_study  # noqa: E402
from resnet_cli.util.spinning import bound_spinning  # noqa: E402


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--recipe", default="demo")
    args = options.parse_args()
    print(command_line())
    bound_spinning()  # as the command does
    ways = {"one at a time": 1, f"{num_cores()} at a time": num_cores()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.pairs):
        for name, num_jobs in ways.items():
            seconds[name].append(train(args.recipe, args.epochs, num_jobs))
    for name, values in seconds.items():
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(f"{name:>14}: median {statistics.median(values):6.1f} s ({shown})")
    first, second = seconds.values()
    ratios = [one / other for one, other in zip(first, second, strict=True)]
    print(f"ratio of each pair: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; {where()}")


def train(recipe: str, epochs: int, num_jobs: int) -> float:
    """Train the grid; return the seconds that it took."""
    configs = [
        make_config(recipe, arch=arch, depth=depth, epochs=epochs, milestones=(), device="cpu", compile="off")
        for depth in (20, 56)
        for arch in ("plain", "resnet")
    ]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        endings = run_study(plan(configs, Path(folder)), num_jobs=num_jobs)
        assert all(ending.state == "done" for ending in endings), endings
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
