"""Safe loading of weight files: tensors and metadata from bytes, without executing anything in the file."""

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from resnet_cli.errors import InputError
from resnet_cli.util import checksum
from resnet_cli.util.files import read_bytes
from resnet_cli.util.text import shorten

MAX_WEIGHT_FILE_BYTES = 2**31  # a ResNet-1202 with its momentum takes 0.16 GB
# A ResNet-1202 with option-B shortcuts, a moving average and the state of AdamW has 1.8 MB of names and shapes in
# 18,059 entries.
_MAX_PICKLE_BYTES = 2**22
_MAX_ARCHIVE_ENTRIES = 20_000

_ZIP_START = b"PK\x03\x04"
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")  # protocols 2 to 5
_REFUSED_GLOBAL = re.compile(r"\bGLOBAL (\S+)")  # in the messages of torch.load
_SAVE_HINT = "save only the state dict: torch.save(model.state_dict(), FILE)"


def read_content(path: Path) -> tuple[Any, dict[str, str]]:
    """Read a safetensors or PyTorch file (zip or legacy); the first bytes decide the format, not the name.

    PyTorch files are loaded with `weights_only=True`, which creates tensors and plain values only. A pickle written by
    hand can still keep `torch.load` busy, exhaust the memory or crash the process; a safetensors file cannot.

    Returns:
        The content, not yet validated: any nesting of tensors and plain values; and the metadata of a safetensors file.

    Raises:
        InputError: the file is unreadable, too large, damaged, of another format, or contains other Python objects.
    """
    data = read_bytes(path, MAX_WEIGHT_FILE_BYTES)
    # a safetensors file starts with the 8-byte length of its JSON header, whose limit of 100 MB fits in four
    if data[4:9] == b"\0\0\0\0{":
        return _load_safetensors(path, data)
    if data.startswith(_ZIP_START):
        _check_archive(path, data)
    elif not _PICKLE_START.match(data):
        raise InputError(
            f"{path} is neither a safetensors nor a PyTorch file: it starts with {data[:12]!r}",
            hint="pass a run directory or a weight file",
        )
    return _load_pickle(path, data), {}


def _load_safetensors(path: Path, data: bytes) -> tuple[Any, dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if (size := checksum.header_bytes(data)) > checksum.MAX_HEADER_BYTES:
        raise _too_many_names(path, size, checksum.MAX_HEADER_BYTES)
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, data) from error
    metadata = checksum.read_metadata(data)
    if checksum.KEY in metadata and not checksum.has_valid_checksum(data):
        raise InputError(f"{path} is damaged: its checksum does not match", hint="copy or download it again")
    return tensors, metadata


def _check_archive(path: Path, data: bytes) -> None:
    # counted by the signature of an entry, since listing millions of entries would take long and fill the memory
    if data.count(b"PK\x01\x02") > _MAX_ARCHIVE_ENTRIES:
        raise InputError(f"{path} contains more than {_MAX_ARCHIVE_ENTRIES:,} tensors", hint="save only the state dict")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:  # the last: unknown zip versions
        raise _damaged(path, data) from error
    # PyTorch stores tensors uncompressed; a compressed archive could expand to any size
    if sum(entry.file_size for entry in entries) > len(data):
        raise InputError(f"{path} is a compressed archive, not a PyTorch file", hint="extract the weight file first")
    if (size := sum(entry.file_size for entry in entries if entry.filename.endswith("/data.pkl"))) > _MAX_PICKLE_BYTES:
        raise _too_many_names(path, size, _MAX_PICKLE_BYTES)
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise InputError(f"{path} is a TorchScript program, not a state dict", hint=_SAVE_HINT)


def _load_pickle(path: Path, data: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost any exception
        if refused := _REFUSED_GLOBAL.search(str(error)):
            raise InputError(
                f"{path} refers to {shorten(refused[1], 80)}, which is not loaded because it could execute code",
                hint=_SAVE_HINT,
            ) from error
        raise _damaged(path, data) from error


def _too_many_names(path: Path, size: int, most: int) -> InputError:
    return InputError(
        f"{path} has {size:,} bytes of names and shapes; expected at most {most:,}",
        hint="save only the state dict",
    )


def _damaged(path: Path, data: bytes) -> InputError:
    return InputError(
        f"{path} ({len(data):,} bytes) is damaged, incomplete or not a weight file", hint="copy or download it again"
    )
