"""One network of a study, trained again by the textbook trainer with the same seeds, epochs and initial weights.

    python benchmarks/cross_check.py STUDY --data-dir DIR --network plain-20 --checkpoints FOLDER

For every complete run of the network in STUDY (recipe `overnight` or another one with epochs and a constant learning
rate between milestones), the textbook trainer starts from the same weights and trains on the same images in another
order. The script prints test accuracy and clean training error of both, their difference (ours − textbook), and what
it is known to within:

- for one seed, an interval over images (the two networks' errors on the same images are paired), which says how
  precisely the accuracies of these two trainings are known, and nothing about another seed;
- from two seeds on, Welch's interval over seeds.

It saves a checkpoint to FOLDER after every epoch; the same command continues an interrupted comparison.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from agreement import load_our_weights
from processes import ROOT
from scipy import stats
from textbook import NUM_WORKERS, PilImages, Textbook
from where import command_line, parser, where

sys.path.insert(0, str(ROOT))

from resnet_cli.data import Dataset, open_data
from resnet_cli.rundir import RunDir, find_runs


class Pair(NamedTuple):
    """Results of one seed; in each array the textbook's is first and ours second."""

    seed: int
    accuracies: np.ndarray  # (2,), on the test images, %
    train_errors: np.ndarray  # (2,), clean training error, %
    right: np.ndarray  # (2, test images), bool


def main() -> None:
    """Train what is missing, then print the comparison."""
    options = parser(__doc__)
    options.add_argument("study", type=Path)
    options.add_argument("--data-dir", type=Path, required=True)
    options.add_argument("--network", default="plain-20", help="such as plain-20")
    options.add_argument("--checkpoints", type=Path, required=True)
    args = options.parse_args()
    print(f"{command_line()}\n", flush=True)
    runs = [run for run in find_runs([args.study]) if _network(run) == args.network and run.status() == "complete"]
    if not runs:
        raise SystemExit(f"no complete run of {args.network} in {args.study}")
    args.checkpoints.mkdir(parents=True, exist_ok=True)
    dataset = open_data(runs[0].read_record().config, data_dir=args.data_dir)
    pairs = sorted(_compare(run, dataset, args.checkpoints) for run in runs)
    print(f"{'':9}{'test accuracy, %':>33}{'clean training error, %':>33}")
    print(f"{'':9}{'textbook':>11}{'ours':>11}{'difference':>11}" + f"{'textbook':>11}{'ours':>11}{'difference':>11}")
    for pair in pairs:
        cells = [f"{a:11.2f}{b:11.2f}{b - a:+11.2f}" for a, b in (pair.accuracies, pair.train_errors)]
        print(f"seed {pair.seed:<4}{''.join(cells)}")
    print()
    for pair in pairs:
        difference = 100 * (pair.right[1].astype(float) - pair.right[0])
        half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        low, high = difference.mean() - half, difference.mean() + half
        print(f"seed {pair.seed}: difference of test accuracy, 95 % over images: [{low:+.2f}, {high:+.2f}] pp")
    if len(pairs) > 1:
        for name, values in (
            ("test accuracy", [p.accuracies for p in pairs]),
            ("training error", [p.train_errors for p in pairs]),
        ):
            textbook, ours = np.array(values).T
            interval = stats.ttest_ind(ours, textbook, equal_var=False).confidence_interval(0.95)
            print(f"difference of {name}, 95 % over {len(pairs)} seeds: [{interval.low:+.2f}, {interval.high:+.2f}] pp")
    else:
        print("one seed: an interval over seeds needs at least two")
    print(f"\n{where()}")


def _network(run: RunDir) -> str:
    config = run.read_record().config
    return f"{config.arch}-{config.depth}" if config.warmup_steps == 0 else ""


def _compare(run: RunDir, dataset: Dataset, checkpoints: Path) -> Pair:
    record, summary = run.read_record(), run.read_summary()
    if record.dataset.fingerprint != dataset.fingerprint:
        raise SystemExit(f"{run.path} was trained on other images")
    config, last = record.config, summary.last
    if last.train_clean_images != len(dataset.train):
        raise SystemExit(f"{run.path} does not contain the training error on all images")
    trainer = _train(config, dataset, checkpoints / f"{config.arch}-{config.depth}-seed{config.seed}.pt")
    ours = run.read_predictions(len(record.dataset.classes), summary)
    if not np.array_equal(ours.labels, dataset.test.labels):
        raise SystemExit(f"{run.path} was tested on other images")
    right = np.stack([_right(trainer, dataset.test), ours.logits.argmax(1) == ours.labels])
    train_errors = np.array([100 * (1 - _right(trainer, dataset.train).mean()), last.train_clean_error_pct])
    return Pair(config.seed, 100 * right.mean(axis=1), train_errors, right)


def _train(config: Any, dataset: Dataset, path: Path) -> Textbook:
    """The textbook's trainer after all epochs of `config`, from the last checkpoint at `path` on."""
    torch.manual_seed(config.seed)
    images = [(part.pixels, part.labels) for part in (dataset.train, dataset.test)]
    trainer = Textbook(config.arch, config.depth, *images, "cpu", lr=config.lr, milestones=config.milestones)
    load_our_weights(trainer.model, config.arch, config.depth, config.seed)
    parts = {"model": trainer.model, "optimizer": trainer.optimizer, "scheduler": trainer.scheduler}
    epoch = 0
    if path.exists():
        state = torch.load(path)
        epoch = state["epoch"]
        torch.set_rng_state(state["rng"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
    while epoch < config.epochs:
        accuracy = trainer.epoch()
        epoch += 1
        print(f"{path.stem}: epoch {epoch}, test accuracy {accuracy:.2f} %", file=sys.stderr, flush=True)
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**state, "epoch": epoch, "rng": torch.get_rng_state()}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    return trainer


@torch.no_grad()
def _right(trainer: Textbook, images: Any) -> np.ndarray:
    """Whether each image is classified correctly, (N,) bool, in eval mode without augmentation."""
    transform = trainer.test_loader.dataset.transform
    loader = torch.utils.data.DataLoader(
        PilImages(images.pixels, images.labels, transform), batch_size=500, num_workers=NUM_WORKERS
    )
    trainer.model.eval()
    return np.concatenate([(trainer.model(pixels).argmax(1) == labels).numpy() for pixels, labels in loader])


if __name__ == "__main__":
    main()
