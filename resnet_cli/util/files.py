"""Atomic and durable writing, and reading with a size limit."""

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resnet_cli.errors import RunFileError, UsageError
from resnet_cli.util.text import one_line

_SUFFIX = ".resnet-tmp"  # distinguishes our temporary files from those of other programs
_MAX_HASHED_BYTES = 2**30


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        OSError: from the file system, naming `path`; the old file is intact and the temporary one removed.
    """
    with _naming(path):
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


def write_output(path: Path, data: bytes) -> None:
    """Write `data` to a file that the user named, such as the target of `--out`.

    A regular or missing file is replaced atomically; a link is followed, so that its target changes and the link stays.
    A device, pipe or other special file is written in place: it must never be replaced by a regular file.

    Raises:
        OSError: from the file system, naming `path`.
    """
    if path.exists() and not path.is_file():
        with _naming(path), open(path, "wb") as file:
            file.write(data)
    else:
        write_atomic(Path(os.path.realpath(path)), data)


def check_folder(option: str, path: Path) -> None:
    """Raise `UsageError` if a file is in the place of the folder `path`, which need not exist, or of a parent.

    Args:
        option: the option that names the folder, for the message.
        path: the folder.
    """
    nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise UsageError(f"{option} {path}: {nearest} is not a folder", hint=f"choose another {option}")


def read_bytes(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        RunFileError: the file is missing, larger, or not regular: reading a pipe or a device may never end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunFileError(f"{path} is not a regular file")
        if status.st_size <= most:
            with path.open("rb") as file:
                data = file.read(most + 1)  # files in /proc have more bytes than their size
            if len(data) <= most:
                return data
        raise RunFileError(f"{path} is larger than {most // 2**20} MiB, the limit for such a file")
    except FileNotFoundError:
        raise RunFileError(f"{path} is missing") from None
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a regular file of at most 1 GiB; raises `RunFileError` as `read_bytes` does."""
    try:
        if path.is_file() and path.stat().st_size <= _MAX_HASHED_BYTES:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error
    raise RunFileError(f"{path} is not a regular file of at most {_MAX_HASHED_BYTES // 2**20} MiB")


def append_durably(path: Path, data: bytes) -> None:
    """Append `data` to `path` and fsync; a crash can leave part of `data` at the end, but no other damage."""
    with _naming(path), open(path, "ab", opener=open_regular) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def open_regular(path: str | os.PathLike[str], flags: int) -> int:
    """Open a regular file as `os.open` does, without following a link in its place or waiting for a pipe.

    Pass it as `opener` to the built-in `open` for files in folders that others may write to.

    Raises:
        OSError: from the file system, or because `path` is a link, a pipe or another special file.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # a link, on FreeBSD too; a pipe without reader
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add `path` to errors of calls on a descriptor, such as write and fsync."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power failure (not possible on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # raised by some network file systems, which cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def temporary_files(folder: Path) -> Iterator[Path]:
    """Temporary files that interrupted `write_atomic` calls left in `folder`."""
    yield from folder.glob(f".*{_SUFFIX}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
