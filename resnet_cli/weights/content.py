"""From the bytes of a weight file to names and values, without running anything that the file contains."""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from resnet_cli.errors import InputError
from resnet_cli.util import checksum
from resnet_cli.weights.pickle_check import NameRefusedError, RefusedError, check_pickle

_MAX_BYTES = 2**31  # a ResNet-1202 with its momentum takes 0.16 GB
_ZIP = b"PK\x03\x04"
_SAVE_PLAINLY = "save the state dict alone: torch.save(model.state_dict(), FILE)"


class Content(NamedTuple):
    """What a file holds, not yet looked at."""

    value: Any
    """A state dict, a checkpoint around one, or anything else that tensors and primitives can form."""
    metadata: dict[str, str]
    """Of a safetensors file; empty for a PyTorch file."""


def read_content(path: Path) -> Content:
    """Read a safetensors or PyTorch file (zip or legacy), told apart by its first bytes.

    Raises:
        InputError: the file cannot be read, is of another kind, is damaged, or needs code to be run.
    """
    data = _read_bytes(path)
    # a safetensors file begins with the length of its JSON header in 8 bytes; its limit of 100 MB fills only four
    if data[4:9] == b"\0\0\0\0{":
        return _parse_safetensors(path, data)
    if data.startswith(_ZIP):
        _check_zip(path, data)
        return Content(_parse_pickle(path, data), {})
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # a pickle of protocol 2 to 5
        return Content(_parse_pickle(path, data), {})
    raise InputError(
        f"{path} is neither a safetensors nor a PyTorch file: it begins with {data[:12]!r}",
        hint="name a run directory or a weight file",
    )


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist", hint="name a run directory or a weight file")
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a weight file", hint="name a file in it")
        if not path.is_file():  # reading a pipe or a device may never end
            raise InputError(f"{path} is not a regular file", hint="name a run directory or a weight file")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path} is empty", hint="copy or download it again")
        if size > _MAX_BYTES:
            raise InputError(f"{path} has {size / 1e9:.1f} GB, more than any network of this family")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _parse_safetensors(path: Path, data: bytes) -> Content:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, data) from error
    metadata = checksum.read_metadata(data)
    if checksum.KEY in metadata and not checksum.has_valid_checksum(data):
        raise InputError(
            f"{path} is damaged: its bytes do not have the checksum that they were saved with",
            hint="copy or download it again",
        )
    return Content(tensors, metadata)


def _check_zip(path: Path, data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise _damaged(path, data) from error
    # PyTorch stores tensors uncompressed; anything else could fill the memory
    if unpacked_bytes > len(data):
        raise InputError(f"{path} is a compressed archive, not a PyTorch file", hint="name the weight file in it")


def _parse_pickle(path: Path, data: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_pickle(_pickle_of_zip(path, data) if data.startswith(_ZIP) else data)
            # weights_only admits tensors and primitives; everything else is refused before it is called
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except NameRefusedError as error:
        raise InputError(
            f"{path} can be read only by running {str(error)[:80]}, which is not done", hint=_SAVE_PLAINLY
        ) from error
    except RefusedError as error:
        raise InputError(f"{path} is damaged or not a state dict: {error}", hint=_SAVE_PLAINLY) from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise _damaged(path, data) from error


def _pickle_of_zip(path: Path, data: bytes) -> bytes:
    # PyTorch's own reader, so that what is checked is what will be loaded
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    if "constants.pkl" in reader.get_all_records():
        raise InputError(f"{path} is a TorchScript program, not a state dict", hint=_SAVE_PLAINLY)
    return bytes(reader.get_record("data.pkl"))


def _damaged(path: Path, data: bytes) -> InputError:
    return InputError(
        f"{path} ({len(data):,} bytes) is damaged, cut short or not a weight file", hint="copy or download it again"
    )
