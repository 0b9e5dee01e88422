"""A reporter that writes TensorBoard event files while a run trains."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.analysis.tensorboard import (
    encode,
    end_event,
    epoch_event,
    epoch_seconds,
    event_path,
    gradflow_event,
    past_events,
    remove_other_events,
)
from resnet_cli.rundir import EpochMetrics, GradflowRow, RunDir, RunRecord, Summary
from resnet_cli.session.reporter import Reporter, Start
from resnet_cli.util.extras import require_extra
from resnet_cli.util.files import append_durably, check_folder

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event


class TensorBoardReporter(Reporter):
    """Writes the events of a run to a subfolder with its name; an attempt that resumes it starts a new file.

    Args:
        folder: the subfolder is created in it.

    Raises:
        UsageError: the extra `tensorboard` is not installed, or a file is in the place of `folder`.
    """

    def __init__(self, folder: Path) -> None:
        require_extra("tensorboard", "--tensorboard")
        check_folder("--tensorboard-dir", folder)
        self._folder = folder

    def started(self, record: RunRecord, path: Path, start: Start) -> None:
        """Start a file, with the epochs of earlier attempts."""
        self._run = RunDir(path)
        events, self._now = past_events(self._run)
        folder = self._folder / os.path.basename(os.path.realpath(path))
        self._path = event_path(self._run, folder, time_ns=time.time_ns())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write(events)
        if not start.is_resumed:  # else kept: a TensorBoard that is reading a file never gets past its removal
            remove_other_events(self._path)

    def gradflow(self, rows: Sequence[GradflowRow]) -> None:
        """Write the gradient flow after an epoch, or before the first one."""
        self._write([gradflow_event(rows, self._now)])

    def epoch(self, metrics: EpochMetrics) -> None:
        """Write the measurements of an epoch."""
        self._now += epoch_seconds(metrics)
        self._write([epoch_event(metrics, self._now)])

    def finished(self, summary: Summary) -> None:
        """Write the figures of the complete run."""
        self._write([end_event(self._run, self._now, summary.last.epoch)])

    def _write(self, events: "list[Event]") -> None:
        append_durably(self._path, encode(events))
