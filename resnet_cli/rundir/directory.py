"""The only reader and writer of run-directory files."""

import datetime
import io
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from resnet_cli.errors import InputError, RunFileError, RunLockedError
from resnet_cli.rundir.reading import read_arrays, read_json, read_table, read_text_bytes
from resnet_cli.rundir.records import (
    SCHEMA_VERSION,
    Attempt,
    Divergence,
    Predictions,
    RunRecord,
    Summary,
    check_record,
)
from resnet_cli.util.files import append_durably, sync_folder, temporary_files, write_atomic
from resnet_cli.util.text import encode_json, json_text, one_line

if TYPE_CHECKING:
    import filelock
    import pandas as pd


Status = Literal["complete", "diverged", "running", "incomplete", "empty"]
Cell = float | int | str | None

METRICS_COLUMNS = (
    "epoch", "step", "lr", "train_loss", "train_error_pct", "train_clean_loss", "train_clean_error_pct",
    "val_loss", "val_error_pct", "test_loss", "test_error_pct", "test_accuracy_pct",
    "images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes",
)  # fmt: skip
GRADFLOW_COLUMNS = (
    "epoch", "layer_index", "layer", "stage", "block", "grad_norm", "weight_norm", "update_to_weight_ratio",
)  # fmt: skip
_TEXT_COLUMNS = frozenset({"layer"})
# What is written before run.json: a folder with these and without it is a run that lost it.
_WRITTEN_FIRST = {"metrics.csv", "gradflow.csv"}
# Of an epoch; whatever is longer is none.
_MAX_DIGITS = 18


