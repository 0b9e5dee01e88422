"""Downloads one file: resumable, bounded, verified before it gets its name."""

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from resnet_cli.errors import InputError
from resnet_cli.util.files import sync_folder
from resnet_cli.util.progress import Progress, silent

TIMEOUT_SECONDS = 30.0  # without a byte
BACKOFF_SECONDS = (1.0, 3.0, 9.0)  # before each further attempt

_CHUNK = 2**18  # bytes
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that ask to come back later
# Python's own list without files and FTP, which a redirection could otherwise lead to.
_HANDLERS = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
)


def download(url: str, destination: Path, *, size: int, sha256: str, hint: str, progress: Progress = silent) -> None:
    """Fetch `url` into `destination`, unless it is there already.

    Bytes gather in `destination` + `.part`, which an interrupted or failed call leaves behind and the next one goes on
    from. Only a file of the right size and checksum is renamed to `destination`. Of two processes that download the
    same file, the second waits for the first.

    Args:
        url: an http or https address.
        destination: the file to make; its folder is made too.
        size: the file's length in bytes.
        sha256: the file's SHA-256, in hex.
        hint: how to get the file without this download, for error messages.
        progress: told the bytes that are there.

    Raises:
        InputError: the address cannot be reached or serves something else, or the file cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url} is not an http or https address", hint=hint)
    with _writing(destination), _only_one(destination, progress):
        if destination.exists():
            return
        part = destination.with_name(destination.name + ".part")
        _complete(url, part, size, hint, progress)
        with open(part, "rb") as file:
            problem = file_problem(file, size=size, sha256=sha256)
        if problem:
            part.unlink()
            raise InputError(f"{url}: {problem}", hint=f"run it again; if it stays so, {hint}")
        os.replace(part, destination)
        sync_folder(destination.parent)


def file_problem(file: IO[bytes], *, size: int, sha256: str) -> str | None:
    """What is wrong with the size or checksum of a file that is open at its start, in words; None: nothing."""
    actual_size = os.fstat(file.fileno()).st_size
    if actual_size != size:
        return f"size is {actual_size:,} bytes, not {size:,}"
    actual = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it wants a narrower protocol
    return None if actual == sha256 else f"SHA-256 is {actual}, not {sha256}"


@contextlib.contextmanager
def _writing(destination: Path) -> Iterator[None]:
    """Turns failures to write beside `destination` into one line."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{destination} cannot be written: {error.strerror or error}", hint="use another folder with --data-dir"
        ) from error


@contextlib.contextmanager
def _only_one(destination: Path, progress: Progress) -> Iterator[None]:
    lock = FileLock(f"{destination}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for another process that downloads", 0, 1)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _NetworkError(Exception):
    """The server, or the way to it, failed.

    Args:
        reason: what happened.
        is_transient: whether it may go better next time.
        is_stale: whether the bytes that are there already are of no use to this server.
    """

    def __init__(self, reason: str, *, is_transient: bool = True, is_stale: bool = False) -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.is_stale = is_stale


def _complete(url: str, part: Path, size: int, hint: str, progress: Progress) -> None:
    """Append to `part` until it is whole, over as many attempts as are allowed."""
    waits = list(BACKOFF_SECONDS)
    while True:
        try:
            return _attempt(url, part, size, progress)
        except _NetworkError as error:
            if error.is_stale:
                part.unlink()
            if not waits or not error.is_transient:
                raise InputError(f"{url}: {error}", hint=f"run it again to resume, or {hint}") from error
        time.sleep(waits.pop(0))


def _attempt(url: str, part: Path, size: int, progress: Progress) -> None:
    """Go on from what `part` holds until the server has sent everything."""
    with open(part, "ab") as file:
        start = file.tell()
        if start == size:
            return
        if start > size:
            start = file.truncate(0)
        with _request(url, start) as response:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                start = 0  # the server sends everything again
            _check_answer(response, start, size)
            file.truncate(start)
            needed, free = size - start, shutil.disk_usage(part.parent).free
            if needed > free:
                raise OSError(errno.ENOSPC, f"{needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free")
            _receive(response, file, start, size, progress)


def _request(url: str, start: int) -> http.client.HTTPResponse:
    """Ask for the bytes from `start` on; speaks http and https only, also where the server redirects."""
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    headers = {"User-Agent": "resnet-cli"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the caller checked the scheme
        response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        cannot_resume = error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        raise _NetworkError(
            f"the server answers {error.code} {error.reason}",
            is_transient=cannot_resume or error.code in _TRANSIENT,
            is_stale=cannot_resume,
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address without a host
        raise _NetworkError(_words(error)) from error
    return response


def _check_answer(response: http.client.HTTPResponse, start: int, size: int) -> None:
    """Refuse what cannot be the rest of the file before a byte of it is kept."""
    if start and not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
        raise _NetworkError("the server resumes in the wrong place", is_stale=True)
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and start + int(length) != size:
        raise _NetworkError(f"the server has {start + int(length):,} bytes, not {size:,}", is_transient=False)


def _receive(response: http.client.HTTPResponse, file: IO[bytes], done: int, size: int, progress: Progress) -> None:
    label = f"downloading {Path(file.name).stem}"
    while True:
        progress(label, done, size, "bytes")
        try:
            chunk = response.read1(_CHUNK)  # what has arrived, so that a silent server costs nothing of it
        except (OSError, http.client.HTTPException) as error:
            raise _NetworkError(_words(error)) from error
        if not chunk:
            break
        done += len(chunk)
        if done > size:
            raise _NetworkError(f"the server sends more than {size:,} bytes", is_transient=False, is_stale=True)
        file.write(chunk)
    if done < size:
        raise _NetworkError(f"the connection was lost after {done:,} of {size:,} bytes")
    file.flush()
    os.fsync(file.fileno())


def _words(error: object) -> str:
    """What an error of the network says, on one line."""
    if isinstance(error, urllib.error.URLError):
        return _words(error.reason)
    text = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
    return str(text or type(error).__name__)
