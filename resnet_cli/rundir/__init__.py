"""Run directories: the only reader and writer of their files, and the types of what the files contain."""

from resnet_cli.rundir.directory import GRADFLOW_COLUMNS, METRICS_COLUMNS, Cell, RunDir, Status, find_runs, now
from resnet_cli.rundir.records import (
    SCHEMA_VERSION,
    Attempt,
    DatasetRecord,
    Decision,
    Divergence,
    ModelRecord,
    Predictions,
    RunRecord,
    Summary,
)

__all__ = [
    "GRADFLOW_COLUMNS", "METRICS_COLUMNS", "SCHEMA_VERSION", "Attempt", "Cell", "DatasetRecord", "Decision",
    "Divergence", "ModelRecord", "Predictions", "RunDir", "RunRecord", "Status", "Summary", "find_runs", "now",
]  # fmt: skip