class RunDir:
    """One run directory. Reading never changes it; writing goes through an open `RunDir.lock()`.

    Args:
        path: the directory; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.record_path = self.path / "run.json"
        self.metrics_path = self.path / "metrics.csv"
        self.gradflow_path = self.path / "gradflow.csv"
        self.predictions_path = self.path / "predictions.npz"
        self.summary_path = self.path / "summary.json"
        self.diverged_path = self.path / "diverged.json"
        self.readme_path = self.path / "README.md"
        self.lock_path = self.path / ".lock"
        self.holder_path = self.path / ".holder.json"
        self.attempts_path = self.path / "attempts.jsonl"
        self.last_weights_path = self.path / "weights" / "last.safetensors"
        self.best_weights_path = self.path / "weights" / "best.safetensors"
        self.checkpoint_path = self.path / "checkpoints" / "resume.safetensors"

    # ------------------------------------------------------------------ state

    def exists(self) -> bool:
        """Whether this is a run directory, that is, whether it has a run.json."""
        return os.path.lexists(self.record_path)

    def status(self) -> Status:
        """Derived from the files: summary.json means complete, diverged.json diverged, a held lock running."""
        if os.path.lexists(self.summary_path):
            return "complete"
        if os.path.lexists(self.diverged_path):
            return "diverged"
        if not self.exists():
            return "empty"
        return "running" if self._is_locked() else "incomplete"

    def lock(self) -> "filelock.BaseFileLock":
        """Take the run for this process; freed on release or when the process ends, however it ends.

        Raises:
            RunLockedError: another process holds it.
        """
        import filelock

        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.lock_path)
        try:
            # a moment of patience: `status` of another process holds the lock for an instant
            lock.acquire(timeout=1)
        except filelock.Timeout:
            raise RunLockedError(
                f"{self.path} is being trained by another process{self._holder()}",
                hint="wait for it or choose another --out",
            ) from None
        holder = {"pid": os.getpid(), "host": platform.node(), "since": now()}
        write_atomic(self.holder_path, _to_json(holder))
        return lock

    def _holder(self) -> str:
        """Who holds the lock, as far as it is known; only meaningful while it is held."""
        try:
            holder = msgspec.json.decode(read_text_bytes(self.holder_path), type=dict[str, str | int])
        except (RunFileError, msgspec.MsgspecError, UnicodeDecodeError):
            return ""
        return f" ({', '.join(f'{name} {value}' for name, value in holder.items())})"

    def _is_locked(self) -> bool:
        import filelock

        # older versions of filelock would follow a link, and empty what it leads to
        if not self.lock_path.is_file() or self.lock_path.is_symlink():
            return False
        probe = filelock.FileLock(self.lock_path)
        try:
            probe.acquire(timeout=0)
        except filelock.Timeout:
            return True
        except OSError:  # a folder that cannot be written to: nobody trains there
            return False
        probe.release()
        return False

    # ---------------------------------------------------------------- writing

    def create(self, record: RunRecord) -> None:
        """Start the directory: folders, run.json and empty CSV files."""
        for folder in (self.last_weights_path.parent, self.checkpoint_path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.metrics_path, _csv_line(METRICS_COLUMNS))
        write_atomic(self.gradflow_path, _csv_line(GRADFLOW_COLUMNS))
        write_atomic(self.record_path, _to_json(record))

    def clear(self) -> None:
        """Remove every file that this tool wrote here, and nothing else."""
        written = [
            # the summary goes first: a half-cleared run must not look complete
            self.summary_path, self.diverged_path, self.checkpoint_path, self.last_weights_path,
            self.best_weights_path, self.predictions_path, self.metrics_path, self.gradflow_path,
            self.readme_path, self.attempts_path, self.record_path,
        ]  # fmt: skip
        for path in written:
            path.unlink(missing_ok=True)
        self.remove_leftovers()
        for folder in {path.parent for path in written}:
            if folder.is_dir():
                sync_folder(folder)  # or a power cut could bring an old checkpoint back under a new record

    def remove_leftovers(self) -> None:
        """Remove temporary files that an interrupted write left."""
        for folder in (self.path, self.last_weights_path.parent, self.checkpoint_path.parent):
            for path in temporary_files(folder):
                path.unlink(missing_ok=True)

    def append_metrics(self, row: Mapping[str, Cell]) -> None:
        """Append one epoch; `row` has every name of `METRICS_COLUMNS`."""
        append_durably(self.metrics_path, _csv_line([row[name] for name in METRICS_COLUMNS]))

    def append_gradflow(self, rows: Iterable[Mapping[str, Cell]]) -> None:
        """Append one epoch's layers; each row has every name of `GRADFLOW_COLUMNS`."""
        lines = [_csv_line([row[name] for name in GRADFLOW_COLUMNS]) for row in rows]
        append_durably(self.gradflow_path, b"".join(lines))

    def truncate_to_epoch(self, epoch: int) -> None:
        """Drop what was recorded after `epoch`, and a torn last line: the state that a checkpoint continues from."""
        for path, columns in ((self.metrics_path, METRICS_COLUMNS), (self.gradflow_path, GRADFLOW_COLUMNS)):
            lines = read_text_bytes(path).splitlines(keepends=True) if os.path.lexists(path) else []
            kept = [_csv_line(columns)]
            kept += [line for line in lines[1:] if line.endswith(b"\n") and _epoch_of(line) <= epoch]
            if kept != lines:
                write_atomic(path, b"".join(kept))

    def append_attempt(self, attempt: Attempt) -> None:
        """Note that a process starts to work on the run; a torn line that a crash left is dropped."""
        before = read_text_bytes(self.attempts_path) if os.path.lexists(self.attempts_path) else b""
        write_atomic(self.attempts_path, before[: before.rfind(b"\n") + 1] + encode_json(attempt) + b"\n")

    def write_predictions(self, predictions: Predictions) -> None:
        """Write predictions.npz."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, labels=predictions.labels, logits=predictions.logits)
        write_atomic(self.predictions_path, buffer.getvalue())

    def write_summary(self, summary: Summary, readme: str) -> None:
        """Write the page for people, then summary.json: after it the run is complete."""
        write_atomic(self.readme_path, readme.encode(errors="backslashreplace"))
        write_atomic(self.summary_path, _to_json(summary))

    def write_divergence(self, divergence: Divergence) -> None:
        """Write diverged.json: after it the run counts as diverged."""
        write_atomic(self.diverged_path, _to_json(divergence))

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Replace one of this directory's binary files (weights, checkpoint) atomically."""
        write_atomic(path, data)

    # ---------------------------------------------------------------- reading

    def read_record(self) -> RunRecord:
        """run.json; raises `RunFileError` when it is missing, damaged or of a newer schema."""
        try:
            self.record_path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            if not self.path.exists():
                raise RunFileError(f"{self.path} does not exist") from None
            raise RunFileError(f"{self.path} is not a run directory: it has no run.json") from None
        except OSError as error:
            raise RunFileError(f"{self.path} cannot be read: {one_line(error)}") from error
        record = read_json(self.record_path, RunRecord, SCHEMA_VERSION)
        check_record(self.record_path, record)
        return record

    def read_summary(self) -> Summary:
        """summary.json; raises `RunFileError` when it is missing or damaged."""
        return read_json(self.summary_path, Summary, SCHEMA_VERSION)

    def read_divergence(self) -> Divergence:
        """diverged.json; raises `RunFileError` when it is missing or damaged."""
        return read_json(self.diverged_path, Divergence, SCHEMA_VERSION)

    def read_attempts(self) -> list[Attempt]:
        """The processes that worked on the run, in order; a torn last line is left out; raises `RunFileError`."""
        if not os.path.lexists(self.attempts_path):
            return []
        lines = read_text_bytes(self.attempts_path).splitlines(keepends=True)
        try:
            return [msgspec.json.decode(line, type=Attempt) for line in lines if line.endswith(b"\n")]
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise RunFileError(f"{self.attempts_path} cannot be read: {one_line(error)}") from error

    def read_metrics(self) -> "pd.DataFrame":
        """metrics.csv, one row an epoch, all columns numeric; raises `RunFileError`."""
        return read_table(self.metrics_path, METRICS_COLUMNS, text=_TEXT_COLUMNS, whole=("epoch", "step"))

    def read_gradflow(self) -> "pd.DataFrame":
        """gradflow.csv, one row a layer and epoch; raises `RunFileError`."""
        return read_table(self.gradflow_path, GRADFLOW_COLUMNS, text=_TEXT_COLUMNS, whole=("epoch", "layer_index"))

    def read_predictions(self) -> Predictions:
        """predictions.npz; raises `RunFileError` when it is missing, damaged or not finite."""
        import numpy as np

        labels, logits = read_arrays(self.predictions_path, ("labels", "logits"))
        with np.errstate(over="ignore"):
            fits = (
                labels.ndim == 1 and logits.ndim == 2 and len(labels) == len(logits) and len(labels) > 0
                and labels.dtype.kind in "iu" and logits.dtype.kind == "f"
                and labels.min() >= 0 and labels.max() < logits.shape[1]
                and bool(np.isfinite(logits.astype(np.float32)).all())
            )  # fmt: skip
        if not fits:
            raise RunFileError(f"{self.predictions_path} does not hold test labels (N,) and finite logits (N, classes)")
        return Predictions(labels=labels.astype(np.int64), logits=logits.astype(np.float32))


