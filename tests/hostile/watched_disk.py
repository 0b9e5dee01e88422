"""File operations of this process below one folder, each announced before it takes effect: to record or to fail it.

Two views of the folder can be taken at any moment: the state after a kill (everything that was done) and after a power
cut in the worst case (only what was synced: the bytes of a file by an fsync of the file, its name by one of its
folder).
"""

import io
import os
from pathlib import Path
from typing import NamedTuple

import resnet_cli.util.files

FOLDER = None  # in place of the bytes of a folder
_WATCHED = ("open", "close", "fsync", "fchmod", "replace", "unlink", "mkdir", "rmdir")


class Operation(NamedTuple):
    """An operation that is about to take effect."""

    name: str
    """`open`, `write`, `torn write` (half of it is done), `flush`, `fsync`, `replace`, `unlink`, `mkdir` …"""
    path: str
    """Relative to the watched folder."""


class WatchedDisk:
    """Watches the file operations below `root` while it is installed.

    Args:
        root: the watched folder; it need not exist yet.
        before: called with each `Operation` before it takes effect; its exceptions take the place of the operation.
    """

    def __init__(self, root, before):
        self.root, self.before = Path(root), before
        self._descriptors = {}  # to paths
        self._synced = {}  # bytes of each file at its last fsync, by its present path
        self._named = {}  # the synced tree: bytes or FOLDER by path

    def install(self, monkeypatch):
        """Put this between the program and `os`."""
        self.os = {name: getattr(os, name) for name in _WATCHED}
        for name in _WATCHED:
            monkeypatch.setattr(os, name, getattr(self, name))
        if self.root.exists():
            self._named = self.after_kill()  # the files of before are on the disk
            self._synced = {path: data for path, data in self._named.items() if data is not FOLDER}
        # shadows the builtin in the one module that writes
        monkeypatch.setattr(resnet_cli.util.files, "open", self.open_file, raising=False)

    def after_kill(self):
        """Every file with its bytes, and every folder."""
        return {
            self._relative(path): FOLDER if path.is_dir() else path.read_bytes()
            for path in sorted(self.root.rglob("*"))
        }

    def after_power_cut(self, *, names_survive):
        """The synced part of it; `names_survive`: as if folders were always synced, and only bytes are lost."""
        if names_survive:
            return {
                path: FOLDER if data is FOLDER else self._synced.get(path, b"")
                for path, data in self.after_kill().items()
            }
        return dict(sorted(self._named.items()))

    def _relative(self, path):
        path = Path(os.fspath(path))
        return str(path.relative_to(self.root)) if path == self.root or self.root in path.parents else None

    def _announce(self, name, path):
        if (relative := self._relative(path)) is not None:
            self.before(Operation(name, relative))
        return relative

    def open(self, path, flags, mode=0o777, **fields):
        if isinstance(path, bytes) or self._announce("open", path) is None:
            return self.os["open"](path, flags, mode, **fields)
        descriptor = self.os["open"](path, flags, mode, **fields)
        self._descriptors[descriptor] = Path(path)
        return descriptor

    def close(self, descriptor):
        self._descriptors.pop(descriptor, None)
        self.os["close"](descriptor)

    def fsync(self, descriptor):
        if (path := self._descriptors.get(descriptor)) is None:
            return
        name = self._announce("fsync", path)
        if path.is_dir():
            self._sync_names(path)
        else:
            self._synced[name] = path.read_bytes()
            if name in self._named:
                self._named[name] = self._synced[name]

    def _sync_names(self, folder):
        """The names in `folder` become those that it has now; files keep the bytes that were synced."""
        present = {self._relative(path) for path in folder.iterdir()}
        known = {name for name in self._named if (self.root / name).parent == folder}
        for gone in known - present:
            self._named = {
                name: data for name, data in self._named.items() if Path(gone) not in (Path(name), *Path(name).parents)
            }
        for name in present:
            self._named[name] = FOLDER if (self.root / name).is_dir() else self._synced.get(name, b"")

    def fchmod(self, descriptor, mode):
        if descriptor in self._descriptors:
            self._announce("chmod", self._descriptors[descriptor])
        self.os["fchmod"](descriptor, mode)

    def replace(self, source, target):
        name = self._announce("replace", target)
        self.os["replace"](source, target)
        if name is not None:
            self._synced[name] = self._synced.pop(self._relative(source), b"")

    def unlink(self, path, **fields):
        if not fields and os.path.lexists(path):
            self._synced.pop(self._announce("unlink", path), None)
        self.os["unlink"](path, **fields)

    def mkdir(self, path, *args, **fields):
        if not os.path.exists(path):
            self._announce("mkdir", path)
        self.os["mkdir"](path, *args, **fields)

    def rmdir(self, path, **fields):
        if not fields:
            self._announce("rmdir", path)
        self.os["rmdir"](path, **fields)

    def open_file(self, file, mode, opener=None):
        """In place of the builtin: `file` is a path to append to with an `opener`, or a descriptor from `mkstemp`."""
        raw = io.FileIO(file, mode, opener=opener)
        return _WatchedFile(self, raw, self._descriptors[raw.fileno()])


class _WatchedFile:
    """A file that is written to in two halves."""

    def __init__(self, disk, raw, path):
        self.disk, self.raw, self.path = disk, raw, path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disk._descriptors.pop(self.raw.fileno(), None)
        self.raw.close()

    def fileno(self):
        return self.raw.fileno()

    def write(self, data):
        self.disk._announce("write", self.path)
        self.raw.write(data[: len(data) // 2])
        self.disk._announce("torn write", self.path)
        self.raw.write(data[len(data) // 2 :])

    def flush(self):
        self.disk._announce("flush", self.path)


def restore(snapshot, root):
    """Write a snapshot to the new folder `root`."""
    root.mkdir(parents=True)
    for path, data in snapshot.items():
        if data is FOLDER:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)
