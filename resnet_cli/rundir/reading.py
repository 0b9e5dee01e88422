"""Bounded, validated reading of run files, which anyone may have written: regular files of limited size only."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec.inspect import FloatType, IntType, Metadata, NoneType, StrType, StructType, Type, UnionType, type_info

from resnet_cli.errors import ResnetError, RunFileError
from resnet_cli.rundir.records import MAY_BE_INFINITE, SCHEMA_VERSION
from resnet_cli.util.files import read_bytes
from resnet_cli.util.text import one_line, shorten

if TYPE_CHECKING:
    import zipfile

    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[Any]]

T = TypeVar("T")
Row = TypeVar("Row", bound=msgspec.Struct)

# A metrics.csv of a hundred thousand epochs takes 20 MB.
_MAX_TEXT_BYTES = 2**26
# A gradflow.csv of the deepest network (1202 layers) has as many rows after 800 epochs.
_MAX_ROWS = 10**6
# The outputs of a thousand classes on 50,000 images take 200 MB in float32, packed or not.
_MAX_ARRAY_BYTES = 2**28
_MAX_ARCHIVE_ENTRIES = 64


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
    """Read one JSON document of type `kind` per line, without the torn last line of a crash; raises `RunFileError`."""
    try:
        lines = _whole_lines(path, read_text_bytes(path))
        return [msgspec.json.decode(line, type=kind) for line in lines]
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def read_table(path: Path, row: type[msgspec.Struct]) -> "pd.DataFrame":
    """Read a CSV file as this tool writes it, without the torn last line of a crash.

    Args:
        path: the file.
        row: type of a row: the names, kinds and bounds of the columns come from its fields.

    Returns:
        One column per field: str, int64, or float64 (also for whole numbers that may be missing, as NaN).

    Raises:
        RunFileError: the file is missing, damaged, another table, or has a value outside its bounds.
    """
    import pandas as pd

    names = row.__struct_fields__
    header, *lines = _whole_lines(path, read_text_bytes(path)) or [b""]
    # checked before pandas sees the text, which would read a million columns, or take an extra one for an index
    if header != ",".join(names).encode():
        raise RunFileError(f"{path} does not have the columns {', '.join(names)}")
    for number, line in enumerate(lines, start=2):
        if line.count(b",") != len(names) - 1 or b'"' in line or b"\0" in line:
            raise RunFileError(f"{path}: line {number} does not have {len(names)} plain values")
    columns = _columns_of(row)
    try:
        frame = pd.read_csv(
            io.BytesIO(b"\n".join([header, *lines])),
            dtype={name: "str" if column.is_text else "float64" for name, column in columns.items()},
            keep_default_na=False, na_values={name: [""] for name, column in columns.items() if not column.is_text},
            encoding="utf-8",
        )  # fmt: skip
    except (ValueError, OverflowError) as error:
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error
    for name, column in columns.items():
        bad = column.find_invalid(frame[name])
        if bad is not None:
            found = shorten(str(frame[name][bad]), 30)
            raise RunFileError(f"{path}: line {bad + 2}: {name} is {found}, not {column.expected}")
    whole = [name for name, column in columns.items() if column.is_whole and not column.is_optional]
    return frame.astype(dict.fromkeys(whole, "int64"))


def read_rows(path: Path, row: type[Row]) -> list[Row]:
    """The rows of a table, validated as by `read_table`, with None for missing values and every digit kept.

    Raises:
        RunFileError: as `read_table` does.
    """
    read_table(path, row)
    columns = _columns_of(row)
    _, *lines = _whole_lines(path, read_text_bytes(path))
    cells = (zip(columns.items(), line.decode().split(","), strict=True) for line in lines)
    return [row(**{name: column.parse(cell) for (name, column), cell in line}) for line in cells]


class _Column(NamedTuple):
    """Kind and bounds of a column, derived from the type of a field."""

    is_text: bool = False
    is_whole: bool = False
    is_optional: bool = False
    may_be_infinite: bool = False
    low: float = 0
    high: float = math.inf
    """The length of the longest text, or the largest number."""

    def parse(self, cell: str) -> float | str | None:
        """The value of a cell; None when it is empty."""
        if self.is_text or not cell:
            return cell or None
        return int(float(cell)) if self.is_whole else float(cell)

    @property
    def expected(self) -> str:
        """The admitted values, in words."""
        if self.is_text:
            return f"at most {self.high:g} characters"
        return f"a {'whole ' if self.is_whole else ''}number between {self.low:g} and {self.high:g}"

    def find_invalid(self, values: "pd.Series[Any]") -> int | None:
        """The position of the first value that is missing or out of bounds; None when all are valid."""
        if self.is_text:
            is_valid = values.str.len() <= self.high
        else:
            is_valid = values.between(self.low, self.high) | (self.may_be_infinite & (values == math.inf))
            if self.is_whole:
                is_valid &= values % 1 == 0
            if self.is_optional:
                is_valid |= values.isna()
        return None if is_valid.all() else int(is_valid.to_numpy().argmin())


def _columns_of(row: type[msgspec.Struct]) -> dict[str, _Column]:
    info = type_info(row)
    assert isinstance(info, StructType)
    return {field.name: _column_of(field.type) for field in info.fields}


def _column_of(kind: Type) -> _Column:
    match kind:
        case UnionType(types=(value, NoneType())):
            return _column_of(value)._replace(is_optional=True)
        case Metadata(type=value, extra=extra):
            return _column_of(value)._replace(may_be_infinite=MAY_BE_INFINITE in (extra or {}))
        case StrType(max_length=int(length)):
            return _Column(is_text=True, high=length)
        case IntType(ge=low, le=high) | FloatType(ge=low, le=high):
            high = math.inf if high is None else high
            return _Column(is_whole=isinstance(kind, IntType), low=low or 0, high=high)
    raise TypeError(f"no column can have the type {kind}")


def _whole_lines(path: Path, data: bytes) -> list[bytes]:
    """The lines that end with a line break; a line that a crash cut off is dropped."""
    # counted first: millions of short lines would fill the memory as objects
    if data.count(b"\n") > _MAX_ROWS:
        raise RunFileError(f"{path} has more than {_MAX_ROWS} lines")
    return data[: data.rfind(b"\n") + 1].splitlines()


def read_arrays(path: Path, names: tuple[str, ...]) -> "list[Array]":
    """The arrays `names` of an .npz file, with bounded memory; raises `RunFileError`."""
    import zipfile

    data = read_bytes(path, _MAX_ARRAY_BYTES)
    # each entry of the directory at the end of an archive begins so; millions of entries alone would fill the memory
    if data.count(b"PK\x01\x02") > _MAX_ARCHIVE_ENTRIES:
        raise RunFileError(f"{path} contains more than the arrays {' and '.join(names)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [archive.getinfo(f"{name}.npy") for name in names]
            if sum(entry.file_size for entry in entries) > _MAX_ARRAY_BYTES:
                raise RunFileError(f"{path} unpacks to more than {_MAX_ARRAY_BYTES // 2**20} MiB")
            return [_array(archive, entry) for entry in entries]
    except RunFileError:
        raise
    except Exception as error:  # a damaged archive raises almost anything: from zlib, struct, the parser of headers
        raise RunFileError(f"{path} cannot be read: {one_line(error)}") from error


def _array(archive: "zipfile.ZipFile", entry: "zipfile.ZipInfo") -> "Array":
    import zipfile

    import numpy as np

    # the methods that NumPy writes; others may ask for gigabytes before the first byte
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} has the unsupported compression method {entry.compress_type}")
    file = io.BytesIO(archive.read(entry))  # never more than the size that the entry declares
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{entry.filename} has the unsupported version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} contains pickled objects, which are not loaded (allow_pickle=False)")
    # a header may declare more values than follow, and NumPy would allocate memory for them
    if math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
        raise ValueError(f"{entry.filename} does not contain the {'×'.join(map(str, shape))} values that it declares")
    array: Array = np.frombuffer(file.read(), dtype=dtype).reshape(shape, order="F" if is_fortran else "C")
    return array
