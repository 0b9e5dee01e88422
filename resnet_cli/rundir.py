"""The only reader and writer of run-directory files."""

import datetime
import io
import math
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from resnet_cli.config import RunConfig
from resnet_cli.errors import InputError, RunFileError, RunLockedError
from resnet_cli.files import append_durably, temporary_files, write_atomic
from resnet_cli.rundir_reading import one_line, read_arrays, read_json, read_table, read_text_bytes

if TYPE_CHECKING:
    import filelock
    import numpy as np
    import pandas as pd

SCHEMA_VERSION = 1

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


class DatasetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was trained and tested on."""

    name: str
    """As on the command line: `cifar10`, `digits` …"""
    display_name: str
    """As in tables: `CIFAR-10`, `CIFAR-10 (JPEG)` …"""
    fingerprint: str
    """SHA-256 (hex) over pixels and labels of the training (with validation) and test images."""
    num_train: int
    num_val: int
    num_test: int
    classes: tuple[str, ...]
    image_size: int
    """Height and width in pixels."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0 … 1."""
    std: tuple[float, ...]
    location: str | None = None
    """The folder that the images were read from; None for embedded data."""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The network of a run."""

    arch: str
    depth: int
    shortcut: str
    num_classes: int
    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and the linear layer, forward, one image."""


class Decision(msgspec.Struct, frozen=True):
    """Something the tool chose by itself, and why."""

    value: str
    reason: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: the identity of a run, written once."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created_at: str
    """ISO 8601, UTC."""
    argv: tuple[str, ...]
    tool_version: str
    config: RunConfig
    environment: dict[str, str | int | bool | None]
    dataset: DatasetRecord
    model: ModelRecord
    decisions: dict[str, Decision]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json: the result of a complete run."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    finished_at: str
    last: dict[str, float | int | None]
    """The last row of metrics.csv."""
    best: dict[str, float | int | None]
    """The row of metrics.csv with the lowest error on `best_chosen_on`; the earliest of equals."""
    best_chosen_on: Literal["val", "test"]
    train_seconds: float
    eval_seconds: float
    peak_memory_bytes: int | None


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """diverged.json: where a run stopped because its loss was not finite."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    finished_at: str
    epoch: int
    step: int
    lr: float


class Sitting(msgspec.Struct, frozen=True, kw_only=True):
    """A line of sittings.jsonl: a process that worked on the run."""

    started_at: str
    argv: tuple[str, ...]
    tool_version: str
    step: int
    """Optimizer steps that were done before."""
    environment: dict[str, str | int | bool | None]
    decisions: dict[str, Decision]


class Predictions(msgspec.Struct, frozen=True):
    """Test labels and outputs in dataset order."""

    labels: "np.ndarray[Any, np.dtype[np.int64]]"  # (N,)
    logits: "np.ndarray[Any, np.dtype[np.float32]]"  # (N, classes)


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
        self.sittings_path = self.path / "sittings.jsonl"
        self.last_weights_path = self.path / "weights" / "last.safetensors"
        self.best_weights_path = self.path / "weights" / "best.safetensors"
        self.checkpoint_path = self.path / "checkpoints" / "resume.safetensors"

    # ------------------------------------------------------------------ state

    def exists(self) -> bool:
        """Whether this is a run directory, that is, whether it has a run.json."""
        return self.record_path.is_file()

    def status(self) -> Status:
        """Derived from the files: summary.json means complete, diverged.json diverged, a held lock running."""
        if self.summary_path.is_file():
            return "complete"
        if self.diverged_path.is_file():
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
            self.readme_path, self.sittings_path, self.record_path,
        ]  # fmt: skip
        for path in written:
            path.unlink(missing_ok=True)
        self.remove_leftovers()

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
            try:
                lines = path.read_bytes().splitlines(keepends=True)
            except FileNotFoundError:
                lines = []
            kept = [_csv_line(columns)]
            kept += [
                line
                for line in lines[1:]
                if line.endswith(b"\n") and line.partition(b",")[0].isdigit() and int(line.partition(b",")[0]) <= epoch
            ]
            if kept != lines:
                write_atomic(path, b"".join(kept))

    def append_sitting(self, sitting: Sitting) -> None:
        """Note that a process starts to work on the run."""
        append_durably(self.sittings_path, msgspec.json.encode(sitting) + b"\n")

    def write_predictions(self, predictions: Predictions) -> None:
        """Write predictions.npz."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, labels=predictions.labels, logits=predictions.logits)
        write_atomic(self.predictions_path, buffer.getvalue())

    def write_summary(self, summary: Summary, readme: str) -> None:
        """Write the page for people, then summary.json: after it the run is complete."""
        write_atomic(self.readme_path, readme.encode())
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
        if not os.path.lexists(self.record_path):
            if not self.path.exists():
                raise RunFileError(f"{self.path} does not exist")
            raise RunFileError(f"{self.path} is not a run directory: it has no run.json")
        record = read_json(self.record_path, RunRecord, SCHEMA_VERSION)
        _check_record(self.record_path, record)
        return record

    def read_summary(self) -> Summary:
        """summary.json; raises `RunFileError` when it is missing or damaged."""
        return read_json(self.summary_path, Summary, SCHEMA_VERSION)

    def read_divergence(self) -> Divergence:
        """diverged.json; raises `RunFileError` when it is missing or damaged."""
        return read_json(self.diverged_path, Divergence, SCHEMA_VERSION)

    def read_sittings(self) -> list[Sitting]:
        """The processes that worked on the run, in order; a torn last line is left out; raises `RunFileError`."""
        if not os.path.lexists(self.sittings_path):
            return []
        lines = read_text_bytes(self.sittings_path).splitlines(keepends=True)
        try:
            return [msgspec.json.decode(line, type=Sitting) for line in lines if line.endswith(b"\n")]
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise RunFileError(f"{self.sittings_path} cannot be read: {one_line(error)}") from error

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
            single = logits.astype(np.float32) if logits.dtype.kind == "f" else np.empty(0, np.float32)
        fits = (
            labels.ndim == 1 and single.ndim == 2 and len(labels) == len(single) and len(labels) > 0
            and labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < single.shape[1]
            and bool(np.isfinite(single).all())
        )  # fmt: skip
        if not fits:
            raise RunFileError(
                f"{self.predictions_path} does not hold test labels (N,) and finite logits (N, classes)"
            )
        return Predictions(labels=labels.astype(np.int64), logits=single)


