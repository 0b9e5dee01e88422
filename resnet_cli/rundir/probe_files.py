"""Files in `probes/` of a run directory: a tidy CSV file per probe and weights, and a JSON file with its parameters."""

import hashlib
import io
import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from resnet_cli.errors import RunFileError
from resnet_cli.rundir.directory import RunDir
from resnet_cli.rundir.reading import read_json, read_text_bytes
from resnet_cli.util.files import append_durably, file_sha256, temporary_files, write_atomic
from resnet_cli.util.text import json_text, one_line

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
WHICH = ("init", "last", "best")
_MAX_LINES = 500_000

_Text = Annotated[str, Meta(max_length=300)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class ProbeKey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that determines the numbers of a probe on a run, except the hardware."""

    probe: _Text
    which: _Text
    """`init`, `last` or `best` weights."""
    run_id: _Text
    dataset_fingerprint: _Text
    source: Literal["weights", "predictions"]
    """What was measured."""
    source_sha256: _Text | None
    """SHA-256 (hex) of its file; None for initial weights."""
    images: _Count | None
    """Number of images per split; None: all."""
    batch_size: _Count
    seed: int
    settings: dict[_Text, int | float | _Text]
    tool_version: _Text


class ProbeRecord(ProbeKey, frozen=True, kw_only=True):
    """probes/NAME-WHICH.json: what was measured, and how."""

    schema_version: int = SCHEMA_VERSION
    rows_sha256: _Text
    """SHA-256 (hex) of the CSV file."""
    device: _Text | None
    """None if stored predictions were measured."""
    seconds: Annotated[float, Meta(ge=0)]
    measured_at: _Text
    """ISO 8601, UTC."""

    def has_key(self, key: ProbeKey) -> bool:
        """Whether this is the measurement that `key` describes."""
        return all(getattr(self, name) == getattr(key, name) for name in ProbeKey.__struct_fields__)


class Unit(msgspec.Struct, frozen=True):
    """A finished piece of work."""

    name: str
    rows: list[dict[str, Any]]
    seconds: float


class ProbeFiles:
    """The files of one probe on one run, for one choice of weights.

    Args:
        run: the run directory.
        probe: name of the probe.
        which: `init`, `last` or `best`.
    """

    def __init__(self, run: RunDir, probe: str, which: str) -> None:
        self.run, self.probe, self.which = run, probe, which
        folder = run.path / "probes"
        self.rows_path = folder / f"{probe}-{which}.csv"
        self.record_path = folder / f"{probe}-{which}.json"
        self._unfinished_path = folder / f".{probe}-{which}.unfinished.jsonl"

    def exists(self) -> bool:
        """Whether the probe has been finished at some time."""
        return os.path.lexists(self.record_path)

    def read_record(self) -> ProbeRecord:
        """Read the JSON file; raises `RunFileError` if it is missing, damaged or belongs to other files."""
        record = read_json(self.record_path, ProbeRecord)
        if (record.probe, record.which) != (self.probe, self.which):
            raise RunFileError(f"{self.record_path} describes {record.probe} of {record.which} weights")
        return record

    def read_rows(self) -> "pd.DataFrame":
        """Read the CSV file; empty cells become NaN.

        Raises:
            RunFileError: a file is missing or damaged, or they do not belong together.
        """
        record, data = self.read_record(), read_text_bytes(self.rows_path)
        if hashlib.sha256(data).hexdigest() != record.rows_sha256:
            raise RunFileError(
                f"{self.rows_path} was changed: its SHA-256 is not that in {self.record_path.name}",
                hint=f"measure again: resnet probe {self.probe} {self.run.path} --which {self.which} --again",
            )
        try:
            return rows_from_csv(data)
        except ValueError as error:
            raise RunFileError(f"{self.rows_path} cannot be read: {one_line(error)}") from error

    def is_current(self, tool_version: str) -> bool:
        """Whether this version of the tool measured the weights or predictions that the run has now.

        The settings of the measurement may be any.
        """
        try:
            record = self.read_record()
        except RunFileError:
            return False
        is_same = record.which == "init" or record.source_sha256 == self.source_sha256(record.source)
        return is_same and record.tool_version == tool_version and self.rows_path.is_file()

    def find(self, key: ProbeKey) -> "pd.DataFrame | None":
        """The rows of a finished measurement of `key`; None if it was not measured, or its files are damaged."""
        try:
            return self.read_rows() if self.read_record().has_key(key) else None
        except RunFileError:
            return None

    def write(self, key: ProbeKey, rows: bytes, *, device: str | None, seconds: float, measured_at: str) -> None:
        """Write both files, with the result of `rows_to_csv`, and remove the file of unfinished work."""
        self._make_folder()
        record = ProbeRecord(
            **asdict(key), rows_sha256=hashlib.sha256(rows).hexdigest(), device=device, seconds=seconds,
            measured_at=measured_at,
        )  # fmt: skip
        write_atomic(self.rows_path, rows)
        write_atomic(self.record_path, json_text(record).encode())
        self._unfinished_path.unlink(missing_ok=True)

    def read_finished_units(self, key: ProbeKey) -> dict[str, Unit]:
        """Units that an interrupted measurement of `key` finished, by name; empty without one."""
        try:
            first, *lines = read_text_bytes(self._unfinished_path).split(b"\n")[:-1]  # a crash can cut the last line
            if msgspec.json.decode(first, type=ProbeKey) != key:
                return {}
            # not msgspec, which cannot read NaN and infinity
            units = [msgspec.convert(json.loads(line), Unit) for line in lines]
            return {unit.name: unit for unit in units}
        except (RunFileError, msgspec.MsgspecError, ValueError, RecursionError):
            return {}

    def start(self, key: ProbeKey, finished: Iterable[Unit]) -> None:
        """Replace the file of unfinished work by one with the `finished` units."""
        self._make_folder()
        write_atomic(self._unfinished_path, b"".join([msgspec.json.encode(key) + b"\n", *map(_line, finished)]))

    def append_unit(self, unit: Unit) -> None:
        """Keep the rows of a finished unit."""
        append_durably(self._unfinished_path, _line(unit))

    def _make_folder(self) -> None:
        folder = self.rows_path.parent
        if folder.is_symlink():  # it may lead anywhere
            raise RunFileError(f"{folder} is a link", hint="replace it with a folder")
        folder.mkdir(exist_ok=True)
        for path in temporary_files(folder):
            if path.name.lstrip(".").startswith(f"{self.probe}-{self.which}."):  # others may be measured at this moment
                path.unlink(missing_ok=True)

    def source_sha256(self, source: Literal["weights", "predictions"]) -> str | None:
        """SHA-256 (hex) of the weights or the predictions of the run; None without such a file.

        For a complete run whose file is gone (weights are seldom published with results), it is the recorded one.
        """
        paths = {"last": self.run.last_weights_path, "best": self.run.best_weights_path}
        path = self.run.predictions_path if source == "predictions" else paths.get(self.which)
        if path is None:
            return None
        if path.is_file():
            return file_sha256(path)
        try:
            return self.run.read_summary().files.get(path.relative_to(self.run.path).as_posix())
        except RunFileError:
            return None


def _line(unit: Unit) -> bytes:
    return json.dumps(asdict(unit)).encode() + b"\n"


def rows_to_csv(rows: list[dict[str, Any]]) -> bytes:
    """Rows with the same columns as a CSV file, in which None and NaN are empty cells."""
    import pandas as pd

    return pd.DataFrame(rows).to_csv(index=False).encode(errors="backslashreplace")


def rows_from_csv(data: bytes) -> "pd.DataFrame":
    """The inverse of `rows_to_csv`; empty cells become NaN. Raises `ValueError` for anything but a CSV file."""
    import pandas as pd

    if data.count(b"\n") > _MAX_LINES:
        raise ValueError(f"it has more than {_MAX_LINES} lines")
    return pd.read_csv(io.BytesIO(data), keep_default_na=False, na_values=[""])
