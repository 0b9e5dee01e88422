"""Reads files that anyone may have written: regular ones of bounded size, and nothing in them is taken on trust."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from resnet_cli.errors import ResnetError, RunFileError
from resnet_cli.util.files import read_bytes
from resnet_cli.util.text import one_line, shorten

if TYPE_CHECKING:
    import zipfile

    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")

# A metrics.csv of a hundred thousand epochs takes 20 MB.
_MAX_TEXT_BYTES = 2**26
# The outputs of a thousand classes on 50,000 images take 200 MB in float32, packed or not.
_MAX_ARRAY_BYTES = 2**28
_MAX_ARCHIVE_ENTRIES = 64
# The largest whole number that every float64 up to it can tell from the next.
_MAX_WHOLE = 2**53


def read_text_bytes(path: Path) -> bytes:
    """The content of a JSON or CSV file; raises `RunFileError` as `read_bytes` does."""
    return read_bytes(path, _MAX_TEXT_BYTES)


def read_json(path: Path, kind: type[T], schema_version: int) -> T:
    """A JSON document of `kind`; raises `RunFileError` when it is anything else or of another schema version."""
    data = read_text_bytes(path)
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version", schema_version)
        if type(version) is int and version > schema_version:
            raise RunFileError(
                f"{path} has schema version {shorten(str(version))}, newer than {schema_version}",
                hint="upgrade this tool",
            )
        if type(version) is not int or version < 1:
            raise RunFileError(f"{path} has the unknown schema version {shorten(repr(version))}")
        return msgspec.json.decode(data, type=kind)
    except RunFileError:
        raise
    except (ValueError, msgspec.MsgspecError, ResnetError, RecursionError) as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def read_table(path: Path, columns: tuple[str, ...], *, text: frozenset[str], whole: tuple[str, ...]) -> "pd.DataFrame":
    """A CSV file with exactly `columns`, as this tool writes it; the torn last line of a crash is left out.

    Args:
        path: the file.
        columns: their names, in order.
        text: those that hold words; the others hold numbers.
        whole: those that hold a whole number in every row, which becomes int64.

    Raises:
        RunFileError: it is missing, damaged or another table.
    """
    import pandas as pd

    data = read_text_bytes(path)
    data = data[: data.rfind(b"\n") + 1]
    header, *lines = data.splitlines() or [b""]
    # told before pandas is: it would take a million columns, and a column too many for an index
    if header != ",".join(columns).encode():
        raise RunFileError(f"{path} does not have the columns {', '.join(columns)}")
    commas = [line.count(b",") for line in lines]
    if (most := max(commas, default=0)) >= len(columns) or b'"' in data or b"\0" in data:
        raise RunFileError(f"{path}: line {commas.index(most) + 2} does not hold {len(columns)} values")
    kinds = {name: "str" if name in text else "float64" for name in columns}
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=kinds, encoding="utf-8", skip_blank_lines=False)
    except (ValueError, OverflowError) as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error
    counted = frame[list(whole)]
    if counted.isna().any(axis=None):
        raise RunFileError(f"{path} has a row without {' or '.join(whole)}")
    if not ((counted >= 0) & (counted <= _MAX_WHOLE) & (counted % 1 == 0)).all(axis=None):
        raise RunFileError(f"{path} has a row where {' or '.join(whole)} is no whole number from 0 on")
    if min(commas, default=len(columns)) < len(columns) - 1:
        raise RunFileError(f"{path}: line {commas.index(min(commas)) + 2} does not hold {len(columns)} values")
    return frame.astype(dict.fromkeys(whole, "int64"))


def read_arrays(path: Path, names: tuple[str, ...]) -> "list[Array]":
    """The arrays `names` of an .npz file, without unpacking more than it may hold; raises `RunFileError`."""
    import zipfile

    data = read_bytes(path, _MAX_ARRAY_BYTES)
    # each entry of the list that ends an archive begins so; a list of millions alone would fill the memory
    if data.count(b"PK\x01\x02") > _MAX_ARCHIVE_ENTRIES:
        raise RunFileError(f"{path} holds more than the arrays {' and '.join(names)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [archive.getinfo(f"{name}.npy") for name in names]
            if sum(entry.file_size for entry in entries) > _MAX_ARRAY_BYTES:
                raise RunFileError(f"{path} unpacks to more than the {_MAX_ARRAY_BYTES // 2**20} MiB that are read")
            return [_array(archive, entry) for entry in entries]
    except RunFileError:
        raise
    except Exception as error:  # a damaged archive raises almost anything: of zlib, struct, the parser of headers
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def _array(archive: "zipfile.ZipFile", entry: "zipfile.ZipInfo") -> "Array":
    import zipfile

    import numpy as np

    # what NumPy writes; other packers may ask for gigabytes before the first byte
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is packed by method {entry.compress_type}")
    file = io.BytesIO(archive.read(entry))  # never more than the size that it declares
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{entry.filename} is of version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} holds pickled objects, which are not loaded (allow_pickle=False)")
    # a header may claim more than there is, and memory is taken by what it claims
    if math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
        raise ValueError(f"{entry.filename} does not hold the {'×'.join(map(str, shape))} values that it claims")
    array: Array = np.frombuffer(file.read(), dtype=dtype).reshape(shape, order="F" if is_fortran else "C")
    return array
