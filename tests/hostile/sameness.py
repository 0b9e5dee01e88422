"""Checksums of everything that its configuration determines in a run directory, and a check that it is readable."""

import hashlib
import json

from safetensors.numpy import load

from resnet_cli.rundir import METRICS_COLUMNS, RunDir
from resnet_cli.util.checksum import read_metadata
from resnet_cli.util.files import temporary_files
from resnet_cli.weights import read_weights

# what depends on the clock or the process, not on the numbers
CLOCK_COLUMNS = frozenset({"images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes"})


def parts(run: RunDir) -> dict[str, str]:
    """SHA-256 (hex) of the metrics without the clock, gradient flow, predictions, both weights and the last state."""
    return {
        "metrics.csv": _sha256(_without_clock(run.metrics_path.read_bytes())),
        "gradflow.csv": _sha256(run.gradflow_path.read_bytes()),
        "predictions.npz": _sha256(run.predictions_path.read_bytes()),
        "best.safetensors": _sha256(run.best_weights_path.read_bytes()),
        "last.safetensors": _sha256(run.last_weights_path.read_bytes()),
        "weights, momentum and statistics": _tensors(run.checkpoint_path.read_bytes()),
        "position": _sha256(_position(run.checkpoint_path.read_bytes())),
    }


def together(run: RunDir) -> str:
    """One checksum over all parts."""
    return _sha256(json.dumps(parts(run), sort_keys=True).encode())


def step_of(run: RunDir) -> int:
    """Optimizer steps taken before the checkpoint."""
    return int(json.loads(read_metadata(run.checkpoint_path.read_bytes())["state"])["step"])


def leftovers(run: RunDir) -> list[str]:
    """Temporary files of interrupted writes."""
    folders = (run.path, run.last_weights_path.parent, run.checkpoint_path.parent)
    return [path.name for folder in folders for path in temporary_files(folder)]


def assert_readable(run: RunDir) -> None:
    """Check that every file is either readable or absent."""
    for path, read in {
        run.record_path: run.read_record, run.metrics_path: run.read_metrics, run.gradflow_path: run.read_gradflow,
        run.summary_path: run.read_summary, run.predictions_path: run.read_predictions,
        run.attempts_path: run.read_attempts, run.last_weights_path: lambda: read_weights(run.last_weights_path),
        run.best_weights_path: lambda: read_weights(run.best_weights_path),
    }.items():  # fmt: skip
        if path.exists():
            read()
    assert run.status() in ("empty", "incomplete", "complete")


def _without_clock(table: bytes) -> bytes:
    kept = [i for i, name in enumerate(METRICS_COLUMNS) if name not in CLOCK_COLUMNS]
    rows = [line.split(b",") for line in table.splitlines()]
    return b"\n".join(b",".join(row[i] for i in kept) for row in rows)


def _tensors(data: bytes) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(load(data).items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _position(data: bytes) -> bytes:
    state = json.loads(read_metadata(data)["state"])
    return json.dumps([state[name] for name in ("config", "step", "epochs_done", "num_seen", "scaler")]).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
