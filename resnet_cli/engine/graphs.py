"""CUDA graphs: a function on tensors of fixed shapes is recorded once and then launched as a whole.

Not measured on a GPU yet. The method (side stream for the warm-up, no gradients before the capture, inputs and outputs
at fixed addresses) follows PyTorch's notes on CUDA graphs, section "Whole-network capture".
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from resnet_cli.errors import ResnetError

NUM_WARMUP_CALLS = 3  # they choose kernels, compile, and create the momentum buffers


def record_cuda(body: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> Callable[[], Tensor]:
    """Record `body` as a CUDA graph, without running it.

    Args:
        body: function to record; every replay reads and writes the same addresses.
        parameters: parameters whose gradients it computes. Each replay sets `parameter.grad` to the recorded
            tensor again, since a step outside the graph replaces it.

    Returns:
        Function that replays the graph and returns its result, which the next replay overwrites.

    Raises:
        ResnetError: an operation in `body` cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=_stream()):
            result = body()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        cause = error.__context__ or error  # ending a failed capture raises an error of its own
        reason = str(cause).partition("\n")[0]
        raise ResnetError(f"cannot record a CUDA graph: {reason}", hint="use --no-cuda-graph") from error
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
    # a single stream: libraries keep a workspace for every stream they have seen
    return torch.cuda.Stream()  # type: ignore[no-untyped-call,no-any-return,unused-ignore]


@contextmanager
def side_stream() -> Iterator[None]:
    """Run the warm-up on the stream of the capture."""
    stream = _stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


class Graphed:
    """Calls a function a few times, then records it and replays the recording.

    Every call returns the result of the function, including the calls before the recording.

    Args:
        function: maps tensors to a tensor.
        size: first dimension of its inputs; the function is called directly on inputs of another size.
        parameters: parameters whose gradients it computes.
        record: records the function.
        warm_up: context manager for the first calls.
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
        """Return the result of the function for `inputs`, as a tensor that later calls leave unchanged."""
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
