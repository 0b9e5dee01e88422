"""Runs as TensorBoard event files: scalars, gradient flow, figures and hyperparameters.

Importing it needs no TensorBoard; calling it needs the extra `tensorboard`.
"""

import datetime
import hashlib
import io
import itertools
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli.analysis.frames import load_study
from resnet_cli.errors import InputError, ResnetError, RunFileError
from resnet_cli.rundir import EpochMetrics, GradflowRow, RunDir, RunRecord
from resnet_cli.rundir.reading import read_rows
from resnet_cli.util.files import check_folder, temporary_files, write_atomic
from resnet_cli.util.text import shorten, value_text

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

SCALARS = {
    "train_loss": "loss/train", "train_clean_loss": "loss/train_clean",
    "val_loss": "loss/val", "test_loss": "loss/test",
    "train_error_pct": "error_pct/train", "train_clean_error_pct": "error_pct/train_clean",
    "val_error_pct": "error_pct/val", "test_error_pct": "error_pct/test",
    "lr": "training/lr", "images_per_second": "training/images_per_second",
    "peak_memory_bytes": "training/peak_memory_bytes",
}  # fmt: skip
"""Tag of each column of metrics.csv; the step is the epoch."""

# Measures of gradflow.csv that can be compared between layers; docs/claims.md says why raw norms cannot.
_GRADFLOW = ("scale_free_grad_norm", "update_to_weight_ratio")
_METRICS = ("error_pct/test", "error_pct/train_clean")
# TensorBoard reads the files with this in their names, in alphabetical order.
_EVENTS = "tfevents"
_FILE_VERSION = "brain.Event:2"  # the first event of every file
_DPI = 100
_RGBA = 4  # number of the colour space in summary.proto


def encode(events: "Iterable[Event]") -> bytes:
    """Encode events as records of an event file."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def _start_events(record: RunRecord, now: float) -> "list[Event]":
    """The first events of a file: a restart, which drops the events of earlier files, and the configuration."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    return [
        Event(wall_time=now, file_version=_FILE_VERSION),
        Event(wall_time=now, step=0, session_log=SessionLog(status=SessionLog.START)),
        _event(now, 0, _hyperparameters(record, now)),
    ]


def epoch_event(metrics: EpochMetrics, wall_time: float) -> "Event":
    """The measured columns of one row of metrics.csv, as scalars."""
    values = {tag: getattr(metrics, column) for column, tag in SCALARS.items()}
    return _event(wall_time, metrics.epoch, _scalars(values))


def gradflow_event(rows: Sequence[GradflowRow], wall_time: float) -> "Event":
    """The layers of one epoch of gradflow.csv, as scalars whose tags sort in the order of the layers."""
    values = {
        f"{measure}/{row.layer_index:04d}_{row.layer}": getattr(row, measure) for row in rows for measure in _GRADFLOW
    }
    return _event(wall_time, rows[0].epoch, _scalars(values))


