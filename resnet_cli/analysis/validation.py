"""Refuses numbers that no run can have, before they are averaged or drawn beside those of others."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli.errors import RunFileError
from resnet_cli.rundir import METRICS_COLUMNS, Predictions, RunDir, Summary

if TYPE_CHECKING:
    import pandas as pd

    from resnet_cli.analysis.frames import Run

# Measures are means of float32 numbers, so none exceeds the largest of them.
_LARGEST = 3.4028235e38
_PERCENT = "_pct"
_LOSS = "_loss"
_WHOLE = ("epoch", "step")
_LAST_STAGE = 4  # of the linear layer


def check_summary(run: RunDir, summary: Summary) -> None:
    """Raise `RunFileError` when a measure of the last or the best epoch is out of its range; one may be missing."""
    path = run.summary_path
    for which, row in (("last", summary.last), ("best", summary.best)):
        for name in _WHOLE:
            if type(row.get(name)) is not int:
                raise RunFileError(f"{path}: {which}.{name} is {row.get(name, 'missing')}, not a whole number")
        _check_values(path, f"{which}.", {name: row.get(name) for name in METRICS_COLUMNS})
    totals = ("train_seconds", "eval_seconds", "peak_memory_bytes")
    _check_values(path, "", {name: getattr(summary, name) for name in totals})


def check_metrics(run: RunDir, metrics: "pd.DataFrame", summary: Summary) -> None:
    """Raise `RunFileError` when metrics.csv is not that of a run which ended as `summary` says, or out of range."""
    path = run.metrics_path
    if metrics.empty:
        raise RunFileError(f"{path} has no rows")
    steps = metrics["step"].diff().dropna()
    if not (metrics["epoch"].is_monotonic_increasing and metrics["epoch"].is_unique and (steps >= 0).all()):
        raise RunFileError(f"{path} does not hold one row an epoch, in order")
    if (end := metrics["epoch"].iloc[-1]) != summary.last["epoch"]:
        raise RunFileError(f"{path} ends with epoch {end}, the run with epoch {summary.last['epoch']}")
    for name in METRICS_COLUMNS:
        values = metrics[name].dropna()
        if name.endswith(_LOSS):  # the statistics of batch normalisation lag behind: a first test loss may overflow
            values = values[values.abs() != float("inf")]
        if len(values):
            _check_values(path, "", {name: float(values.min())})
            _check_values(path, "", {name: float(values.max())})


def check_gradflow(run: "Run", rows: "pd.DataFrame") -> None:
    """Raise `RunFileError` when gradient norms are not those of every layer in every epoch that was recorded."""
    path, depth = run.dir.gradflow_path, run.record.config.depth
    layers = rows.groupby("epoch")["layer_index"]
    is_whole = layers.nunique().eq(depth) & layers.size().eq(depth) & (layers.max() - layers.min()).eq(depth - 1)
    if not is_whole.all():
        raise RunFileError(f"{path} does not hold the {depth} layers of epoch {is_whole.idxmin()} once each")
    if not rows["stage"].between(0, _LAST_STAGE).all() or (rows["grad_norm"] < 0).any():
        raise RunFileError(f"{path} holds a stage or a norm that no network has")
    if run.summary is not None and rows["epoch"].max() > (run.summary.last["epoch"] or 0):
        raise RunFileError(f"{path} goes on to epoch {rows['epoch'].max()}, after the last one of the run")


def check_predictions(run: "Run", predictions: Predictions) -> None:
    """Raise `RunFileError` when predictions are not of the classes of the run."""
    found, expected = predictions.logits.shape[1], len(run.record.dataset.classes)
    if found != expected:
        raise RunFileError(f"{run.dir.predictions_path} holds outputs of {found} classes, the run has {expected}")


def _check_values(path: Path, prefix: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        high = 100.0 if name.endswith(_PERCENT) else _LARGEST
        if value is not None and not 0 <= value <= high:
            raise RunFileError(f"{path}: {prefix}{name} {value:g} is not between 0 and {high:g}")
