"""Files that are either the old version or the new one, never half of one."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resnet_cli.errors import RunFileError
from resnet_cli.util.text import one_line

_SUFFIX = ".resnet-tmp"  # nobody else's temporary files have it


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        OSError: as the file system gives it, naming `path`; the old file is intact and the temporary one removed.
    """
    with _naming(path):
        _write_atomic(path, data)


def _write_atomic(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        RunFileError: it is missing, larger, or something else: reading a pipe or a device may never end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunFileError(f"{path} is not a regular file")
        if status.st_size <= most:
            with path.open("rb") as file:
                data = file.read(most + 1)  # a file of /proc has more than its size says
            if len(data) <= most:
                return data
        raise RunFileError(f"{path} has more than the {most // 2**20} MiB that are read")
    except FileNotFoundError:
        raise RunFileError(f"{path} is missing") from None
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def append_durably(path: Path, data: bytes) -> None:
    """Append `data` to `path` and fsync; a crash may leave a part of `data` at the end, nothing else."""
    with _naming(path), open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name `path` in errors of calls that only know a descriptor, such as write and fsync."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some shared file systems cannot sync a folder and say so by this
            raise
    finally:
        os.close(descriptor)


def temporary_files(folder: Path) -> Iterator[Path]:
    """What interrupted `write_atomic` calls left in `folder`."""
    yield from folder.glob(f".*{_SUFFIX}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