def end_event(run: RunDir, wall_time: float, epoch: int) -> "Event":
    """The figures of a run and its status."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    images = []
    for name, png in _figures(run).items():
        width, height = struct.unpack(">II", png[16:24])  # of the header
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=_RGBA)
        images.append(Summary.Value(tag=f"figures/{name}", image=image))
    return _event(wall_time, epoch, [*images, _session_end(run)])


def _event(wall_time: float, step: int, values: "list[Summary.Value]") -> "Event":
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=wall_time, step=step, summary=Summary(value=values))


def _scalars(values: dict[str, float | None]) -> "list[Summary.Value]":
    from tensorboard.compat.proto.summary_pb2 import Summary

    return [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None]


def _hyperparameters(record: RunRecord, now: float) -> "list[Summary.Value]":
    """The set fields of the configuration, the source of given weights, and the scalars to show next to them."""
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    start, infos = SessionStartInfo(start_time_secs=now), []
    initial = {"init_from": record.init_from.path} if record.init_from else {}
    for name, value in {**record.config.to_dict(), **initial}.items():
        if value is None:
            continue
        if isinstance(value, bool):
            start.hparams[name].bool_value, kind = value, DataType.DATA_TYPE_BOOL
        elif isinstance(value, int | float):
            start.hparams[name].number_value, kind = value, DataType.DATA_TYPE_FLOAT64
        else:
            start.hparams[name].string_value, kind = value_text(value), DataType.DATA_TYPE_STRING
        infos.append(HParamInfo(name=name, type=kind))
    metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in _METRICS]
    experiment = Experiment(hparam_infos=infos, metric_infos=metrics)
    return [
        _plugin_value(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
        _plugin_value(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
    ]


def _session_end(run: RunDir) -> "Summary.Value":
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    states = {"complete": Status.STATUS_SUCCESS, "diverged": Status.STATUS_FAILURE}
    end = SessionEndInfo(status=states.get(run.status(), Status.STATUS_RUNNING))
    return _plugin_value(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _plugin_value(tag: str, data: Any) -> "Summary.Value":
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    return Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)


def _figures(run: RunDir) -> dict[str, bytes]:
    """The figures that a single run supports, as PNG images; none before its first epoch."""
    from resnet_cli.analysis.figures import draw
    from resnet_cli.analysis.figures.style import house_style

    try:
        drawn, _ = draw(load_study([run.path], with_metrics=True))
    except ResnetError:
        return {}
    images = {}
    for one in drawn:
        buffer = io.BytesIO()
        with house_style():
            one.figure.savefig(buffer, format="png", dpi=_DPI)
        images[one.name] = buffer.getvalue()
    return images


def past_events(run: RunDir) -> "tuple[list[Event], float]":
    """The events of a run up to its last epoch, and the time of the last one in seconds since 1970.

    Times are the start of the run plus the time spent on its epochs, without interruptions.

    Raises:
        RunFileError: a file of the run cannot be read.
    """
    record = run.read_record()
    try:
        now = datetime.datetime.fromisoformat(record.created_at).timestamp()
    except (ValueError, OverflowError) as error:
        raise RunFileError(
            f"{run.record_path}: created_at is not a time: {shorten(repr(record.created_at), 60)}"
        ) from error
    rows = read_rows(run.gradflow_path, GradflowRow) if os.path.lexists(run.gradflow_path) else []
    gradients = {epoch: list(layers) for epoch, layers in itertools.groupby(rows, key=lambda row: row.epoch)}
    events = _start_events(record, now)
    if 0 in gradients:
        events.append(gradflow_event(gradients[0], now))
    for metrics in run.read_epochs():
        now += epoch_seconds(metrics)
        events.append(epoch_event(metrics, now))
        if metrics.epoch in gradients:
            events.append(gradflow_event(gradients[metrics.epoch], now))
    return events, now


def epoch_seconds(metrics: EpochMetrics) -> float:
    """Time spent on an epoch."""
    return metrics.train_seconds + metrics.eval_seconds


def export_runs(
    runs: Sequence[RunDir], out: Path, *, warn: Callable[[str], None] = warnings.warn
) -> dict[Path, RunDir]:
    """Write one event file per run, in a subfolder of `out` with the name of the run.

    Args:
        runs: runs in any state.
        out: folder, created if missing. Files of an earlier export are replaced.
        warn: receives one line for each of several runs that cannot be read.

    Returns:
        The event files and their runs.

    Raises:
        UsageError: a file is in the place of `out` or of a parent.
        RunFileError: a file of the only run cannot be read.
        InputError: none of several runs can be read.
    """
    check_folder("--out", out)
    written = {}
    for run, name in zip(runs, _names(runs), strict=True):
        try:
            events, now = past_events(run)
        except RunFileError as error:
            if len(runs) == 1:
                raise
            warn(f"skipped: {error}")
            continue
        epoch = max(event.step for event in events)
        path = event_path(run, out / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encode([*events, end_event(run, now, epoch)]))
        if run.status() != "running":  # its process may be writing to one of them
            remove_other_events(path)
        written[path] = run
    if runs and not written:
        raise InputError(f"none of the {len(runs)} runs can be read")
    return written


def event_path(run: RunDir, folder: Path, *, time_ns: int = 0) -> Path:
    """Choose the path of a new event file: in `folder`, or next to it if that has events of anything else.

    Args:
        run: the run. Its path is part of the name of the file, in the form of a hash.
        folder: contains only events of this run afterwards, since TensorBoard would mix them with others.
        time_ns: when the file was started, since 1970; TensorBoard lets a later file replace an earlier one.
    """
    owner = hashlib.sha256(os.fsencode(os.path.realpath(run.path))).hexdigest()[:8]
    ending = f".{owner}.resnet-cli"
    if any(not name.endswith(ending) for name in _event_files(folder)):
        folder = folder.with_name(f"{folder.name}-{owner}")
    return folder / f"events.out.{_EVENTS}.{time_ns:020d}{ending}"


def remove_other_events(path: Path) -> None:
    """Remove what `path`, which `event_path` chose, supersedes: files of the same run, and parts of killed exports."""
    others = [path.parent / name for name in _event_files(path.parent) if name != path.name]
    for other in (*others, *temporary_files(path.parent)):
        other.unlink(missing_ok=True)


def _event_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    temporary = {path.name for path in temporary_files(folder)}
    return [name for name in os.listdir(folder) if _EVENTS in name and name not in temporary]


def _names(runs: Sequence[RunDir]) -> list[str]:
    """The names of the runs, or their paths below a common folder where two have the same name."""
    paths = [os.path.realpath(run.path) for run in runs]
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [os.path.relpath(path, os.path.commonpath(paths)) for path in paths]
