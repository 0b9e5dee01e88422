"""The runs of a study as one archive in a few small files, since a slot may return only a few files."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from gpu.results import DamagedError, replace

PART_BYTES = 15 * 2**20
MAX_BYTES = 56 * 2**20


class Packed(NamedTuple):
    """What `pack` wrote."""

    description: dict[str, Any]
    """Number of the archive, and size and checksum of its parts, for `unpack`."""
    omitted: list[str]
    """Weights that did not fit."""


def pack(
    work: Path,
    out: Path,
    earlier: dict[str, Any] | None,
    *,
    part_bytes: int = PART_BYTES,
    max_bytes: int = MAX_BYTES,
) -> Packed:
    """Write the logs and runs in `work` to `out` as `work-N.tar.00`, `.01` and so on.

    Runs may be in progress. Of an incomplete run the archive contains what is needed to resume it, and of a complete
    one everything except the checkpoint and the best weights. The parts of the earlier archive stay; the caller
    removes them with `remove_others` once it has saved the description.

    Args:
        work: folder with `logs/` and `runs/`.
        out: folder of the parts.
        earlier: description of the earlier archive.
        part_bytes: largest size of a part.
        max_bytes: total size above which the last weights of complete runs are omitted.
    """
    contents = _contents(work)
    room = max_bytes - sum(len(data) for name, data in contents.items() if not _is_weights(name))
    omitted = []
    for name in [name for name in contents if _is_weights(name)]:
        room -= len(contents[name])
        if room < 0:
            omitted.append(name)
            del contents[name]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in sorted(path for path in work.rglob("*") if path.is_dir()):  # `resnet` expects empty ones too
            member = tarfile.TarInfo(folder.relative_to(work).as_posix())
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data, number = buffer.getvalue(), (earlier["number"] + 1 if earlier else 1)
    parts = []
    for index, start in enumerate(range(0, len(data), part_bytes)):
        part = data[start : start + part_bytes]
        name = f"work-{number}.tar.{index:02}"
        replace(out / name, part)
        parts.append({"name": name, "sha256": hashlib.sha256(part).hexdigest()})
    return Packed({"number": number, "parts": parts}, omitted)


def remove_others(out: Path, description: dict[str, Any]) -> None:
    """Remove the parts of other archives than the described one."""
    kept = {part["name"] for part in description["parts"]}
    for path in out.glob("work-*.tar.*"):
        if path.name not in kept:
            path.unlink()


def _contents(work: Path) -> dict[str, bytes]:
    files = [path for path in sorted((work / "logs").glob("*")) if path.is_file()]
    for run in sorted((work / "runs").glob("*")):
        found = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name[0] != "."]
        if (run / "summary.json").exists() or (run / "diverged.json").exists():
            excluded: tuple[str, ...] = ("checkpoints/resume.safetensors", "weights/best.safetensors")
        else:
            # a run that is being completed at this moment stays incomplete in the archive
            excluded = ("summary.json", "predictions.npz", "weights/last.safetensors")
            # the checkpoint first: the tables may have rows that are newer than the checkpoint, but none may be missing
            found.sort(key=lambda path: path.parent.name != "checkpoints")
        files += [path for path in found if path.relative_to(run).as_posix() not in excluded]
    return {path.relative_to(work).as_posix(): path.read_bytes() for path in files}


def _is_weights(name: str) -> bool:
    return name.endswith("weights/last.safetensors")


def unpack(out: Path, description: dict[str, Any] | None, work: Path) -> None:
    """Restore the logs and runs of an archive to `work`.

    Raises:
        DamagedError: a part is missing or has another content.
    """
    if description is None:
        return
    data = b""
    for part in description["parts"]:
        path = out / part["name"]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != part["sha256"]:
            raise DamagedError(f"{path} is missing or damaged; restore it, or choose another --out")
        data += content
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(work, filter="data")
