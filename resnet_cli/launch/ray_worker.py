"""The part of the Ray executor that runs on the nodes of the cluster: one actor per task."""

import platform
import tempfile
from pathlib import Path
from typing import NamedTuple

from resnet_cli.launch.channel import Message
from resnet_cli.launch.pool import Child, Task
from resnet_cli.rundir import RunDir
from resnet_cli.rundir.transfer import ChangedFiles, FileCopy, write_files
from resnet_cli.version import __version__

_SECONDS_PER_UPDATE = 0.5


class Update(NamedTuple):
    """What happened to a task since the update before."""

    messages: list[Message]
    files: list[FileCopy]
    """Files of the run directory that changed."""
    exit_code: int | None = None
    """None: the task is in progress."""
    loss: str | None = None
    """See `Process.loss`."""
    reason: str = ""


class RayWorker:
    """A task in a child process, with its run directory in a temporary folder of this node.

    Every call can be repeated, since the answer to the first one may be lost.

    Args:
        version: version of the program that uses the cluster.

    Raises:
        RuntimeError: another version is installed here.
    """

    def __init__(self, version: str) -> None:
        if version != __version__:
            raise RuntimeError(f"{platform.node()} has resnet-cli {__version__}, not {version}")
        self._child: Child | None = None
        self._number = 0

    def start(self, task: Task, run: str, slot: dict[str, str], files: list[FileCopy]) -> str:
        """Start the task and return the name of this node.

        Args:
            task: a command that writes to the folder `run`.
            run: run directory, relative to the temporary folder.
            slot: environment variables.
            files: the run directory as it is so far.
        """
        if self._child is None:
            self._folder = tempfile.TemporaryDirectory(prefix="resnet-ray-")
            folder = Path(self._folder.name)
            copy = RunDir(folder / run)
            write_files(copy, files)
            self._files = ChangedFiles(copy)
            self._files.read()
            self._child = Child(task, slot, folder=folder)
        return platform.node()

    def update(self, number: int, signals: list[int]) -> Update:
        """Pass signals on to the task, wait for half a second or its end, and return what has happened.

        Args:
            number: from 1; a repeated number returns the same update.
            signals: numbers of the signals.
        """
        if number != self._number:
            self._update, self._number = self._next(signals), number
        return self._update

    def _next(self, signals: list[int]) -> Update:
        child = self._child
        assert child is not None
        for signal_number in signals:
            child.send_signal(signal_number)
        child.wait(_SECONDS_PER_UPDATE)
        exit_code = child.poll()  # before the last messages and files are read
        messages, files = child.read(), self._files.read()
        if exit_code is None:
            return Update(messages, files)
        self._folder.cleanup()
        return Update(messages, files, exit_code, child.loss(), child.close())
