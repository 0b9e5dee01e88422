"""Training step, epoch and evaluation of one network: yields records, touches no files."""

from resnet_cli.engine.core import Engine, EpochRecord, InitialRecord, StepEvent
from resnet_cli.engine.evaluate import (
    EVAL_BATCH_SIZE,
    EvalCounts,
    Predictor,
    combine_batches,
    evaluate,
    evaluate_batches,
)

__all__ = [
    "EVAL_BATCH_SIZE", "Engine", "EpochRecord", "EvalCounts", "InitialRecord", "Predictor", "StepEvent",
    "combine_batches", "evaluate", "evaluate_batches",
]  # fmt: skip
