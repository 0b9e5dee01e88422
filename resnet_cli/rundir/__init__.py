"""Run directories: the only reader and writer of their files, and the types of what the files contain."""

from resnet_cli.rundir.directory import RunDir, Status
from resnet_cli.rundir.discovery import find_runs
from resnet_cli.rundir.records import (
    METRICS_COLUMNS,
    SCHEMA_VERSION,
    Attempt,
    DatasetRecord,
    Decision,
    Divergence,
    EpochMetrics,
    GradflowRow,
    InitialWeights,
    ModelRecord,
    Predictions,
    RunRecord,
    Summary,
    now,
)

__all__ = [
    "METRICS_COLUMNS", "SCHEMA_VERSION", "Attempt", "DatasetRecord", "Decision", "Divergence",
    "EpochMetrics", "GradflowRow", "InitialWeights", "ModelRecord", "Predictions", "RunDir", "RunRecord", "Status",
    "Summary", "find_runs", "now",
]  # fmt: skip
