"""Run directories in any state, each as one row: status, progress, configuration, results."""

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from resnet_cli.analysis.frames import describe_divergence
from resnet_cli.config import FIELDS, RunConfig
from resnet_cli.errors import RunFileError
from resnet_cli.recipes import RECIPES, make_config, recipe_label
from resnet_cli.rundir import Divergence, EpochMetrics, RunDir, RunRecord, Status, Summary
from resnet_cli.rundir.reading import read_saved_step
from resnet_cli.util.text import shorten

_METRICS = (
    "train_loss", "train_error_pct", "train_clean_loss", "train_clean_error_pct", "val_loss", "val_error_pct",
    "test_loss", "test_error_pct", "test_accuracy_pct", "images_per_second",
)  # fmt: skip
RESULT_COLUMNS = (
    "epoch", "step", *_METRICS, "best_test_accuracy_pct", "best_epoch", "best_chosen_on", "train_seconds",
    "eval_seconds", "peak_memory_bytes",
)  # fmt: skip
"""Columns of `overview_row` with results."""

_DECISIONS = ("device", "precision", "compile")

OVERVIEW_COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(("path", "status", "reason", "network", "changes"), str),
    **{name: float if field.kind in (int, float) else str for name, field in FIELDS.items()},
    "num_epochs": float, "saved_step": float, **dict.fromkeys(RESULT_COLUMNS, float), "best_chosen_on": str,
    "dataset_display_name": str, "fingerprint": str, "num_train": float, "num_val": float, "num_test": float,
    "parameters": float, "macs": float, "device_name": str, "torch": str, "python": str, "tool_version": str,
    "created_at": str, "finished_at": str, "size_bytes": float, "run_id": str,
}  # fmt: skip
"""Columns of `overview_row` in order, with `float` for numbers and `str` for everything else."""


class RunState(msgspec.Struct, frozen=True):
    """What the files of a run directory say about it, whatever its state."""

    dir: RunDir
    status: Status | Literal["unreadable"]
    record: RunRecord | None = None
    """None if the run is unreadable."""
    end: Summary | Divergence | None = None
    """Result of a complete or diverged run."""
    last: EpochMetrics | None = None
    """The last recorded epoch; None before the first."""
    reason: str | None = None
    """Why the run is unreadable, diverged or without progress; one line."""
    saved_step: int | None = None
    """Step of the checkpoint of a run that is neither complete nor diverged; None without a readable checkpoint."""

    @property
    def num_epochs(self) -> int | None:
        """Length of the run in epochs."""
        return None if self.record is None else num_epochs(self.record)


def read_state(run: RunDir) -> RunState:
    """Read the state of a run directory. Damaged files raise nothing; they are the `reason`."""
    try:
        record, status = run.read_record(), run.status()
        end = run.read_end(record)
    except (RunFileError, OSError) as error:
        return RunState(run, "unreadable", reason=_reason(run, error))
    if isinstance(end, Summary):
        return RunState(run, "complete", record, end, end.last)
    try:
        last, reason = run.read_last_epoch(), None
    except (RunFileError, OSError) as error:
        last, reason = None, _reason(run, error)
    if isinstance(end, Divergence):
        return RunState(run, "diverged", record, end, last, describe_divergence(end))
    return RunState(run, status, record, None, last, reason, read_saved_step(run.checkpoint_path))


def num_epochs(record: RunRecord) -> int:
    """Length of a run in epochs; a run whose length is in steps may end within the last one."""
    return record.config.epochs or math.ceil(num_steps(record) / _steps_per_epoch(record))


def num_steps(record: RunRecord) -> int:
    """Length of a run in steps."""
    # RunConfig has exactly one of the two
    return record.config.steps or (record.config.epochs or 0) * _steps_per_epoch(record)


def _steps_per_epoch(record: RunRecord) -> int:
    return math.ceil(record.dataset.num_train / record.config.batch_size)


def overview_row(state: RunState) -> dict[str, Any]:
    """Return the values of `OVERVIEW_COLUMNS` for one run, None where there is no value.

    Fields of the configuration have their own names; `device`, `precision` and `compile` are those used, not `auto`.
    Results are from the last recorded epoch, in per cent and nats; `train_seconds`, `eval_seconds` and
    `peak_memory_bytes` are totals of complete runs.
    """
    row: dict[str, Any] = dict.fromkeys(OVERVIEW_COLUMNS)
    row |= {"path": str(state.dir.path), "status": state.status, "reason": state.reason, "saved_step": state.saved_step}
    row["size_bytes"] = sum(state.dir.file_sizes().values())
    record, last, end = state.record, state.last, state.end
    if record is None:
        return row
    row |= record.config.to_dict()
    row |= {name: record.decisions[name].value for name in _DECISIONS if name in record.decisions}
    row |= {name: record.environment.get(name) for name in ("device_name", "torch", "python")}
    data, model = record.dataset, record.model
    row |= {
        "network": record.config.network, "changes": recipe_changes(record.config), "num_epochs": state.num_epochs,
        "dataset_display_name": data.display_name, "fingerprint": data.fingerprint, "num_train": data.num_train,
        "num_val": data.num_val, "num_test": data.num_test, "parameters": model.parameters, "macs": model.macs,
        "tool_version": record.tool_version, "created_at": record.created_at, "run_id": record.run_id,
    }  # fmt: skip
    if last is not None:
        row |= {name: getattr(last, name) for name in ("epoch", "step", *_METRICS)}
    if isinstance(end, Summary):
        row |= {
            "best_test_accuracy_pct": end.best.test_accuracy_pct, "best_epoch": end.best.epoch,
            "best_chosen_on": end.best_chosen_on, "train_seconds": end.train_seconds,
            "eval_seconds": end.eval_seconds, "peak_memory_bytes": end.peak_memory_bytes,
        }  # fmt: skip
    if end is not None:
        row["finished_at"] = end.finished_at
    return row


def recipe_changes(config: RunConfig) -> str:
    """The settings that differ from the recipe, as in its label: `epochs=5 lr=0.05`, and the dataset if it differs."""
    changes = [recipe_label(config).removeprefix(config.recipe).strip()]
    if config.recipe in RECIPES and config.dataset != RECIPES[config.recipe].values["dataset"]:
        changes.insert(0, f"dataset={config.dataset}")
    return " ".join(filter(None, changes))


def recipe_values(config: RunConfig) -> dict[str, Any]:
    """All fields as the recipe of `config` sets them for its network; empty if this version has no such recipe."""
    if config.recipe not in RECIPES:
        return {}
    return make_config(
        config.recipe, arch=config.arch, depth=config.depth, shortcut=config.shortcut, seed=config.seed
    ).to_dict()


def _reason(run: RunDir, error: Exception) -> str:
    # the path is shown next to the reason
    return shorten(" ".join(str(error).split()).replace(f"{run.path}{os.sep}", ""), 500)
