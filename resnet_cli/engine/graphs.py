"""A function on tensors of fixed shapes as one CUDA graph: launched as a whole, whatever Python would do in between.

Not measured on a GPU. The recipe (side stream for the warm-up, no gradients before the capture, inputs and outputs at
fixed addresses) is that of PyTorch's notes on CUDA graphs, "whole-network capture".
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from resnet_cli.errors import ResnetError

NUM_WARMUP_CALLS = 3  # choose kernels, compile, make the momentum buffers


def record_cuda(body: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> Callable[[], Tensor]:
    """Record `body`, computing nothing.

    Args:
        body: what is recorded; it reads and writes at the same addresses at every replay.
        parameters: whose gradients it makes, if any. They lie where the record put them, and a replay sets
            `parameter.grad` to them, since a step that is not recorded replaces them.

    Returns:
        what replays it and returns its result, which the next replay overwrites.

    Raises:
        ResnetError: something in it cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=_stream()):
            result = body()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        cause = error.__context__ or error  # the end of a failed capture fails too
        reason = str(cause).partition("\n")[0]
        raise ResnetError(f"no CUDA graph could be made: {reason}", hint="--no-cuda-graph does without") from error
    gradients = [parameter.grad for parameter in parameters]

    def replay() -> Tensor:
        graph.replay()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is not gradient:
                parameter.grad = gradient
        return result

    return replay


@functools.cache
def _stream() -> torch.cuda.Stream:
    # one for ever: libraries keep a workspace for each stream that they have seen
    return torch.cuda.Stream()  # type: ignore[no-untyped-call,no-any-return,unused-ignore]


@contextmanager
def side_stream() -> Iterator[None]:
    """What runs before a capture runs on the stream of the capture."""
    stream = _stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


class Graphed:
    """Calls a function as it is a few times, then records it and replays the record.

    Every call computes what the function would have computed, also those before the recording: nothing is undone.

    Args:
        function: of tensors, to a tensor.
        size: first dimension of its inputs; inputs of another size are given to the function itself.
        parameters: whose gradients it makes.
        record: makes the record.
        warm_up: the context of the first calls.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        size: int,
        *,
        parameters: Sequence[nn.Parameter] = (),
        record: Callable[[Callable[[], Tensor], Sequence[nn.Parameter]], Callable[[], Tensor]] = record_cuda,
        warm_up: Callable[[], AbstractContextManager[None]] = side_stream,
    ) -> None:
        self._function, self._size, self._parameters = function, size, parameters
        self._record, self._warm_up = record, warm_up
        self._num_calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function of `inputs`; the result is the caller's own."""
        if len(inputs[0]) != self._size:
            return self._function(*inputs)
        self._num_calls += 1
        if self._num_calls <= NUM_WARMUP_CALLS:
            with self._warm_up():
                return self._function(*inputs)
        if self._replay is None:
            self._inputs = tuple(value.clone() for value in inputs)
            self._replay = self._record(lambda: self._function(*self._inputs), self._parameters)
        for fixed, value in zip(self._inputs, inputs, strict=True):
            fixed.copy_(value)
        return self._replay().clone()
