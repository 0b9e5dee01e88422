"""Reading and writing the files of a run; only this package does either."""

import contextlib
import io
import math
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import astuple

from resnet_cli.errors import RunFileError, UsageError
from resnet_cli.rundir.lock import RunLock
from resnet_cli.rundir.reading import (
    read_arrays,
    read_json,
    read_json_lines,
    read_last_row,
    read_rows,
    read_text_bytes,
    to_frame,
)
from resnet_cli.rundir.records import (
    Attempt,
    Divergence,
    EpochMetrics,
    FileState,
    GradflowRow,
    Predictions,
    RunRecord,
    Summary,
)
from resnet_cli.util.files import append_durably, file_sha256, sync_folder, temporary_files, write_atomic
from resnet_cli.util.text import encode_json, json_text, one_line

if TYPE_CHECKING:
    import filelock
    import pandas as pd


Status = Literal["complete", "diverged", "running", "incomplete", "empty"]


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
        self._lock = RunLock(self.path)
        self.lock_path, self.holder_path = self._lock.path, self._lock.holder_path
        self.attempts_path = self.path / "attempts.jsonl"
        self.init_weights_path = self.path / "weights" / "init.safetensors"
        self.last_weights_path = self.path / "weights" / "last.safetensors"
        self.best_weights_path = self.path / "weights" / "best.safetensors"
        self.checkpoint_path = self.path / "checkpoints" / "resume.safetensors"

    def exists(self) -> bool:
        """Whether this is a run directory, that is, whether it has a run.json."""
        return os.path.lexists(self.record_path)

    def file_sizes(self) -> dict[str, int]:
        """Sizes in bytes of the regular files in this directory, by relative path, in alphabetical order."""
        sizes: dict[str, int] = {}
        pending = [""]
        while pending:  # not recursive: folders may be nested thousands deep
            folder = pending.pop()
            with contextlib.suppress(OSError), os.scandir(self.path / folder) as entries:
                for entry in entries:
                    name = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{name}/")
                    elif entry.is_file(follow_symlinks=False):
                        sizes[name] = entry.stat(follow_symlinks=False).st_size
        return dict(sorted(sizes.items()))

    def status(self) -> Status:
        """Derive the status: summary.json means complete, diverged.json means diverged, a held lock means running."""
        if os.path.lexists(self.summary_path):
            return "complete"
        if os.path.lexists(self.diverged_path):
            return "diverged"
        if not self.exists():
            return "empty"
        return "running" if self._lock.is_held() else "incomplete"

    def lock(self) -> "filelock.BaseFileLock":
        """Lock the run for this process, until the lock is released or the process ends.

        Raises:
            UsageError: another process holds the lock, or a subfolder is a link, which may lead anywhere.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.last_weights_path.parent, self.checkpoint_path.parent):
            if folder.is_symlink():
                raise UsageError(f"{folder} is a link", hint="replace it with a folder, or choose another --out")
        return self._lock.acquire()

    def has_lock(self) -> bool:
        """Whether the file that `lock` locked is still in its place: if not, another process can lock the run."""
        return self._lock.is_in_place()

    def _write(self, path: Path, data: bytes) -> None:
        self._lock.check()
        write_atomic(path, data)

    def _append(self, path: Path, data: bytes) -> None:
        self._lock.check()
        append_durably(path, data)

    def create(self, record: RunRecord) -> None:
        """Create the folders, run.json and CSV files without rows."""
        for folder in (self.last_weights_path.parent, self.checkpoint_path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        for path, row in self._tables():
            self._write(path, _csv_line(row.__struct_fields__))
        self._write(self.record_path, json_text(record).encode())

    def _tables(self) -> list[tuple[Path, type[EpochMetrics] | type[GradflowRow]]]:
        return [(self.metrics_path, EpochMetrics), (self.gradflow_path, GradflowRow)]

    def clear(self) -> None:
        """Remove every file that this tool wrote here, and nothing else."""
        self._lock.check()
        # the summary goes first: a half-cleared run must not look complete
        written = [
            self.summary_path, self.diverged_path, self.checkpoint_path, self.init_weights_path,
            self.last_weights_path, self.best_weights_path, self.predictions_path, self.metrics_path,
            self.gradflow_path, self.readme_path, self.attempts_path, self.record_path,
        ]  # fmt: skip
        for path in written:
            path.unlink(missing_ok=True)
        self.remove_leftovers()
        for folder in {path.parent for path in written}:
            if folder.is_dir():
                sync_folder(folder)  # otherwise a power failure could restore an old checkpoint next to a new record

    def remove_leftovers(self) -> None:
        """Remove temporary files of interrupted writes."""
        for folder in (self.path, self.last_weights_path.parent, self.checkpoint_path.parent):
            for path in temporary_files(folder):
                path.unlink(missing_ok=True)

    def append_metrics(self, row: EpochMetrics) -> None:
        """Append one epoch to metrics.csv."""
        self._append(self.metrics_path, _csv_line(astuple(row)))

    def append_gradflow(self, rows: Iterable[GradflowRow]) -> None:
        """Append the layers of one epoch to gradflow.csv."""
        self._append(self.gradflow_path, b"".join(_csv_line(astuple(row)) for row in rows))

    def table_states(self) -> dict[str, FileState]:
        """Describe the content of both CSV files, for a checkpoint; the keys are file names."""
        contents = {path.name: read_text_bytes(path) for path, _ in self._tables()}
        return {name: FileState(len(data), sha256(data).hexdigest()) for name, data in contents.items()}

    def restore_tables(self, states: dict[str, FileState] | None) -> None:
        """Cut both CSV files back to their content at a checkpoint; None removes all rows.

        Raises:
            RunFileError: a file is missing or does not begin with that content.
        """
        for path, row in self._tables():
            if states is None:
                self._write(path, _csv_line(row.__struct_fields__))
                continue
            state, data = states[path.name], read_text_bytes(path)
            kept = data[: state.num_bytes]
            if len(kept) != state.num_bytes or sha256(kept).hexdigest() != state.sha256:
                raise RunFileError(
                    f"{path} was changed since the checkpoint was saved",
                    hint="restore the file, or use --overwrite to start from scratch",
                )
            if kept != data:
                self._write(path, kept)

    def hash_results(self) -> dict[str, str]:
        """SHA-256 (hex) of the files of the result that exist, by path within the directory, for the summary."""
        results = [
            self.metrics_path, self.gradflow_path, self.predictions_path, self.last_weights_path,
            self.best_weights_path,
        ]  # fmt: skip
        hashes = {}
        for path in results:
            if path.is_file():
                hashes[path.relative_to(self.path).as_posix()] = file_sha256(path)
        return hashes

    def append_attempt(self, attempt: Attempt) -> None:
        """Add a line to attempts.jsonl, replacing a partial last line that a crash may have left."""
        before = read_text_bytes(self.attempts_path) if os.path.lexists(self.attempts_path) else b""
        self._write(self.attempts_path, before[: before.rfind(b"\n") + 1] + encode_json(attempt) + b"\n")

    def write_predictions(self, predictions: Predictions) -> None:
        """Write predictions.npz."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, labels=predictions.labels, logits=predictions.logits)
        self._write(self.predictions_path, buffer.getvalue())

    def write_summary(self, summary: Summary, readme: str) -> None:
        """Write README.md, then summary.json, which marks the run as complete."""
        self._write(self.readme_path, readme.encode(errors="backslashreplace"))
        self._write(self.summary_path, json_text(summary).encode())

    def write_divergence(self, divergence: Divergence) -> None:
        """Write diverged.json, which marks the run as diverged."""
        self._write(self.diverged_path, json_text(divergence).encode())

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Replace one of this directory's binary files (weights, checkpoint) atomically; its folder may be missing."""
        self._lock.check()
        path.parent.mkdir(exist_ok=True)
        self._write(path, data)

    def read_record(self) -> RunRecord:
        """Read run.json; raises `RunFileError` when it is missing, damaged or of a newer schema."""
        try:
            self.record_path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            problem = "is not a run directory: it has no run.json" if self.path.exists() else "does not exist"
            raise RunFileError(f"{self.path} {problem}") from None
        except OSError as error:
            raise RunFileError(f"{self.path} cannot be read: {one_line(error)}") from error
        return read_json(self.record_path, RunRecord)

    def read_summary(self) -> Summary:
        """Read summary.json; raises `RunFileError` when it is missing or damaged."""
        return read_json(self.summary_path, Summary)

    def read_divergence(self) -> Divergence:
        """Read diverged.json; raises `RunFileError` when it is missing or damaged."""
        return read_json(self.diverged_path, Divergence)

    def read_end(self, record: RunRecord) -> Summary | Divergence | None:
        """Read the result of a complete or diverged run; None for an unfinished one.

        Raises:
            RunFileError: the file is damaged or belongs to a different run than `record`.
        """
        status = self.status()
        if status not in ("complete", "diverged"):
            return None
        end = self.read_summary() if status == "complete" else self.read_divergence()
        if end.run_id != record.run_id:
            path = self.summary_path if status == "complete" else self.diverged_path
            raise RunFileError(f"{path} belongs to a different run than run.json")
        return end

    def read_attempts(self) -> list[Attempt]:
        """Read attempts.jsonl: the processes that trained the run, in order; raises `RunFileError`."""
        return read_json_lines(self.attempts_path, Attempt) if os.path.lexists(self.attempts_path) else []

    def check_hash(self, path: Path, summary: Summary | None) -> None:
        """Raise `RunFileError` unless `path` has the content that `summary` recorded."""
        if summary is None:
            return
        expected = summary.files.get(path.relative_to(self.path).as_posix())
        if expected is None or not path.is_file():
            return  # the reader of a missing file says so
        if file_sha256(path) != expected:
            raise RunFileError(
                f"{path} is not the file that this run wrote: its SHA-256 differs from the one in summary.json"
            )

    def read_metrics(self, summary: Summary | None = None) -> "pd.DataFrame":
        """Read metrics.csv as a frame of numbers with one row per epoch.

        Args:
            summary: result of the complete run: its hash must match, and the table must end with its last epoch
                (None: not checked).

        Raises:
            RunFileError: the file is missing, damaged or changed, or its epochs are out of order.
        """
        self.check_hash(self.metrics_path, summary)
        path, frame = self.metrics_path, to_frame(self.read_epochs(), EpochMetrics)
        epochs, steps = frame["epoch"], frame["step"]
        if not (epochs.is_monotonic_increasing and epochs.is_unique and steps.is_monotonic_increasing):
            raise RunFileError(f"{path} does not have one row per epoch, in order")
        if summary is not None and epochs.tolist()[-1:] != [summary.last.epoch]:
            raise RunFileError(f"{path} does not end with epoch {summary.last.epoch}, the last one of the run")
        return frame

    def read_epochs(self) -> list[EpochMetrics]:
        """Read metrics.csv as typed rows; raises `RunFileError` when it is missing or damaged."""
        return read_rows(self.metrics_path, EpochMetrics)

    def read_last_epoch(self) -> EpochMetrics | None:
        """Read only the last row of metrics.csv; None if it has no row. Raises `RunFileError` as `read_epochs` does."""
        return read_last_row(self.metrics_path, EpochMetrics)

    def read_gradflow(self, depth: int | None = None, summary: Summary | None = None) -> "pd.DataFrame":
        """Read gradflow.csv as a frame with one row per layer and recorded epoch.

        Args:
            depth: number of weighted layers; each recorded epoch must have each of them once (None: not checked).
            summary: result of the complete run: its hash must match, and no row may come after its last epoch
                (None: not checked).

        Raises:
            RunFileError: the file is missing, damaged or changed, or its rows do not fit the run.
        """
        self.check_hash(self.gradflow_path, summary)
        path, frame = self.gradflow_path, to_frame(read_rows(self.gradflow_path, GradflowRow), GradflowRow)
        layers = frame.groupby("epoch")["layer_index"]
        if depth is not None and len(frame):
            span = layers.max() - layers.min() + 1
            is_whole = (layers.nunique() == depth) & (layers.size() == depth) & (span == depth)
            if not is_whole.all():
                raise RunFileError(f"{path} does not have each of the {depth} layers once in epoch {is_whole.idxmin()}")
        if summary is not None and len(frame) and frame["epoch"].max() > summary.last.epoch:
            raise RunFileError(f"{path} has rows of epoch {frame['epoch'].max()}, after the last one of the run")
        return frame

    def read_predictions(self, num_classes: int | None = None, summary: Summary | None = None) -> Predictions:
        """Read predictions.npz.

        Args:
            num_classes: number of classes that the outputs must have (None: not checked).
            summary: result of the complete run: its hash must match (None: not checked).

        Raises:
            RunFileError: the file is missing, damaged or changed, or contains anything but labels and finite outputs.
        """
        import numpy as np

        self.check_hash(self.predictions_path, summary)
        path = self.predictions_path
        labels, logits = read_arrays(path, ("labels", "logits"))
        with np.errstate(over="ignore"):
            fits = (
                labels.ndim == 1 and logits.ndim == 2 and len(labels) == len(logits) and len(labels) > 0
                and labels.dtype.kind in "iu" and logits.dtype.kind == "f"
                and labels.min() >= 0 and labels.max() < logits.shape[1]
                and bool(np.isfinite(logits.astype(np.float32)).all())
            )  # fmt: skip
        if not fits:
            raise RunFileError(f"{path} does not contain test labels (N,) and finite logits (N, classes)")
        if num_classes is not None and logits.shape[1] != num_classes:
            raise RunFileError(f"{path} has outputs for {logits.shape[1]} classes, but the run has {num_classes}")
        return Predictions(labels=labels.astype(np.int64), logits=logits.astype(np.float32))


def _csv_line(cells: Iterable[float | str | None]) -> bytes:
    texts = ("" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell) for cell in cells)
    return (",".join(texts) + "\n").encode()
