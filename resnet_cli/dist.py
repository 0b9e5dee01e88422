"""Several processes that train one network together, as torchrun starts them: what they add up and agree on."""

import contextlib
import datetime
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_cli.errors import ResnetError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
# rank 0 may download and decode a dataset while the others wait
_TIMEOUT = datetime.timedelta(hours=2)
_connections = itertools.count()


class Ranks(NamedTuple):
    """This process among those that train one network.

    All methods must be called by every process, in the same order. They raise `ResnetError` if a process has ended.
    """

    rank: int
    """Number of this process, from 0; rank 0 writes the run directory."""
    size: int
    """Number of processes."""
    local_rank: int
    """Number of this process on its machine, and of the GPU that it uses."""

    def shard(self, count: int) -> slice:
        """This process's part of a batch of `count` images: consecutive, of sizes that differ by at most one."""
        whole, rest = divmod(count, self.size)
        start = self.rank * whole + min(self.rank, rest)
        return slice(start, start + whole + (self.rank < rest))

    def all_reduce_sum(self, tensors: Sequence["Tensor"]) -> None:
        """Replace each tensor by its sum over all processes, which has the same bits everywhere.

        Args:
            tensors: of one dtype, on one device; sent as one message.
        """
        import torch
        from torch import distributed

        message = torch.cat([tensor.flatten() for tensor in tensors])
        with _connection():
            distributed.all_reduce(message)
        for tensor, part in zip(tensors, torch.split(message, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def all_reduce_max(self, number: int) -> int:
        """The largest `number` of all processes."""
        import torch
        from torch import distributed

        largest = torch.tensor(number)
        with _connection():
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)

    def broadcast(self, thing: Any = None) -> Any:
        """Give what rank 0 passes to all processes; it must be picklable."""
        import torch
        from torch import distributed

        box = [thing]
        with _connection():
            distributed.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]


def rank() -> int:
    """Number of this process among those that torchrun started, 0 for a process on its own; needs no PyTorch."""
    ranks = torchrun()
    return ranks.rank if ranks else 0


@contextlib.contextmanager
def joined() -> Iterator[Ranks | None]:
    """Context in which the processes that torchrun started are connected; None in a process on its own.

    Raises:
        ResnetError: they cannot be connected.
    """
    ranks = torchrun()
    if ranks is None:
        yield None
        return
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    with _connection():
        # the next run in this process must not find the addresses of this one
        store = PrefixStore(f"run {next(_connections)}", _store())
        distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=_TIMEOUT)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


@functools.cache
def _store() -> "Store":
    """Where the processes find each other's addresses."""
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", timeout=_TIMEOUT))
    return store  # type: ignore[no-any-return]


def torchrun() -> Ranks | None:
    """What torchrun tells this process; None if it did not start it or started no other. Needs no PyTorch.

    Source: the environment variables that torchrun documents, https://docs.pytorch.org/docs/stable/elastic/run.html.
    """
    numbers = [os.environ.get(name, "") for name in _NUMBERS]
    if not all(name in os.environ for name in _ADDRESS) or not all(number.isdecimal() for number in numbers):
        return None
    ranks = Ranks(*map(int, numbers))
    return ranks if ranks.rank < ranks.size and ranks.size > 1 else None


@contextlib.contextmanager
def _connection() -> Iterator[None]:
    """Translate the errors of a lost connection."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # of which those of torch.distributed are
        reason, *_ = str(error).strip().split("\n")
        raise ResnetError(
            f"the connection to the other processes of this run was lost: {reason}",
            hint="their own messages may say why; run the same command again to resume",
        ) from error
