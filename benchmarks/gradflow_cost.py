"""Cost of measuring gradient flow every epoch, as a share of the epoch.

    python benchmarks/gradflow_cost.py [--depth 56] [--repeats 5]

Gradient flow is measured once per epoch, on fixed batches, and its rows are appended to gradflow.csv and synced. The
measurement is timed in turn with as many training steps as it has batches, so that both meet the same noise.
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
from resnet_cli.probes.gradflow import NUM_BATCHES, measure_gradflow
from resnet_cli.recipes import make_config
from resnet_cli.rundir import GradflowRow, RunDir


def main() -> None:
    """Print the two costs and their share of an epoch."""
    options = parser(__doc__)
    options.add_argument("--arch", default="resnet", choices=["plain", "resnet"])
    options.add_argument("--depth", type=int, default=56, help="weighted layers, 6n+2")
    options.add_argument("--repeats", type=int, default=5, help="measurements of each part")
    args = options.parse_args()
    print(command_line())
    config = make_config(arch=args.arch, depth=args.depth, device="cpu", compile="off", lr=0.0, gradflow_every=1)
    engine = Engine(config, random_dataset(config), decide(config))
    steps = iter(event for event in engine.run() if isinstance(event, StepEvent))
    next(steps)
    pairs = [(seconds(lambda: measure(engine)), seconds(lambda: [next(steps) for _ in range(NUM_BATCHES)]))
             for _ in range(args.repeats)]  # fmt: skip
    measured = statistics.median(pair[0] for pair in pairs)
    step = statistics.median(pair[1] for pair in pairs) / NUM_BATCHES
    ratio = statistics.median(flow / (training / NUM_BATCHES) for flow, training in pairs)
    rows = measure(engine)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        write = statistics.median(seconds(lambda: run.append_gradflow(rows)) for _ in range(args.repeats))
    share = ratio / engine.steps_per_epoch + write / (step * engine.steps_per_epoch)
    print(f"{config.network}: {1e3 * step:.0f} ms per step, {engine.steps_per_epoch} steps per epoch")
    print(
        f"gradient flow on {NUM_BATCHES} batches {1e3 * measured:.0f} ms, {ratio:.2f} times a step (median of "
        f"{args.repeats} pairs); {len(rows)} rows {1e3 * write:.1f} ms"
    )
    print(f"share of the training steps of an epoch: {share:.2%} (goal: at most 2 %)")
    print(f"\n{where()}")


def measure(engine: Engine) -> list[GradflowRow]:
    """Measure gradient flow as the engine does after an epoch."""
    return measure_gradflow(engine.model, engine.train_images, engine.normalizer, lr=engine.config.lr)


def seconds(function: Callable[[], object]) -> float:
    """Time of a call of `function`."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
