"""Checksums of safetensors files, stored in their metadata because the format has none.

The checksum is the SHA-256 of the whole file (tensors, names, shapes and metadata) with 64 zeros in place of the
checksum.
"""

import hashlib
import re
from typing import Any

import msgspec

KEY = "file_sha256"
MAX_HEADER_BYTES = 2**22
"""Names and shapes of the tensors in a file. A ResNet-1202 with option-B shortcuts takes 0.8 MB, with momentum 1.3."""
_BLANK = b"0" * 64
_FIELD = re.compile(rb'"%s":"([0-9a-f]{64})"' % KEY.encode())
LENGTH_BYTES = 8  # a file begins with the length of its JSON header, little-endian
_ALIGNMENT = 8  # tensors start at multiples of 8 bytes: headers are padded with spaces


def with_checksum(data: bytes) -> bytes:
    """Add a checksum to a safetensors file, and sort its metadata, so that equal contents give equal bytes.

    Args:
        data: a whole, valid safetensors file.
    """
    end = _header_end(data)
    header: dict[str, Any] = msgspec.json.decode(data[LENGTH_BYTES:end])
    metadata = {**header.pop("__metadata__", {}), KEY: _BLANK.decode()}
    text = msgspec.json.encode({"__metadata__": dict(sorted(metadata.items())), **header})
    text += b" " * (-len(text) % _ALIGNMENT)
    blank = len(text).to_bytes(LENGTH_BYTES, "little") + text + data[end:]
    field = _FIELD.search(blank)
    assert field is not None  # it was just written
    return blank[: field.start(1)] + hashlib.sha256(blank).hexdigest().encode() + blank[field.end(1) :]


def has_valid_checksum(data: bytes) -> bool:
    """Whether the checksum in a file matches its bytes; False for a file without one."""
    fields = list(_FIELD.finditer(data, LENGTH_BYTES, _header_end(data)))
    if len(fields) != 1:
        return False
    whole = memoryview(data)
    digest = hashlib.sha256(whole[: fields[0].start(1)])
    digest.update(_BLANK)
    digest.update(whole[fields[0].end(1) :])
    return digest.hexdigest().encode() == fields[0][1]


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a valid safetensors file; empty if it has none."""
    header: dict[str, Any] = msgspec.json.decode(data[LENGTH_BYTES : _header_end(data)])
    return header.get("__metadata__") or {}


def header_bytes(data: bytes) -> int:
    """Length of the header, as the file claims; a damaged one may exceed the size of the file."""
    return int.from_bytes(data[:LENGTH_BYTES], "little")


def _header_end(data: bytes) -> int:
    return min(LENGTH_BYTES + header_bytes(data), len(data))
