"""Agreement with the textbook trainer: losses step by step, and accuracy over seeds.

    python benchmarks/agreement.py curves [--steps 40]
    python benchmarks/agreement.py accuracy --data-dir DIR [--seeds 3] [--first-seed 0] [--epochs 6]
    python benchmarks/agreement.py pooled FILE FILE

`curves` takes the same steps of ResNet-20 and Plain-20, from the same weights and on the same batches, in several
variants. The reference is eager, in the default memory layout and without fusion. The script prints the largest
relative difference of the training loss from the reference: in the first step, in the first ten and in all steps. The
last variant is the reference on one thread, where only the order of summation differs. Training amplifies such rounding
differences, at the report's learning rate without bound, so no variant can be expected to differ less than this one.

`accuracy` trains ResNet-8 on 10,000 of the images in DIR (a folder as for `--dataset imagefolder`) with the textbook
trainer and with ours, eager and compiled. For each seed, all three start from the same weights. It prints test
accuracies, their mean ± standard deviation over seeds, the 95 % interval of the difference (Welch), and the p-value of
two one-sided tests against a difference of 1 percentage point or more: below 0.05, accuracies are equal within 1 point.
The planned test of equality, whose output is in benchmarks/results/agreement_accuracy_300.txt:

    python benchmarks/agreement.py accuracy --data-dir DIR --seeds 26 --first-seed 300 --epochs 5

`pooled` computes the same statistics from the output of several `accuracy` runs, separately and combined.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from textbook import Textbook, network
from where import command_line, parser, where

from resnet_cli.config import RunConfig
from resnet_cli.data import Dataset, Images, Source, open_data, prepare
from resnet_cli.data.batches import Normalizer, crop_and_flip, draw_epoch
from resnet_cli.device import decide
from resnet_cli.engine import Engine, EpochRecord, StepEvent
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config

BATCH_SIZE = 128
MARGIN_PP = 1.0
"""Largest difference of test accuracy that counts as none, about one standard deviation over seeds."""
TRAINERS = ("textbook", "ours, eager", "ours, compiled")


def main() -> None:
    """Run the comparison that the first argument names."""
    args = _arguments()
    print(f"{command_line()}\n")
    if args.comparison == "curves":
        _curves(args.steps)
    elif args.comparison == "accuracy":
        _accuracy(args)
    else:
        _pooled(args.files)
    print(f"\n{where()}")


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("comparison", choices=["curves", "accuracy", "pooled"])
    options.add_argument("files", nargs="*", type=Path, help="output of `accuracy`, for `pooled`")
    options.add_argument("--steps", type=int, default=40, help="number of steps (curves)")
    options.add_argument("--seeds", type=int, default=3, help="number of seeds (accuracy)")
    options.add_argument("--first-seed", type=int, default=0, help="first of the seeds (accuracy)")
    options.add_argument("--epochs", type=int, default=6, help="length of each training (accuracy)")
    options.add_argument("--data-dir", type=Path, help="folder of the images (accuracy)")
    return options.parse_args()


def _curves(num_steps: int) -> None:
    print("largest relative difference of the loss")
    print(f"{'':44}{'first step':>12}{'first 10':>12}{f'all {num_steps}':>12}")
    dataset = _random_dataset(num_steps)
    for lr in (0.001, 0.1):
        for arch in ("plain", "resnet"):
            fields = {"arch": arch, "depth": 20, "device": "cpu", "epochs": 1, "lr": lr, "milestones": ()}
            configs = {
                "eager": make_config(**fields, compile="off"),
                "compiled": make_config(**fields, compile="on"),
                "bf16": make_config(**fields, compile="off", precision="bf16"),
            }
            reference = _reference_losses(configs["eager"], dataset)
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            one_thread = _reference_losses(configs["eager"], dataset)
            torch.set_num_threads(threads)
            ours = {name: _our_losses(config, dataset) for name, config in configs.items()}
            for name, losses in {**ours, "reference on one thread": one_thread}.items():
                differences = np.abs(losses - reference) / np.abs(reference)
                shown = (differences[0], differences[:10].max(), differences.max())
                columns = "".join(f"{value:12.1e}" for value in shown)
                print(f"{f'lr {lr}, {arch}-20, {name}':44}{columns}")


def _random_dataset(num_steps: int) -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, num_steps * BATCH_SIZE)
    # the brightness of an image depends on its label, so that the labels can be learned
    noise = rng.integers(0, 128, (len(labels), 32, 32, 3))
    train = Images((noise + 12 * labels[:, None, None, None]).astype(np.uint8), labels)
    classes = tuple("0123456789")
    source = Source(
        name="cifar10", display_name="random", classes=classes, train=train, test=train.take(np.arange(100))
    )
    return prepare(source)


def _our_losses(config: RunConfig, dataset: Dataset) -> np.ndarray:
    """Loss of each step, (steps,), from the running mean that the engine yields."""
    sums = [0.0]
    for event in Engine(config, dataset, decide(config)).run():
        if isinstance(event, StepEvent) and event.phase == "train":
            sums.append(event.running_loss * event.done)
    return np.diff(sums) / BATCH_SIZE


def _reference_losses(config: RunConfig, dataset: Dataset) -> np.ndarray:
    """Loss of each step, (steps,), on the same batches: eager, in the default layout, without fusion."""
    device = torch.device("cpu")
    model = network(config.arch, config.depth)
    load_our_weights(model, config.arch, config.depth, config.seed)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=False
    )
    normalizer = Normalizer.for_dataset(dataset, config.normalization, device)
    pixels, labels = torch.from_numpy(dataset.train.pixels), torch.from_numpy(dataset.train.labels)
    draws = draw_epoch(len(labels), config.augment, seed=config.seed, epoch=1, device=device)
    losses = []
    for chosen in torch.arange(len(labels)).split(BATCH_SIZE):
        order = draws.order[chosen]
        images = normalizer(crop_and_flip(pixels[order], draws.shift[chosen], draws.flip[chosen])).contiguous()
        loss = F.cross_entropy(model(images), labels[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def load_our_weights(model: torch.nn.Module, arch: str, depth: int, seed: int) -> None:
    weights = build_model(arch, depth, seed=seed).state_dict()
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))


def _accuracy(args: argparse.Namespace) -> None:
    milestone = max(args.epochs * 2 // 3, 1)
    fields = {
        "arch": "resnet", "depth": 8, "device": "cpu", "dataset": "imagefolder", "limit_train": 10_000,
        "limit_test": 5_000, "epochs": args.epochs, "milestones": (milestone,), "clean_train_every": 0,
    }  # fmt: skip
    dataset = open_data(make_config(**fields), data_dir=args.data_dir)

    def ours(compile_mode: str) -> Callable[[int], float]:
        def train(seed: int) -> float:
            config = make_config(**fields, compile=compile_mode, seed=seed)
            events = Engine(config, dataset, decide(config)).run()
            return [e.metrics.test_accuracy_pct for e in events if isinstance(e, EpochRecord)][-1]

        return train

    def textbook(seed: int) -> float:
        torch.manual_seed(seed)
        images = [(part.pixels, part.labels) for part in (dataset.train, dataset.test)]
        trainer = Textbook("resnet", 8, *images, "cpu", milestones=(milestone,))
        load_our_weights(trainer.model, "resnet", 8, seed)
        return [trainer.epoch() for _ in range(args.epochs)][-1]

    trainers = dict(zip(TRAINERS, (textbook, ours("off"), ours("on")), strict=True))
    print(f"\nresnet-8, 10,000 of the images, {args.epochs} epochs, {args.seeds} seeds: test accuracy, %")
    print(f"{'':16}{''.join(f'{name:>16}' for name in trainers)}", flush=True)
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        rows.append([train(seed) for train in trainers.values()])
        print(f"seed {seed:<11}{''.join(f'{value:16.2f}' for value in rows[-1])}", flush=True)
    print()
    _summarize(np.array(rows))


def _summarize(rows: np.ndarray) -> None:
    """Print mean, standard deviation and interval of the accuracies `rows`, (seeds, 3): textbook, eager, compiled."""
    textbook = rows[:, 0]
    for name, values in zip(TRAINERS, rows.T, strict=True):
        line = f"{name:16}{values.mean():7.2f} ± {values.std(ddof=1):.2f}"
        if name != "textbook":
            interval = stats.ttest_ind(values, textbook, equal_var=False).confidence_interval(0.95)
            line += f"   difference from the textbook, 95 %: [{interval.low:+.2f}, {interval.high:+.2f}]"
            line += f"   equal within {MARGIN_PP:g} pp: p = {_equivalence(values, textbook):.3f}"
        print(line)


def _equivalence(first: np.ndarray, second: np.ndarray) -> float:
    """p-value of two one-sided Welch tests that the means differ by less than `MARGIN_PP`."""
    above = stats.ttest_ind(first + MARGIN_PP, second, equal_var=False, alternative="greater")
    below = stats.ttest_ind(first - MARGIN_PP, second, equal_var=False, alternative="less")
    return float(max(above.pvalue, below.pvalue))


def _pooled(paths: list[Path]) -> None:
    rows = []
    for path in paths:
        found = [line.split()[2:] for line in path.read_text().splitlines() if line.startswith("seed ")]
        rows.append(np.array(found, dtype=float))
        print(f"{path.name}, {len(found)} seeds")
        _summarize(rows[-1])
        print()
    print(f"combined, {sum(map(len, rows))} seeds")
    _summarize(np.concatenate(rows))


if __name__ == "__main__":
    main()