def find_runs(paths: Iterable[str | os.PathLike[str]]) -> list[RunDir]:
    """The run directories among `paths` and in the folders among them, each once, in sorted order within a folder.

    A path that is itself a run directory is taken; any other folder is searched. Files beside
    folders are passed over, since `runs/*` names them too.

    Raises:
        InputError: a path does not exist, holds no run directory, or all paths are files.
    """
    found: dict[str, RunDir] = {}
    for path in _look_for(list(map(Path, paths))):
        found.setdefault(os.path.realpath(path), RunDir(path))
    return list(found.values())


def _look_for(all_given: list[Path]) -> Iterator[Path]:
    folders = [path for path in all_given if not os.path.isfile(path)]
    for given in folders or all_given:
        if not os.path.lexists(given):
            raise InputError(f"{given} does not exist")
        if not os.path.isdir(given):
            raise InputError(f"{given} is a file, not a run directory or a folder of them")
        inside = sorted(_search(given))
        if not inside:
            raise InputError(f"{given} is not a run directory and holds none: no run.json in it")
        yield from inside


def _search(folder: Path) -> Iterator[Path]:
    """The folders in `folder` that hold a run, held one before its run.json was lost, or cannot be looked into."""
    pending = [str(folder)]
    while pending:  # not recursive: folders may lie thousands deep
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                inside = list(entries)
        except OSError:
            yield Path(current)  # it is told of when it is read
            continue
        names = {entry.name for entry in inside}
        if "run.json" in names or names >= _WRITTEN_FIRST:
            yield Path(current)
        else:
            # links to folders are not followed, so a loop of links ends
            pending += [entry.path for entry in inside if entry.is_dir(follow_symlinks=False)]


def now() -> str:
    """The time as run directories hold it: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _to_json(value: Any) -> bytes:
    return json_text(value).encode()


def _epoch_of(line: bytes) -> float:
    """The epoch of a row of a CSV file; infinity when it begins with anything but a number."""
    first = line.partition(b",")[0]
    return int(first) if first.isdigit() and len(first) <= _MAX_DIGITS else math.inf


def _csv_line(cells: Iterable[Cell]) -> bytes:
    return (",".join("" if _is_missing(cell) else str(cell) for cell in cells) + "\n").encode()


def _is_missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
