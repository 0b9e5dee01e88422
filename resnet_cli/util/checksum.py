"""A safetensors file that tells when one of its bytes has changed: its metadata hold its own checksum.

The checksum is the SHA-256 of the whole file, taken while 64 zeros stand in the checksum's place. Tensors, names,
shapes and metadata are all under it, which the format by itself checks none of.
"""

import hashlib
import re
from typing import Any

import msgspec

KEY = "file_sha256"
_BLANK = b"0" * 64
_FIELD = re.compile(rb'"%s":"([0-9a-f]{64})"' % KEY.encode())
_LENGTH_BYTES = 8  # a file begins with the length of its JSON header, little-endian
_ALIGNMENT = 8  # of the tensors, in bytes: headers are padded with spaces


def with_checksum(data: bytes) -> bytes:
    """A safetensors file with its checksum among its metadata, which are put in order: equal contents, equal bytes.

    Args:
        data: a whole, valid safetensors file.
    """
    end = _header_end(data)
    header: dict[str, Any] = msgspec.json.decode(data[_LENGTH_BYTES:end])
    metadata = {**header.pop("__metadata__", {}), KEY: _BLANK.decode()}
    text = msgspec.json.encode({"__metadata__": dict(sorted(metadata.items())), **header})
    text += b" " * (-len(text) % _ALIGNMENT)
    blank = len(text).to_bytes(_LENGTH_BYTES, "little") + text + data[end:]
    field = _FIELD.search(blank)
    assert field is not None  # it was just written
    return blank[: field.start(1)] + hashlib.sha256(blank).hexdigest().encode() + blank[field.end(1) :]


def has_valid_checksum(data: bytes) -> bool:
    """Whether a file has the checksum that it was with_checksum with; False for one without."""
    fields = list(_FIELD.finditer(data, _LENGTH_BYTES, _header_end(data)))
    if len(fields) != 1:
        return False
    whole = memoryview(data)
    digest = hashlib.sha256(whole[: fields[0].start(1)])
    digest.update(_BLANK)
    digest.update(whole[fields[0].end(1) :])
    return digest.hexdigest().encode() == fields[0][1]


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that its loader has accepted; empty where there are none."""
    header: dict[str, Any] = msgspec.json.decode(data[_LENGTH_BYTES : _header_end(data)])
    return header.get("__metadata__") or {}


def _header_end(data: bytes) -> int:
    # a damaged length may be beyond any number of bytes
    return min(_LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little"), len(data))
