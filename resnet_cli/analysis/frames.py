"""Run directories as one study, and a study as tidy data frames."""

import os
import warnings
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from resnet_cli.errors import InputError, RunFileError
from resnet_cli.recipes import recipe_label
from resnet_cli.rundir import METRICS_COLUMNS, Divergence, RunDir, RunRecord, Status, Summary, find_runs

if TYPE_CHECKING:
    import pandas as pd

Paths = Iterable[str | os.PathLike[str]]
SkippedStatus = Literal["incomplete", "running", "diverged", "unreadable", "duplicate"]

IDENTITY_COLUMNS = (
    "run_id", "path", "arch", "depth", "shortcut", "network", "dataset", "fingerprint", "recipe", "seed",
)  # fmt: skip
"""Columns that identify a run, in `runs_frame` and `epochs_frame`."""

RUN_COLUMNS = (
    *IDENTITY_COLUMNS, "recipe_name", "dataset_name", "parameters", "macs", "num_train", "num_val", "num_test",
    "epochs", "step", "test_accuracy_pct", "test_error_pct", "test_loss",
    "best_test_accuracy_pct", "best_epoch", "best_chosen_on",
    "train_error_pct", "train_loss", "train_clean_error_pct", "train_clean_loss", "val_error_pct", "val_loss",
    "train_seconds", "eval_seconds", "images_per_second", "peak_memory_bytes",
    "device", "device_name", "precision", "compile", "torch", "python", "tool_version", "created_at", "finished_at",
)  # fmt: skip
"""Columns of `runs_frame`, in order."""

_WHOLE = ("depth", "seed", "parameters", "macs", "num_train", "num_val", "num_test")
_TEXT = frozenset({
    "run_id", "path", "arch", "shortcut", "network", "dataset", "fingerprint", "recipe", "recipe_name",
    "dataset_name", "best_chosen_on", "device", "device_name", "precision", "compile", "torch", "python",
    "tool_version", "created_at", "finished_at",
})  # fmt: skip
_FROM_LAST = (
    "test_accuracy_pct", "test_error_pct", "test_loss", "train_error_pct", "train_loss", "train_clean_error_pct",
    "train_clean_loss", "val_error_pct", "val_loss", "images_per_second",
)  # fmt: skip
_DECISIONS = ("device", "precision", "compile")


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


