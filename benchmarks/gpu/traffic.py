"""Bytes that operations read and write, as a lower bound of their time."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TrafficCounter(TorchDispatchMode):
    """Counts the bytes of the tensors that every operation takes and returns.

    Views count nothing, and indexing reads only what it returns.
    A lower bound only if no operation finds its input in a cache.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        """Bytes of all operations."""
        self.convolutions = 0
        """Bytes of forward and backward convolutions."""
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func._schema.name in ("aten::detach", "aten::empty", "aten::empty_like"):
            return result
        tensors = {id(value): value for value in tree_leaves((args, kwargs, result)) if isinstance(value, torch.Tensor)}
        if func._schema.name == "aten::index":
            tensors[id(args[0])] = result  # it reads what it returns, not all that it is given
        moved = sum(value.numel() * value.element_size() for value in tensors.values())
        self.total += moved
        self.operations += 1
        if "convolution" in func._schema.name:
            self.convolutions += moved
        return result
