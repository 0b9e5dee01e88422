"""Run directories combined into a study, and the study as tidy data frames."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import msgspec
from msgspec.structs import asdict

from resnet_cli.config import FIELDS, Field, RunConfig
from resnet_cli.errors import InputError, RunFileError
from resnet_cli.recipes import recipe_label
from resnet_cli.rundir import METRICS_COLUMNS, Divergence, RunDir, RunRecord, Summary, find_runs
from resnet_cli.util.text import value_text

if TYPE_CHECKING:
    import pandas as pd

Paths = Iterable[str | os.PathLike[str]]
UnfinishedStatus = Literal["incomplete", "running", "diverged"]
SkippedStatus = UnfinishedStatus | Literal["unreadable", "duplicate"]

_DECISIONS = ("device", "precision", "compile")

_IDENTITY_TYPES = {
    "run_id": "str", "path": "str", "arch": "str", "depth": "int64", "shortcut": "str", "network": "str",
    "dataset": "str", "fingerprint": "str", "recipe": "str", "seed": "int64",
}  # fmt: skip
_RESULT_TYPES = {
    **_IDENTITY_TYPES, "recipe_name": "str", "dataset_name": "str", "parameters": "int64", "macs": "int64",
    "num_train": "int64", "num_val": "int64", "num_test": "int64", "epochs": "float64", "step": "float64",
    "test_accuracy_pct": "float64", "test_error_pct": "float64", "test_loss": "float64",
    "best_test_accuracy_pct": "float64", "best_epoch": "float64", "best_chosen_on": "str",
    "train_error_pct": "float64", "train_loss": "float64", "train_clean_error_pct": "float64",
    "train_clean_loss": "float64", "val_error_pct": "float64", "val_loss": "float64", "train_seconds": "float64",
    "eval_seconds": "float64", "images_per_second": "float64", "peak_memory_bytes": "float64", "device": "str",
    "device_name": "str", "precision": "str", "compile": "str", "torch": "str", "python": "str", "tool_version": "str",
    "created_at": "str", "finished_at": "str",
}  # fmt: skip

_RENAMED = {
    "recipe": "recipe_name", "dataset": "dataset_name", "epochs": "config_epochs", "device": "config_device",
    "precision": "config_precision", "compile": "config_compile",
}  # fmt: skip

CONFIG_COLUMNS = {name: _RENAMED.get(name, name) for name in FIELDS}
"""Column of each field of the configuration, in frames and in rows of a comparison.

