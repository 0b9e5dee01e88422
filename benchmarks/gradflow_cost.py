"""Cost of recording gradient flow every epoch, as a share of the epoch.

    python benchmarks/gradflow_cost.py [--depth 56] [--repeats 20]

Norms are measured once per epoch, on the gradients of its last step, and their rows are appended to gradflow.csv and
synced. Both are timed on their own, because they are shorter than the noise of an epoch's time.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from where import command_line, parser, where

from resnet_cli.bench import random_dataset
from resnet_cli.device import decide
from resnet_cli.engine import Engine, StepEvent
from resnet_cli.probes.gradflow import gradflow_rows, step_norms
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir


def main() -> None:
    """Print the two costs and their share of an epoch."""
    options = parser(__doc__)
    options.add_argument("--arch", default="resnet", choices=["plain", "resnet"])
    options.add_argument("--depth", type=int, default=56, help="weighted layers, 6n+2")
    options.add_argument("--repeats", type=int, default=20, help="measurements of each part")
    args = options.parse_args()
    print(command_line())
    config = make_config(arch=args.arch, depth=args.depth, device="cpu", compile="off", lr=0.0, gradflow_every=1)
    engine = Engine(config, random_dataset(config), decide(config))
    steps = iter(event for event in engine.run() if isinstance(event, StepEvent))
    next(steps)
    step = median_seconds(lambda: next(steps), 8)
    measure = median_seconds(lambda: step_norms(engine.model, engine.optimizer, config.lr), args.repeats)
    rows = gradflow_rows(engine.model, step_norms(engine.model, engine.optimizer, config.lr), epoch=1)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        write = median_seconds(lambda: run.append_gradflow(rows), args.repeats)
    epoch = step * engine.steps_per_epoch
    print(f"{config.network}: {1e3 * step:.0f} ms per step, {epoch:.0f} s for the steps of an epoch")
    print(f"norms of {len(rows)} layers {1e3 * measure:.1f} ms, rows {1e3 * write:.1f} ms, once per epoch")
    print(f"share of an epoch: {(measure + write) / epoch:.4%} (goal: at most 2 %)")
    print(f"\n{where()}")


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of `repeats` calls of `function`."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
