"""When the disk or the memory does not suffice: one line that says so, and what to do."""

import contextlib
import shutil
from collections.abc import Iterator

from resnet_cli.config import RunConfig
from resnet_cli.errors import OutOfMemoryError, ResnetError
from resnet_cli.rundir import RunDir


@contextlib.contextmanager
def explained(run: RunDir, config: RunConfig) -> Iterator[None]:
    """Say in one line what the machine had too little of or would not write, and what to do."""
    try:
        yield
    except OSError as error:
        raise ResnetError(
            f"{error.filename or run.path}: {error.strerror or error}; what was saved before is intact",
            hint="mend it and give the same command again",
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory with batches of {config.batch_size} images",
            hint=f"a smaller --batch-size needs less, but is another experiment; {run.path} can be resumed elsewhere",
        ) from error


def is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether Python or PyTorch said with `error` that memory is short."""
    # by its name, since a run that another process holds is refused without importing torch
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return type(error) is RuntimeError and ("out of memory" in text or "can't allocate memory" in text)


def check_space(run: RunDir, parameters: int) -> None:
    """Raise `ResnetError` when the disk has no room for what a run writes: found before the first epoch."""
    # best and last weights, and the checkpoint with momentum twice while it is replaced; CSV files and predictions
    needed = 4 * parameters * 6 + 8_000_000
    folder = next(parent for parent in (run.path, *run.path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResnetError(
            f"{folder} has {free / 1e6:.1f} MB of free space, a run needs about {needed / 1e6:.1f} MB",
            hint="make space or choose another --out",
        )
