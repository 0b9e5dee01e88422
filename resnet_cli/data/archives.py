"""Reads named members of a `.tar.gz` into memory; nothing is ever extracted to disk."""

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, cast

from resnet_cli.errors import InputError

_MAX_MEMBERS = 64  # CIFAR's archives have nine members and five
_HINT = "delete it and fetch it again"
_SLACK_BYTES = 2**20  # for tar headers and the readme that lies beside the data


def read_members(file: IO[bytes], name: str, limits: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Read the members in `limits` from a gzipped tar archive, in the archive's order.

    Other members are passed over, but an archive with unsafe ones (absolute names, `..`, links, devices, duplicates)
    is refused as a whole. Reading stops as soon as more is decompressed than the wanted members can have.

    Args:
        file: the archive, open for reading.
        name: what error messages call it.
        limits: the exact name of each wanted member and the most bytes it may have.

    Yields:
        a member's name and content.

    Raises:
        InputError: the archive is damaged, unsafe or too large, or a member is missing.
    """
    most = sum(limits.values()) + _SLACK_BYTES
    stream = _BoundedReader(file, name, most)
    seen: set[str] = set()
    try:
        # a pure stream never seeks, so every step consumes bytes and their number is bounded
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
            for member in archive:
                if problem := _problem(member, seen, limits.get(member.name, most)):
                    raise InputError(f"{name} is refused: member {member.name[:100]!r} {problem}", hint=_HINT)
                seen.add(member.name)
                if member.name in limits:
                    yield member.name, _content(archive, member)
        while stream.read(2**16):  # gzip's own checksum stands at the very end
            pass
    except InputError:
        raise
    except Exception as error:  # gzip, zlib and tarfile raise almost anything on damaged data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} is damaged: {reason}", hint=_HINT) from error
    if missing := sorted(set(limits) - seen):
        raise InputError(f"{name} has no member {missing[0]}", hint=_HINT)


def _problem(member: tarfile.TarInfo, seen: set[str], limit: int) -> str | None:
    """Why an archive with this member is refused; None where the member is harmless."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        return "is neither a regular file nor a folder"
    if not member.name or member.name.startswith("/") or ".." in member.name.split("/"):
        return "has an unsafe name"
    if set(member.name) & set("\\:\0"):
        return "has an unsafe name"
    if member.name in seen:
        return "is there twice"
    if member.size > limit:  # also for members that are passed over, since tarfile would read on beyond the end
        return f"has {member.size:,} bytes, more than {limit:,}"
    return f"is one of more than {_MAX_MEMBERS}" if len(seen) >= _MAX_MEMBERS else None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    if content is None:
        raise ValueError(f"member {member.name} is a folder")
    return content.read()


class _BoundedReader(io.RawIOBase):
    """Decompresses `file` and refuses to give more than `limit` bytes."""

    def __init__(self, file: IO[bytes], name: str, limit: int) -> None:
        self._stream = gzip.GzipFile(fileobj=file, mode="rb")
        self._name = name
        self._limit = limit
        self._given = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, 2**20) if size >= 0 else 2**20)
        self._given += len(data)
        if self._given > self._limit:
            raise InputError(
                f"{self._name} is refused: it decompresses to more than {self._limit:,} bytes",
                hint=_HINT,
            )
        return data
