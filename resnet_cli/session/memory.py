"""When a measurement does not fit into memory: one line with the size of its batches."""

import contextlib
from collections.abc import Iterator

from resnet_cli.errors import OutOfMemoryError
from resnet_cli.session.shortage import is_out_of_memory


@contextlib.contextmanager
def memory_explained(batch_size: int, network: str | None = None) -> Iterator[None]:
    """Raise `OutOfMemoryError` with what to try where Python or PyTorch found no memory for `batch_size` images.

    The message names `network` where several are measured.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory{f': {network}' if network else ''} with batches of {batch_size} images",
            hint="a smaller --batch-size needs less",
        ) from error
