"""The file operations of this process below one folder, each seen before it takes effect: to stop, record or fail it.

Two views of the folder can be taken at any moment: what a killed process leaves (everything that was done) and what a
power cut leaves in the worst case (only what was synced: a file's bytes by an fsync of the file, its name by one of
its folder).
"""

import io
import itertools
import os
from pathlib import Path
from typing import NamedTuple

import resnet_cli.util.files

FOLDER = None  # what a snapshot holds in place of a folder's bytes


class Operation(NamedTuple):
    """What is about to happen."""

    name: str
    """`open`, `write`, `torn write` (half of it is done), `flush`, `fsync`, `replace`, `unlink`, `mkdir` …"""
    path: str
    """Relative to the watched folder."""


class WatchedDisk:
    """Watches the file operations below `root` while it is installed.

    Args:
        root: the watched folder; it need not exist yet.
        before: called with each `Operation` before it takes effect; what it raises comes in its place.
    """

    def __init__(self, root, before):
        self.root, self.before = Path(root), before
        self._numbers = itertools.count()
        self._descriptors = {}  # to paths
        self._inodes = {}  # to numbers that are never used again
        self._synced_data = {}
        self._synced_names = {}

    def install(self, monkeypatch):
        """Put this between the program and `os`."""
        self.os = {
            name: getattr(os, name)
            for name in ("open", "close", "fsync", "fchmod", "replace", "unlink", "mkdir", "rmdir")
        }
        for name in self.os:
            monkeypatch.setattr(os, name, getattr(self, name))
        for path in [self.root, *self.root.rglob("*")] if self.root.exists() else []:  # what is there is on the disk
            self._note_synced(path)
        # shadows the builtin in the one module that writes
        monkeypatch.setattr(resnet_cli.util.files, "open", self.open_file, raising=False)

    # ------------------------------------------------------------------- views

    def after_kill(self):
        """Every file with its bytes, and every folder."""
        return {
            str(path.relative_to(self.root)): FOLDER if path.is_dir() else path.read_bytes()
            for path in sorted(self.root.rglob("*"))
        }

    def after_power_cut(self, *, names_survive):
        """The same of what was synced; `names_survive`: as if folders were always synced, and only bytes are lost."""
        if names_survive:
            return {
                path: FOLDER if data is FOLDER else self._synced_data.get(self._number(self.root / path), b"")
                for path, data in self.after_kill().items()
            }
        return dict(self._synced_tree(self._number(self.root), ""))

    def _synced_tree(self, folder, prefix):
        for name, (number, is_folder) in self._synced_names.get(folder, {}).items():
            yield prefix + name, FOLDER if is_folder else self._synced_data.get(number, b"")
            if is_folder:
                yield from self._synced_tree(number, f"{prefix}{name}/")

    def _number(self, path):
        inode = os.stat(path).st_ino
        return self._inodes.setdefault(inode, next(self._numbers))

    def _is_new(self, path):
        """Inodes are used again; a new file is another one all the same."""
        self._inodes[os.stat(path).st_ino] = next(self._numbers)

    # -------------------------------------------------------------- operations

    def _relative(self, path):
        path = Path(os.fspath(path))
        return str(path.relative_to(self.root)) if path == self.root or self.root in path.parents else None

    def _announce(self, name, path):
        if (relative := self._relative(path)) is not None:
            self.before(Operation(name, relative))
        return relative is not None

    def open(self, path, flags, mode=0o777, **fields):
        if isinstance(path, bytes) or self._relative(path) is None:
            return self.os["open"](path, flags, mode, **fields)
        self.before(Operation("open", self._relative(path)))
        existed = os.path.exists(path)
        descriptor = self.os["open"](path, flags, mode, **fields)
        self._descriptors[descriptor] = Path(path)
        if not existed:
            self._is_new(path)
        return descriptor

    def close(self, descriptor):
        self._descriptors.pop(descriptor, None)
        self.os["close"](descriptor)

    def fsync(self, descriptor):
        path = self._descriptors.get(descriptor)
        if path is None:
            return
        self._announce("fsync", path)
        self._note_synced(path)

    def _note_synced(self, path):
        if path.is_dir():
            names = {entry.name: (self._number(entry.path), entry.is_dir()) for entry in os.scandir(path)}
            self._synced_names[self._number(path)] = names
        else:
            self._synced_data[self._number(path)] = path.read_bytes()

    def fchmod(self, descriptor, mode):
        if descriptor in self._descriptors:
            self._announce("chmod", self._descriptors[descriptor])
        self.os["fchmod"](descriptor, mode)

    def replace(self, source, target):
        self._announce("replace", target)
        self.os["replace"](source, target)

    def unlink(self, path, **fields):
        if not fields and os.path.lexists(path):
            self._announce("unlink", path)
        self.os["unlink"](path, **fields)

    def mkdir(self, path, *args, **fields):
        is_ours = not os.path.exists(path) and self._announce("mkdir", path)
        self.os["mkdir"](path, *args, **fields)
        if is_ours:
            self._is_new(path)

    def rmdir(self, path, **fields):
        if not fields:
            self._announce("rmdir", path)
        self.os["rmdir"](path, **fields)

    def open_file(self, file, mode):
        """In place of the builtin: `file` is a path to append to, or a descriptor of `mkstemp`."""
        if isinstance(file, int):
            return _WatchedFile(self, io.FileIO(file, mode), self._descriptors[file])
        self._announce("open", file)
        existed = os.path.exists(file)
        raw = io.FileIO(file, mode)
        self._descriptors[raw.fileno()] = Path(file)
        if not existed:
            self._is_new(file)
        return _WatchedFile(self, raw, Path(file))


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
    """Lay a snapshot out in the new folder `root`."""
    root.mkdir(parents=True)
    for path, data in snapshot.items():
        if data is FOLDER:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)
