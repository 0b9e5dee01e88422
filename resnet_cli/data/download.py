"""Download of one file: resumable, bounded, and verified before the file is renamed."""

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from resnet_cli.errors import InputError
from resnet_cli.util.files import open_regular, sync_folder
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.text import one_line, shorten

TIMEOUT_SECONDS = 30.0  # without receiving a byte
BACKOFF_SECONDS = (1.0, 3.0, 9.0)  # before each further attempt

_CHUNK = 2**18  # bytes
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that may pass


def download(url: str, destination: Path, *, size: int, sha256: str, hint: str, progress: Progress = silent) -> None:
    """Download `url` to `destination` unless that file exists.

    Bytes are collected in `destination` + `.part`, which stays after an interrupted or failed call and is resumed by
    the next one. It is renamed to `destination` only if its size and checksum are correct. If two processes download
    the same file, the second waits for the first.

    Args:
        url: an http or https address.
        destination: the file to create; its folder is created if necessary.
        size: length of the file in bytes.
        sha256: SHA-256 of the file, in hex.
        hint: how to get the file without this download, for error messages.
        progress: receives the number of bytes downloaded.

    Raises:
        InputError: the address cannot be reached or serves another file, or the file cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url} is not an http or https address", hint=hint)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _lock(destination, progress):
            if not destination.exists():
                _download(url, destination, size=size, sha256=sha256, hint=hint, progress=progress)
    except OSError as error:
        hint = "use another folder with --data-dir"
        raise InputError(f"{error.filename or destination} cannot be written: {one_line(error)}", hint=hint) from error


def file_problem(file: IO[bytes], *, size: int, sha256: str) -> str | None:
    """Describe a wrong size or checksum of a file that is open at its start; None if both are correct."""
    actual_size = os.fstat(file.fileno()).st_size
    if actual_size != size:
        return f"size is {actual_size:,} bytes, not {size:,}"
    actual = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it wants a narrower protocol
    return None if actual == sha256 else f"SHA-256 is {actual}, not {sha256}"


def _lock(destination: Path, progress: Progress) -> AbstractContextManager[object]:
    lock = FileLock(f"{destination}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for another process to finish the download", 0, 1)
        return lock.acquire()


def _download(url: str, destination: Path, *, size: int, sha256: str, hint: str, progress: Progress) -> None:
    part = destination.with_name(destination.name + ".part")
    _complete(url, part, size, hint, progress)
    with open(part, "rb", opener=open_regular) as file:
        problem = file_problem(file, size=size, sha256=sha256)
    if problem:
        part.unlink()
        raise InputError(f"{url}: {problem}", hint=f"try again; if the problem persists, {hint}")
    os.replace(part, destination)
    sync_folder(destination.parent)


class _NetworkError(Exception):
    """A failure of the server or of the connection to it; `is_transient` if another attempt may succeed."""

    def __init__(self, reason: str, *, is_transient: bool = True) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


def _complete(url: str, part: Path, size: int, hint: str, progress: Progress) -> None:
    """Append to `part` until it has `size` bytes, in several attempts if necessary."""
    for wait in (*BACKOFF_SECONDS, None):
        try:
            _attempt(url, part, size, progress)
            return
        except _NetworkError as error:
            if wait is None or not error.is_transient:
                raise InputError(f"{url}: {error}", hint=f"run the command again to resume, or {hint}") from error
            time.sleep(wait)


def _attempt(url: str, part: Path, size: int, progress: Progress) -> None:
    """Continue from the content of `part` to the end of the file, in one request."""
    with open(part, "ab", opener=open_regular) as file:  # the folder may be shared
        start = file.tell()
        if start == size:
            return
        if start > size:
            start = file.truncate(0)
        with _request(url, start) as response:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                start = 0  # the server sends the whole file
            # compared as text, since a number may have thousands of digits
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and length.lstrip("0") != str(size - start):
                problem = f"the server sends {shorten(length, 24)} bytes, not {size - start}"
                raise _NetworkError(problem, is_transient=False)
            file.truncate(start)
            needed, free = size - start, shutil.disk_usage(part.parent).free
            if needed > free:
                raise OSError(errno.ENOSPC, f"{needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free")
            _receive(response, file, start, size, progress)


def _request(url: str, start: int) -> http.client.HTTPResponse:
    """Request the bytes from `start` on, or all of them if the server cannot continue there."""
    headers = {"User-Agent": "resnet-cli"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the caller checked the scheme
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _request(url, 0)
        answer = f"the server responded with {error.code} {error.reason}"
        raise _NetworkError(answer, is_transient=error.code in _TRANSIENT) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address without a host
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _NetworkError(one_line(reason) if isinstance(reason, BaseException) else reason) from error
    content_range = response.headers.get("Content-Range") or ""
    if start and response.status == HTTPStatus.PARTIAL_CONTENT and not content_range.startswith(f"bytes {start}-"):
        response.close()
        return _request(url, 0)
    return response


def _receive(response: http.client.HTTPResponse, file: IO[bytes], done: int, size: int, progress: Progress) -> None:
    """Append the response to `file`; of a response that is too long, only enough to fail the size check."""
    label = f"downloading {Path(file.name).stem}"
    progress(label, done, size, "bytes")
    while done <= size:
        try:
            chunk = response.read1(_CHUNK)  # returns the bytes received so far, so that a stall loses none of them
        except (OSError, http.client.HTTPException) as error:
            raise _NetworkError(one_line(error)) from error
        if not chunk:
            break
        file.write(chunk)
        done += len(chunk)
        progress(label, done, size, "bytes")
    if done < size:
        raise _NetworkError(f"the connection was lost after {done:,} of {size:,} bytes")
    file.flush()
    os.fsync(file.fileno())
