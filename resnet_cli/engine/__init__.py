"""Training step, epoch and evaluation of one network: yields records, touches no files."""

from resnet_cli.engine.core import Engine, EpochRecord, Tick
from resnet_cli.engine.inference import EVAL_BATCH_SIZE, Evaluation, Predictor, evaluate, evaluate_batches, merge

__all__ = [
    "EVAL_BATCH_SIZE", "Engine", "EpochRecord", "Evaluation", "Predictor", "Tick",
    "evaluate", "evaluate_batches", "merge",
]  # fmt: skip