The name of the field, unless that column is a result: `config_device` is the setting (`auto`), `device` the device
that was used.
"""


def _frame_type(field: Field) -> str:
    if field.is_optional:
        return "float64"  # which has a value for "not set"
    return {int: "int64", float: "float64", bool: "bool"}.get(field.kind, "str")


_CONFIG_TYPES = {CONFIG_COLUMNS[name]: _frame_type(field) for name, field in FIELDS.items()}
_RUN_TYPES = _RESULT_TYPES | _CONFIG_TYPES

IDENTITY_COLUMNS = tuple(_IDENTITY_TYPES)
"""Columns that identify a run, in `runs_frame` and `epochs_frame`."""

RUN_COLUMNS = tuple(_RUN_TYPES)
"""Columns of `runs_frame`, in order."""


class Group(msgspec.Struct, frozen=True, order=True):
    """Dataset and recipe shared by runs that may be averaged and compared."""

    dataset: str
    """Display name: `CIFAR-10 (JPEG)`."""
    fingerprint: str
    """SHA-256 (hex) over the images and labels."""
    recipe: str
    """Name of the recipe followed by all overrides."""

    @property
    def label(self) -> str:
        """Label in headings: `CIFAR-10 (JPEG), report2025 epochs=5`."""
        return f"{self.dataset}, {self.recipe}"


class AnyRun(msgspec.Struct, frozen=True, dict=True):
    """Record of one run in any state."""

    dir: RunDir
    record: RunRecord

    @property
    def network(self) -> str:
        """Short name of the network: `plain-56`, `resnet-56`, `resnet-56-B`."""
        return self.record.config.network

    @property
    def seed(self) -> int:
        """Seed for initial weights, data order, augmentation and validation split."""
        return self.record.config.seed

    @cached_property
    def group(self) -> Group:
        """Group of runs with which this run may be averaged and compared."""
        dataset, initial = self.record.dataset, self.record.init_from
        recipe = recipe_label(self.record.config) + (f" init={initial.sha256[:8]}" if initial else "")
        return Group(dataset.display_name, dataset.fingerprint, recipe)


class Run(AnyRun, frozen=True, dict=True):
    """Records of one complete run."""

    summary: Summary


class UnfinishedRun(AnyRun, frozen=True, dict=True):
    """Record of a run that is not complete; only training curves show it."""

    status: UnfinishedStatus


class Skipped(msgspec.Struct, frozen=True):
    """A run directory excluded from tables and figures, with the reason."""

    path: str
    status: SkippedStatus
    reason: str
    """One line."""

    def __str__(self) -> str:
        return f"skipped {self.path} ({self.status}): {self.reason}"


class Study(msgspec.Struct, eq=False):
    """The complete runs among some paths, and the runs that were skipped."""

    runs: list[Run]
    """Complete runs only, without duplicates, in the order in which they were found."""
    skipped: list[Skipped]
    metrics: "dict[str, pd.DataFrame]" = {}
    """Contents of metrics.csv by run id, if the study was loaded with metrics."""
    unfinished: list[UnfinishedRun] = []
    """Runs in `skipped` that diverged; if the study was loaded with metrics, also those incomplete or running."""

    def groups(self) -> dict[Group, list[Run]]:
        """Group the runs; groups are in alphabetical order."""
        found: dict[Group, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.group, []).append(run)
        return dict(sorted(found.items()))

    def require_runs(self) -> None:
        """Raise `InputError` unless at least one run is complete."""
        if self.runs:
            return
        statuses = [skipped.status for skipped in self.skipped]
        found = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
        hint = "run the same resnet train command again to resume" if "incomplete" in statuses else None
        raise InputError(f"no complete run; found {found}", hint=hint)


def load_study(paths: Paths, *, with_metrics: bool = False) -> Study:
    """Read all runs in `paths`.

    Incomplete, running, diverged, unreadable and duplicate runs raise no error; they are listed in `Study.skipped`.

    Args:
        paths: run directories, or folders to search for them.
        with_metrics: also read metrics.csv of every complete run; runs with an unreadable file are skipped.

    Raises:
        InputError: a path does not exist, is a file, or contains no run directory.
    """
    study = Study([], [], {})
    first_path: dict[Any, str] = {}
    diverged: set[str] = set()
    for folder in find_runs(paths):
        path = str(folder.path)
        try:
            run = _read(folder, first_path)
            if with_metrics and isinstance(run, Run):
                study.metrics[run.record.run_id] = folder.read_metrics(run.summary)
            elif with_metrics and isinstance(run, Skipped) and run.status in get_args(UnfinishedStatus):
                run = _add_unfinished(study, folder, run)
            elif isinstance(run, Skipped) and run.status == "diverged":
                record = folder.read_record()
                if record.run_id not in diverged:  # not a copy
                    study.unfinished.append(UnfinishedRun(folder, record, "diverged"))
                diverged.add(record.run_id)
        except (RunFileError, OSError) as error:
            # The path is shown next to the reason.
            run = Skipped(path, "unreadable", str(error).replace(f"{path}{os.sep}", "").replace("\n", " "))
        if isinstance(run, Skipped):
            study.skipped.append(run)
        else:
            study.runs.append(run)
            first_path |= dict.fromkeys(_same_run(run), path)
    return study


def runs_frame(study: Study) -> "pd.DataFrame":
    """Build a frame with one row per complete run and the columns `RUN_COLUMNS`.

    Errors and accuracies are from the last epoch, in per cent; `best_…` columns are from the epoch
    selected on `best_chosen_on` (val or test). `train_error_pct` is counted during training,
    `train_clean_error_pct` afterwards in eval mode without augmentation. `train_seconds` and
    `eval_seconds` are totals of the run. Values that were not measured are NaN. Every field of the
    configuration has the column `CONFIG_COLUMNS` gives it, with NaN for fields that are not set.
    """
    import pandas as pd

    return pd.DataFrame([run_row(run) for run in study.runs], columns=list(RUN_COLUMNS)).astype(_RUN_TYPES)


def run_row(run: Run) -> dict[str, Any]:
    """Return the values of `RUN_COLUMNS` for one run, None if not measured."""
    record, summary = run.record, run.summary
    values: dict[str, Any] = {
        # The totals in the summary replace the seconds and memory of the last epoch.
        **asdict(record.dataset), **asdict(record.model), **asdict(summary.last), **asdict(summary), **asdict(record),
        **_identity(run),
        "recipe_name": record.config.recipe, "dataset_name": record.dataset.name, "epochs": summary.last.epoch,
        "best_test_accuracy_pct": summary.best.test_accuracy_pct, "best_epoch": summary.best.epoch,
        **{name: record.environment.get(name) for name in ("device_name", "torch", "python")},
        **{name: record.decisions[name].value for name in _DECISIONS if name in record.decisions},
        **_config_values(record.config),
    }  # fmt: skip
    return {name: values.get(name) for name in RUN_COLUMNS}


def _config_values(config: RunConfig) -> dict[str, Any]:
    values = {CONFIG_COLUMNS[name]: value for name, value in asdict(config).items()}
    return {name: value_text(value) if isinstance(value, tuple) else value for name, value in values.items()}


def epochs_frame(study: Study) -> "pd.DataFrame":
    """Build a frame with one row per run and epoch: `IDENTITY_COLUMNS`, then the columns of metrics.csv.

    Raises:
        RunFileError: the study was loaded without metrics and one metrics.csv cannot be read.
    """
    return epochs_of(study.runs, study.metrics)


def epochs_of(runs: Sequence[AnyRun], metrics: "Mapping[str, pd.DataFrame]") -> "pd.DataFrame":
    """Build `epochs_frame` of some runs, complete or not; those that are not in `metrics`, by run id, are read."""
    import numpy as np
    import pandas as pd

    if not runs:
        return pd.DataFrame(columns=[*IDENTITY_COLUMNS, *METRICS_COLUMNS])
    found = (metrics.get(run.record.run_id) for run in runs)
    parts = [run.dir.read_metrics() if part is None else part for run, part in zip(runs, found, strict=True)]
    identity = pd.DataFrame([_identity(run) for run in runs]).astype(_IDENTITY_TYPES)
    row_of_run = np.repeat(np.arange(len(runs)), [len(part) for part in parts])
    repeated = identity.iloc[row_of_run].reset_index(drop=True)
    return pd.concat([repeated, pd.concat(parts, ignore_index=True)], axis="columns")


def load_runs(paths: Paths) -> "pd.DataFrame":
    """Load `runs_frame` of the runs in `paths`: one row per complete run, with every setting and result.

    Runs that are skipped give a warning. Columns and missing values are those of `runs_frame`, the errors those of
    `load_study`.
    """
    return runs_frame(_load_with_warnings(paths))


def load_epochs(paths: Paths) -> "pd.DataFrame":
    """Load `epochs_frame` of the runs in `paths`: one row per epoch of every complete run.

    Runs that are skipped give a warning. Columns and missing values are those of `epochs_frame`, the errors those of
    `load_study`.
    """
    return epochs_frame(_load_with_warnings(paths, with_metrics=True))


def describe_divergence(end: Divergence) -> str:
    """Where a run diverged, in words."""
    return f"the loss was not finite in epoch {end.epoch}, step {end.step}, at lr {end.lr:g}"


def _read(folder: RunDir, first_path: Mapping[Any, str]) -> Run | Skipped:
    path, record, status = str(folder.path), folder.read_record(), folder.status()
    if status == "running":
        return Skipped(path, "running", "a process is training this run")
    end = folder.read_end(record)
    if end is None:
        return Skipped(path, "incomplete", "no summary.json; run the same resnet train command again to resume")
    if isinstance(end, Divergence):
        return Skipped(path, "diverged", describe_divergence(end))
    run = Run(folder, record, end)
    same = next((first_path[key] for key in _same_run(run) if key in first_path), None)
    return Skipped(path, "duplicate", f"same run as {same}") if same else run


def _add_unfinished(study: Study, folder: RunDir, skipped: Skipped) -> Skipped:
    """Add an unfinished run with its metrics to `study`, unless it is a copy of one; return why it is skipped."""
    record = folder.read_record()
    if record.run_id in study.metrics:
        return Skipped(skipped.path, "duplicate", f"same run id {record.run_id} as another directory")
    study.metrics[record.run_id] = folder.read_metrics()
    study.unfinished.append(UnfinishedRun(folder, record, cast("UnfinishedStatus", skipped.status)))
    return skipped


def _same_run(run: Run) -> list[Any]:
    """Keys that two directories share if they contain the same run: a copy or a bit-identical repetition.

    Repeating a seed with the same losses to the last digit adds no information, and counting the
    repetition would narrow every interval.
    """
    keys: list[Any] = [run.record.run_id]
    if None not in (losses := (run.summary.last.train_loss, run.summary.last.test_loss)):
        keys.append((run.group, run.network, run.seed, losses))
    return keys


def _identity(run: AnyRun) -> dict[str, Any]:
    config, group = run.record.config, run.group
    return {
        "run_id": run.record.run_id, "path": str(run.dir.path), "arch": config.arch, "depth": config.depth,
        "shortcut": config.shortcut, "network": run.network, "dataset": group.dataset,
        "fingerprint": group.fingerprint, "recipe": group.recipe, "seed": run.seed,
    }  # fmt: skip


def _load_with_warnings(paths: Paths, *, with_metrics: bool = False) -> Study:
    study = load_study(paths, with_metrics=with_metrics)
    for skipped in study.skipped:
        warnings.warn(str(skipped), stacklevel=3)
    return study