class Run(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Records of one readable run directory."""

    dir: RunDir
    record: RunRecord
    status: Status
    summary: Summary | None = None
    divergence: Divergence | None = None

    @property
    def network(self) -> str:
        """Short name of the network: `plain-56`, `resnet-56`, `resnet-56-B`."""
        return self.record.config.network

    @property
    def seed(self) -> int:
        """Random seed for initialisation, data order and augmentation."""
        return self.record.config.seed

    @cached_property
    def group(self) -> Group:
        """Group of runs with which this run may be averaged and compared."""
        dataset = self.record.dataset
        return Group(dataset.display_name, dataset.fingerprint, recipe_label(self.record.config))


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
        hint = "resnet train resumes an incomplete run" if "incomplete" in statuses else None
        raise InputError(f"no completed run; found {found}", hint=hint)


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
    for folder in find_runs(paths):
        try:
            run = _read(folder)
            why = _skip_reason(run, first_path)
            if why is None and with_metrics and run.summary is not None:
                study.metrics[run.record.run_id] = folder.read_metrics(run.summary)
        except (RunFileError, OSError) as error:
            why = Skipped(str(folder.path), "unreadable", _reason(error, folder))
        if why is not None:
            study.skipped.append(why)
            continue
        study.runs.append(run)
        for key in _same_run(run):
            first_path[key] = str(folder.path)
    return study


def runs_frame(study: Study) -> "pd.DataFrame":
    """Build a frame with one row per complete run and the columns `RUN_COLUMNS`.

    Errors and accuracies are from the last epoch, in percent; `best_…` columns are from the epoch
    selected on `best_chosen_on` (val or test). `train_error_pct` is counted during training,
    `train_clean_error_pct` afterwards in eval mode without augmentation. `train_seconds` and
    `eval_seconds` are totals of the run. Values that were not measured are NaN.
    """
    import pandas as pd

    frame = pd.DataFrame([run_row(run) for run in study.runs], columns=list(RUN_COLUMNS))
    kinds = {name: "str" if name in _TEXT else "int64" if name in _WHOLE else "float64" for name in RUN_COLUMNS}
    return frame.astype(kinds)


def run_row(run: Run) -> dict[str, Any]:
    """Return the values of `RUN_COLUMNS` for one complete run, None if not measured."""
    record, summary = run.record, run.summary
    if summary is None:
        raise ValueError(f"{run.dir.path} is {run.status}, not complete")
    values: dict[str, Any] = {
        **_identity(run),
        "recipe_name": record.config.recipe,
        "dataset_name": record.dataset.name,
        "parameters": record.model.parameters,
        "macs": record.model.macs,
        "num_train": record.dataset.num_train,
        "num_val": record.dataset.num_val,
        "num_test": record.dataset.num_test,
        "epochs": summary.last.epoch,
        "step": summary.last.step,
        **{name: getattr(summary.last, name) for name in _FROM_LAST},
        "best_test_accuracy_pct": summary.best.test_accuracy_pct,
        "best_epoch": summary.best.epoch,
        "best_chosen_on": summary.best_chosen_on,
        "train_seconds": summary.train_seconds,
        "eval_seconds": summary.eval_seconds,
        "peak_memory_bytes": summary.peak_memory_bytes,
        **{name: decided.value for name in _DECISIONS if (decided := record.decisions.get(name))},
        **{name: record.environment.get(name) for name in ("device_name", "torch", "python")},
        "tool_version": record.tool_version,
        "created_at": record.created_at,
        "finished_at": summary.finished_at,
    }
    return {name: values.get(name) for name in RUN_COLUMNS}


def epochs_frame(study: Study) -> "pd.DataFrame":
    """Build a frame with one row per run and epoch: `IDENTITY_COLUMNS`, then the columns of metrics.csv.

    Raises:
        RunFileError: the study was loaded without metrics and one metrics.csv cannot be read.
    """
    import pandas as pd

    columns = [*IDENTITY_COLUMNS, *METRICS_COLUMNS]
    parts = []
    for run in study.runs:
        metrics = study.metrics.get(run.record.run_id)
        part = run.dir.read_metrics() if metrics is None else metrics
        parts.append(part.assign(**_identity(run))[columns])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def load_runs(paths: Paths) -> "pd.DataFrame":
    """Load `runs_frame` of the runs in `paths`; warn about skipped runs.

    Raises:
        InputError: a path does not exist, is a file, or contains no run directory.
    """
    study = load_study(paths)
    _warn_about_skipped(study)
    return runs_frame(study)


def load_epochs(paths: Paths) -> "pd.DataFrame":
    """Load `epochs_frame` of the runs in `paths`; warn about skipped runs.

    Raises:
        InputError: a path does not exist, is a file, or contains no run directory.
    """
    study = load_study(paths, with_metrics=True)
    _warn_about_skipped(study)
    return epochs_frame(study)


def _read(folder: RunDir) -> Run:
    record, status = folder.read_record(), folder.status()
    summary = folder.read_summary() if status == "complete" else None
    divergence = folder.read_divergence() if status == "diverged" else None
    for name, part in (("summary.json", summary), ("diverged.json", divergence)):
        if part is not None and part.run_id != record.run_id:
            raise RunFileError(f"{folder.path / name} belongs to a different run than run.json")
    return Run(dir=folder, record=record, status=status, summary=summary, divergence=divergence)


def _skip_reason(run: Run, first_path: dict[Any, str]) -> Skipped | None:
    path = str(run.dir.path)
    if run.divergence is not None:
        where = run.divergence
        reason = f"the loss was not finite in epoch {where.epoch}, step {where.step}, at lr {where.lr:g}"
        return Skipped(path, "diverged", reason)
    if run.status == "running":
        return Skipped(path, "running", "a process is training this run")
    if run.summary is None:
        return Skipped(path, "incomplete", "no summary.json; run the same resnet train command to resume")
    for key in _same_run(run):
        if key in first_path:
            return Skipped(path, "duplicate", f"same run as {first_path[key]}")
    return None


def _same_run(run: Run) -> list[Any]:
    """Keys that two directories share if they contain the same run: a copy or a bit-identical repetition.

    Repeating a seed with the same losses to the last digit adds no information, and counting the
    repetition would narrow every interval.
    """
    keys: list[Any] = [run.record.run_id]
    if run.summary and None not in (losses := (run.summary.last.train_loss, run.summary.last.test_loss)):
        keys.append((run.group, run.network, run.seed, losses))
    return keys


def _identity(run: Run) -> dict[str, Any]:
    config, group = run.record.config, run.group
    return {
        "run_id": run.record.run_id, "path": str(run.dir.path), "arch": config.arch, "depth": config.depth,
        "shortcut": config.shortcut, "network": run.network, "dataset": group.dataset,
        "fingerprint": group.fingerprint, "recipe": group.recipe, "seed": run.seed,
    }  # fmt: skip


def _reason(error: Exception, folder: RunDir) -> str:
    # The path is shown next to the reason.
    return str(error).replace(f"{folder.path}{os.sep}", "").replace("\n", " ")


def _warn_about_skipped(study: Study) -> None:
    for skipped in study.skipped:
        warnings.warn(str(skipped), stacklevel=3)
