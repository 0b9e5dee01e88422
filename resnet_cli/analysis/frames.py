"""Reads any number of run directories into one study, and a study into tidy frames."""

import os
import warnings
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from resnet_cli.errors import RunFileError
from resnet_cli.recipes import recipe_label
from resnet_cli.rundir import METRICS_COLUMNS, Divergence, RunDir, RunRecord, Status, Summary, find_runs

if TYPE_CHECKING:
    import pandas as pd

Paths = Iterable[str | os.PathLike[str]]
SkippedStatus = Literal["incomplete", "running", "diverged", "unreadable", "duplicate"]

IDENTITY_COLUMNS = (
    "run_id", "path", "arch", "depth", "shortcut", "network", "dataset", "fingerprint", "recipe", "seed",
)  # fmt: skip
"""What names a run, in `runs_frame` and in every row of `epochs_frame`."""

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


class Group(msgspec.Struct, frozen=True, order=True):
    """Runs that may be averaged and compared: the same data and the same recipe."""

    dataset: str
    """As in tables: `CIFAR-10 (JPEG)`."""
    fingerprint: str
    """SHA-256 (hex) over the images and labels."""
    recipe: str
    """The recipe's name followed by every override of it."""

    @property
    def label(self) -> str:
        """As in a heading: `CIFAR-10 (JPEG), report2025 epochs=5`."""
        return f"{self.dataset}, {self.recipe}"


class Run(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A run directory whose files could be read."""

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
        """The seed that initialisation, order and augmentation come from."""
        return self.record.config.seed

    @cached_property
    def group(self) -> Group:
        """What the run may be compared within."""
        dataset = self.record.dataset
        return Group(dataset.display_name, dataset.fingerprint, recipe_label(self.record.config))


class Skipped(msgspec.Struct, frozen=True):
    """A run directory that is left out of every figure, and why."""

    path: str
    status: SkippedStatus
    reason: str
    """One line."""


class Study(msgspec.Struct, eq=False):
    """The complete runs among some paths, and what else was found there."""

    runs: list[Run]
    """Complete runs only, each once, in the order they were found."""
    skipped: list[Skipped]
    metrics: "dict[str, pd.DataFrame]" = {}
    """metrics.csv by run id, when the study was loaded with them."""

    def groups(self) -> dict[Group, list[Run]]:
        """The runs by group, groups in alphabetical order."""
        found: dict[Group, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.group, []).append(run)
        return dict(sorted(found.items()))


def load_study(paths: Paths, *, with_metrics: bool = False) -> Study:
    """Read the runs among `paths` and in the folders among them.

    A run that is incomplete, running, diverged, unreadable or there twice never raises; it
    is named in `Study.skipped`.

    Args:
        paths: run directories, or folders that are searched for them.
        with_metrics: also read metrics.csv of every complete run; one whose file cannot be read is skipped.

    Raises:
        InputError: a path does not exist, is a file, or holds no run directory.
    """
    study = Study([], [], {})
    first_path: dict[Any, str] = {}
    for folder in find_runs(paths):
        try:
            run = _read(folder)
            why = _left_out(run, first_path)
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
    """One row per complete run, with the columns `RUN_COLUMNS`.

    Errors and accuracies are those of the last epoch, in percent; `best_…` are those of the
    epoch that `best_chosen_on` (val or test) chose. `train_error_pct` is counted while
    training, `train_clean_error_pct` afterwards in eval mode without augmentation.
    `train_seconds` and `eval_seconds` are totals of the run; `peak_memory_bytes` is its peak.
    What a run did not measure is NaN.
    """
    import pandas as pd

    frame = pd.DataFrame([run_row(run) for run in study.runs], columns=list(RUN_COLUMNS))
    kinds = {name: "str" if name in _TEXT else "int64" if name in _WHOLE else "float64" for name in RUN_COLUMNS}
    return frame.astype(kinds)


def run_row(run: Run) -> dict[str, Any]:
    """One complete run as a row: `RUN_COLUMNS` to values, None where nothing was measured."""
    record, summary = run.record, run.summary
    if summary is None:
        raise ValueError(f"{run.dir.path} is {run.status}: only a complete run has a row")
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
        **{name: _decided(record, name) for name in ("device", "precision", "compile")},
        **{name: _text(record.environment.get(name)) for name in ("device_name", "torch", "python")},
        "tool_version": record.tool_version,
        "created_at": record.created_at,
        "finished_at": summary.finished_at,
    }
    return {name: values[name] for name in RUN_COLUMNS}


def epochs_frame(study: Study) -> "pd.DataFrame":
    """One row per run and epoch: `IDENTITY_COLUMNS`, then the columns of metrics.csv.

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
    """`runs_frame` of the runs among `paths`; warns of those that were left out.

    Raises:
        InputError: a path does not exist, is a file, or holds no run directory.
    """
    study = load_study(paths)
    _warn_of_skipped(study)
    return runs_frame(study)


def load_epochs(paths: Paths) -> "pd.DataFrame":
    """`epochs_frame` of the runs among `paths`; warns of those that were left out.

    Raises:
        InputError: a path does not exist, is a file, or holds no run directory.
    """
    study = load_study(paths, with_metrics=True)
    _warn_of_skipped(study)
    return epochs_frame(study)


def _read(folder: RunDir) -> Run:
    record, status = folder.read_record(), folder.status()
    summary = folder.read_summary() if status == "complete" else None
    divergence = folder.read_divergence() if status == "diverged" else None
    for name, part in (("summary.json", summary), ("diverged.json", divergence)):
        if part is not None and part.run_id != record.run_id:
            raise RunFileError(f"{folder.path / name} belongs to another run than run.json")
    return Run(dir=folder, record=record, status=status, summary=summary, divergence=divergence)


def _left_out(run: Run, first_path: dict[Any, str]) -> Skipped | None:
    path = str(run.dir.path)
    if run.divergence is not None:
        where = run.divergence
        reason = f"the loss was not finite in epoch {where.epoch}, step {where.step}, at lr {where.lr:g}"
        return Skipped(path, "diverged", reason)
    if run.status == "running":
        return Skipped(path, "running", "a process is training it now")
    if run.summary is None:
        return Skipped(path, "incomplete", "it has no summary.json; train it again with the same options to resume")
    for key in _same_run(run):
        if key in first_path:
            return Skipped(path, "duplicate", f"it is the same run as {first_path[key]}")
    return None


def _same_run(run: Run) -> list[Any]:
    """What two directories have in common when they hold one run: a copy, or a bit-identical repetition.

    A repetition of a seed that gives the same losses to the last digit adds no information,
    and counting it would narrow every interval.
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


def _decided(record: RunRecord, name: str) -> str | None:
    decision = record.decisions.get(name)
    return decision.value if decision else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _reason(error: Exception, folder: RunDir) -> str:
    # the path is named beside the reason, so it is not repeated in it
    return str(error).replace(f"{folder.path}{os.sep}", "").replace("\n", " ")


def _warn_of_skipped(study: Study) -> None:
    for skipped in study.skipped:
        warnings.warn(f"{skipped.path} is left out ({skipped.status}): {skipped.reason}", stacklevel=3)
