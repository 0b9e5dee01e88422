"""Results of earlier and present slots, in one small file."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_MEASURED = ("resnet_cli", "benchmarks/gpu", "benchmarks/textbook.py")
# a change in the tests does not invalidate measured times
_SOURCES = {"setup": _MEASURED, "speed": _MEASURED, "tests": (*_MEASURED, "tests")}


class DamagedError(Exception):
    """A file in the folder of results cannot be read; the message names it."""


class Record(NamedTuple):
    """One attempt of one step."""

    step: str
    state: str
    """`done`, `failed`, `slow` or `stopped`; see `children.Ending`."""
    reason: str
    seconds: float
    source: str
    """Checksum of the code; see `source_checksums`."""
    device: str
    """Name of the GPU or CPU; `cuda` or `cpu` before it is known."""
    finished_at: str
    values: list[dict[str, Any]]


class Results:
    """Records of steps by name, and the description of the archive with the runs.

    Args:
        path: file that `save` replaces; read if it exists.
        sources: checksum of the present code for each stage.
        device: `cuda` or `cpu`; the caller replaces it by the name of the device.

    Raises:
        DamagedError: the file is not one that `save` has written.
    """

    def __init__(self, path: Path, *, sources: dict[str, str], device: str) -> None:
        self.path, self.sources, self.device = path, sources, device
        self.records: list[Record] = []
        self.archive: dict[str, Any] | None = None
        if path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                self.records = [Record(**record) for record in document["records"]]
                self.archive = document["archive"]
            except (ValueError, TypeError, KeyError) as error:
                raise DamagedError(f"{path} is damaged ({error}); restore it, or choose another --out") from error

    def save(self) -> None:
        """Replace the file."""
        document = {"archive": self.archive, "records": [record._asdict() for record in self.records]}
        replace(self.path, json.dumps(document, indent=1).encode())

    def add(self, record: Record) -> None:
        """Add a record, in place of an earlier one of the same step, code and device, and save.

        What the earlier attempt has measured is kept unless this one has measured it again.
        """
        earlier = [one for one in self.records if _attempted(one) == _attempted(record)]
        measured = {_subject(value) for value in record.values}
        kept = [value for one in earlier for value in one.values if _subject(value) not in measured]
        self.records = [one for one in self.records if one not in earlier]
        self.records.append(record._replace(values=[*kept, *record.values]))
        self.save()

    def find(self, step: str) -> Record | None:
        """The record of a step with the present code on this device."""
        return next((one for one in self.records if self.is_current(one) and one.step == step), None)

    def is_current(self, record: Record) -> bool:
        """Whether a record was made with the present code on this device."""
        stage = record.step.partition("/")[0]
        return (record.source, record.device) == (self.sources.get(stage), self.device)

    def expected_seconds(self, step: str) -> float | None:
        """Time that a step took when it was last completed on this device, with any code."""
        times = [one.seconds for one in self.records if one[:2] == (step, "done") and one.device == self.device]
        return times[-1] if times else None

    def values(self, kind: str) -> list[dict[str, Any]]:
        """All values of a kind that were measured with the present code on this device."""
        current = (record for record in self.records if self.is_current(record))
        return [value for record in current for value in record.values if value.get("kind") == kind]


def _attempted(record: Record) -> tuple[str, str, str]:
    return record.step, record.source, record.device


def _subject(value: dict[str, Any]) -> str:
    """What a value describes: a test, or a network in a variant."""
    return json.dumps([value.get(name) for name in ("kind", "name", "network", "variant", "how", "networks")])


def replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds either the old or the new content."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def source_checksums(root: Path = ROOT) -> dict[str, str]:
    """Checksum of the Python files that each stage depends on; 12 hexadecimal digits."""
    return {stage: _checksum(root, names) for stage, names in _SOURCES.items()}


def _checksum(root: Path, names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in names:
        source = root / name
        for path in [source] if source.is_file() else sorted(source.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
