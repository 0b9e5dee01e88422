"""Bounded and validated reading of run files, which are not trusted: regular files of limited size only."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from msgspec.inspect import IntType, StrType, StructType, type_info
from msgspec.structs import astuple

from resnet_cli.errors import ResnetError, RunFileError
from resnet_cli.rundir.records import SCHEMA_VERSION
from resnet_cli.util.checksum import LENGTH_BYTES, MAX_HEADER_BYTES, header_bytes, read_metadata
from resnet_cli.util.files import open_regular, read_bytes
from resnet_cli.util.text import one_line, shorten

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")
Row = TypeVar("Row", bound=msgspec.Struct)

# A metrics.csv of a hundred thousand epochs takes 20 MB.
_MAX_TEXT_BYTES = 2**26
# A gradflow.csv of the deepest network (1202 layers) has 240,000 rows after 200 epochs.
_MAX_LINES = 500_000
# The outputs of a thousand classes on 50,000 images take 200 MB in float32, packed or not.
_MAX_ARRAY_BYTES = 2**28
_MAX_ARCHIVE_ENTRIES = 64
_DTYPES = {IntType: "int64", StrType: "str"}


def read_text_bytes(path: Path) -> bytes:
    """The content of a JSON or CSV file; raises `RunFileError` as `read_bytes` does."""
    return read_bytes(path, _MAX_TEXT_BYTES)


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON document of type `kind`; raises `RunFileError` when it is damaged or of another schema version."""
    data = read_text_bytes(path)
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version", SCHEMA_VERSION)
        if type(version) is int and version > SCHEMA_VERSION:
            raise RunFileError(
                f"{path} has schema version {shorten(str(version))}, newer than {SCHEMA_VERSION}",
                hint="upgrade this tool",
            )
        if type(version) is not int or version < 1:
            raise RunFileError(f"{path} has the unknown schema version {shorten(repr(version))}")
        return msgspec.json.decode(data, type=kind)
    except RunFileError:
        raise
    except (ValueError, msgspec.MsgspecError, ResnetError, RecursionError) as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def read_json_lines(path: Path, kind: type[T]) -> list[T]:
    """Read one JSON document of type `kind` per line, ignoring a partial last line; raises `RunFileError`."""
    try:
        lines = _whole_lines(path, read_text_bytes(path))
        return [msgspec.json.decode(line, type=kind) for line in lines]
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


class _Saved(msgspec.Struct):
    step: Annotated[int, Meta(ge=0, le=2**53)]


def read_saved_step(path: Path) -> int | None:
    """Read the step from the header of a checkpoint, without its tensors; None if there is no readable header."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            head = file.read(LENGTH_BYTES)
            head += file.read(min(header_bytes(head), MAX_HEADER_BYTES))
        return msgspec.json.decode(read_metadata(head)["state"], type=_Saved).step
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_rows(path: Path, row: type[Row]) -> list[Row]:
    """Read a CSV file as this tool writes it, ignoring a partial last line, which a crash can leave.

    Args:
        path: the file.
        row: type of a row: names, types and bounds of the columns come from its fields. Empty cells become None.

    Raises:
        RunFileError: the file is missing or damaged, has other columns, or has a value outside its bounds.
    """
    lines = _table_lines(path, row)
    return [_row(path, number, line, row) for number, line in enumerate(lines, start=2)]


def read_last_row(path: Path, row: type[Row]) -> Row | None:
    """Read only the last whole row of a CSV file, None if it has no rows; raises `RunFileError` as `read_rows` does."""
    lines = _table_lines(path, row)
    return _row(path, len(lines) + 1, lines[-1], row) if lines else None


def _table_lines(path: Path, row: type[msgspec.Struct]) -> list[bytes]:
    """The lines below the header of a CSV file, which must be that of `row`."""
    header, *lines = _whole_lines(path, read_text_bytes(path)) or [b""]
    if header != ",".join(names := row.__struct_fields__).encode():
        raise RunFileError(f"{path} does not have the columns {', '.join(names)}")
    return lines


def _row(path: Path, number: int, line: bytes, row: type[Row]) -> Row:
    names = row.__struct_fields__
    if (num_values := line.count(b",") + 1) != len(names):
        raise RunFileError(f"{path}: line {number} has {num_values} values instead of {len(names)}")
    try:
        values = {name: cell or None for name, cell in zip(names, line.decode().split(","), strict=True)}
        return msgspec.convert(values, row, strict=False)
    except ValueError as error:  # msgspec.ValidationError is one
        raise RunFileError(f"{path}: line {number} cannot be read: {one_line(error)}") from error


def to_frame(rows: Sequence[msgspec.Struct], row: type[msgspec.Struct]) -> "pd.DataFrame":
    """Typed rows as a frame with one column per field: str, int64, or float64 with NaN for None."""
    import numpy as np
    import pandas as pd

    info = type_info(row)
    assert isinstance(info, StructType)
    # typed column by column: pandas takes milliseconds to convert a table, and a study has thousands of them
    columns = list(zip(*map(astuple, rows), strict=True)) or [()] * len(info.fields)
    typed: dict[str, Any] = {}
    for field, values in zip(info.fields, columns, strict=True):
        dtype = _DTYPES.get(type(field.type), "float64")
        typed[field.name] = pd.Series(values, dtype="str") if dtype == "str" else np.array(values, dtype=dtype)
    return pd.DataFrame(typed)


def _whole_lines(path: Path, data: bytes) -> list[bytes]:
    """The lines that end with a line break; a line that a crash cut off is dropped."""
    # counted first: millions of short lines would fill the memory as objects
    if max(data.count(b"\n"), data.count(b"\r")) > _MAX_LINES:
        raise RunFileError(f"{path} has more than {_MAX_LINES} lines")
    return data[: data.rfind(b"\n") + 1].splitlines()


def read_arrays(path: Path, names: tuple[str, ...]) -> "list[Array]":
    """Read the arrays `names` of an .npz file, with bounded memory; raises `RunFileError`."""
    import zipfile

    import numpy as np

    data = read_bytes(path, _MAX_ARRAY_BYTES)
    # an archive's directory has this signature in each entry; millions of entries alone would fill the memory
    if data.count(b"PK\x01\x02") > _MAX_ARCHIVE_ENTRIES:
        raise RunFileError(f"{path} contains more than the arrays {' and '.join(names)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [archive.getinfo(f"{name}.npy") for name in names]
            if sum(entry.file_size for entry in entries) > _MAX_ARRAY_BYTES:
                raise ValueError(f"it unpacks to more than {_MAX_ARRAY_BYTES // 2**20} MiB")
            # the methods that NumPy writes; others may ask for gigabytes before the first byte
            if not {entry.compress_type for entry in entries} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ValueError("its compression method is not supported")
            # not np.load, which prefers a member `labels`, of any size, to `labels.npy`
            return [np.lib.format.read_array(archive.open(entry), allow_pickle=False) for entry in entries]
    except Exception as error:  # a damaged archive raises almost anything: from zlib, struct, the parser of headers
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error
