"""Disk space and memory: checked before work starts, and reported in one line when they run out."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from resnet_cli.errors import ResnetError

# what these libraries say mostly for want of memory, and how the sentence about it begins
_PROBABLY = {
    "unable to find an engine to execute this computation": "cuDNN was",
    "could not create a primitive": "oneDNN",
    "could not execute a primitive": "oneDNN",
}


@contextlib.contextmanager
def translate_errors(
    *, batch_size: int, network: str | None = None, run: Path | None = None, memory_hint: str | None = None
) -> Iterator[None]:
    """Translate memory and disk errors into a `ResnetError` with advice.

    Args:
        batch_size: number of images per batch, named in the message.
        network: named in the message where several networks are measured.
        run: the run directory that is being written (None for commands that only measure).
        memory_hint: advice for when memory runs out (None: use a smaller --batch-size).

    Raises:
        ResnetError: Python or PyTorch could not allocate memory, or (with `run`) reading or writing a file failed.
    """
    try:
        yield
    except OSError as error:
        if run is None:
            raise
        raise ResnetError(
            f"{error.filename or run}: {error.strerror or error}; files saved earlier are intact",
            hint="fix the cause and run the same command again",
        ) from error
    except (MemoryError, RuntimeError) as error:
        problem = _memory_problem(error)
        if problem is None:
            raise
        raise ResnetError(
            f"{problem}{f' for {network}' if network else ''} with a batch size of {batch_size}",
            hint=memory_hint or "use a smaller --batch-size",
        ) from error


def _memory_problem(error: MemoryError | RuntimeError) -> str | None:
    # compared by name, since commands that do not use torch must not import it
    name, text = type(error).__name__, str(error).lower()
    if name not in ("MemoryError", "OutOfMemoryError", "RuntimeError", "AcceleratorError"):
        return None
    for failure, subject in _PROBABLY.items():
        # oneDNN's "… a primitive descriptor for …" is about types and shapes that it does not support
        if name == "RuntimeError" and failure in text and f"{failure} descriptor" not in text:
            return f"probably out of memory ({subject} {failure})"
    is_certain = name in ("MemoryError", "OutOfMemoryError") or "out of memory" in text or "can't allocate" in text
    return "out of memory" if is_certain else None


def check_disk_space(path: Path, needed_bytes: int) -> None:
    """Raise `ResnetError` unless the disk that holds `path`, which need not exist yet, has `needed_bytes` free."""
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ResnetError(
            f"{folder} has {free / 1e6:.1f} MB of free space, but a run needs about {needed_bytes / 1e6:.1f} MB",
            hint="free some space or choose another --out",
        )


def available_memory_bytes() -> int | None:
    """Memory that processes can still use without swapping; None where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