def find_runs(paths: Iterable[str | os.PathLike[str]]) -> list[RunDir]:
    """The run directories among `paths` and in the folders among them, each once, in sorted order within a folder.

    A path that is itself a run directory is taken; any other folder is searched. Files beside
    folders are passed over, since `runs/*` names them too.

    Raises:
        InputError: a path does not exist, holds no run directory, or all paths are files.
    """
    found: dict[Path, RunDir] = {}
    all_given = [Path(path) for path in paths]
    folders = [path for path in all_given if not path.is_file()]
    for given in folders or all_given:
        if not given.exists():
            raise InputError(f"{given} does not exist")
        if not given.is_dir():
            raise InputError(f"{given} is a file, not a run directory or a folder of them")
        inside = [given] if (given / "run.json").exists() else sorted(_search(given))
        if not inside:
            raise InputError(f"{given} is not a run directory and holds none: no run.json in it")
        for path in inside:
            found.setdefault(path.resolve(), RunDir(path))
    return list(found.values())


def _search(folder: Path) -> Iterable[Path]:
    # os.walk does not follow links to folders, so a loop of links ends
    for parent, folders, files in os.walk(folder):
        if "run.json" in files:
            folders.clear()
            yield Path(parent)


def now() -> str:
    """The time as run directories hold it: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _to_json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _from_json(path: Path, kind: type[T]) -> T:
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise RunFileError(
                f"{path} has schema version {version}, newer than {SCHEMA_VERSION}", hint="upgrade this tool"
            )
        return msgspec.json.decode(data, type=kind)
    except RunFileError:
        raise
    except (OSError, msgspec.MsgspecError, ResnetError, UnicodeDecodeError, RecursionError) as error:
        raise RunFileError(f"{path} cannot be read: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _csv_line(cells: Iterable[Cell]) -> bytes:
    return (",".join("" if _is_missing(cell) else str(cell) for cell in cells) + "\n").encode()


def _is_missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _read_csv(path: Path, columns: tuple[str, ...]) -> "pd.DataFrame":
    import pandas as pd

    kinds = {name: "str" if name in _TEXT_COLUMNS else "float64" for name in columns}
    try:
        frame = pd.read_csv(path, dtype=kinds, encoding="utf-8")
    except FileNotFoundError:
        raise RunFileError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise RunFileError(f"{path} cannot be read: {_one_line(error)}") from error
    if tuple(frame.columns) != columns:
        raise RunFileError(f"{path} does not have the columns {', '.join(columns)}")
    whole = [name for name in ("epoch", "step", "layer_index") if name in columns]
    if frame[whole].isna().any(axis=None):
        raise RunFileError(f"{path} has a row without {' or '.join(whole)}")
    return frame.astype(dict.fromkeys(whole, "int64"))
