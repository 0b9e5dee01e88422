"""The lock of a run directory: one process trains a run, while any number of others read it."""

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.errors import ResnetError, RunFileError, UsageError
from resnet_cli.rundir.reading import read_json
from resnet_cli.rundir.records import LockHolder, now
from resnet_cli.util.files import open_regular, write_atomic
from resnet_cli.util.text import json_text

if TYPE_CHECKING:
    import filelock


class RunLock:
    """The lock files of a run directory: `.lock`, and `.holder.json`, which names the process that holds it.

    Args:
        folder: the run directory, which exists when `acquire` is called.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self.holder_path = folder / ".holder.json"
        self._identity: tuple[int, int] | None = None  # device and inode of the file that this process locked

    def acquire(self) -> "filelock.BaseFileLock":
        """Lock the run for this process, until the lock is released or the process ends.

        Raises:
            UsageError: another process holds the lock.
        """
        import filelock

        lock = filelock.FileLock(self.path)
        try:
            # `is_held` of another process holds a shared lock for an instant
            lock.acquire(timeout=1)
        except filelock.Timeout:
            raise UsageError(
                f"{self.path.parent} is being trained by another process{self._holder()}",
                hint="wait for it or choose another --out",
            ) from None
        self._identity = self._current_identity()
        holder = LockHolder(pid=os.getpid(), host=platform.node(), since=now())
        self.check()
        write_atomic(self.holder_path, json_text(holder).encode())
        return lock

    def is_in_place(self) -> bool:
        """Whether the file that `acquire` locked is still there: if not, another process can lock the run."""
        return self._identity is not None and self._identity == self._current_identity()

    def check(self) -> None:
        """Raise `ResnetError` if this process lost its lock, before it writes into a run that another may train."""
        if self._identity is not None and not self.is_in_place():
            raise ResnetError(
                f"{self.path} was removed or replaced, so another process may be training this run; stopped",
                hint="make sure that no other process trains it, then run the same command again to resume",
            )

    def is_held(self) -> bool:
        """Whether a process, perhaps this one, holds the lock.

        This asks for a shared lock on the file, which readers get at the same time, so that they never take each other
        for a training process; `acquire` retries meanwhile. The file is opened for reading, without following a link or
        waiting for a pipe: looking needs no write permission and changes nothing. `flock` (2) works like this on Linux
        and macOS, and is what filelock uses there; on network file systems, see docs/reliability.md.
        """
        import fcntl

        try:
            descriptor = open_regular(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # the file system has no locks
            return False
        finally:
            os.close(descriptor)
        return False

    def _current_identity(self) -> tuple[int, int] | None:
        try:
            status = self.path.lstat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _holder(self) -> str:
        """The process that holds the lock, in parentheses; empty if .holder.json cannot be read."""
        try:
            holder = read_json(self.holder_path, LockHolder)
        except RunFileError:
            return ""
        return f" (pid {holder.pid}, host {holder.host}, since {holder.since})"
