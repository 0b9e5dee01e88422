"""Looks a PyTorch pickle through before it is loaded: refuses what no state dict needs and what no loader survives.

`torch.load(weights_only=True)` runs no foreign code, but a few bytes can still crash it (a tuple nested a million
deep overflows the C stack when it is hashed) or keep it busy for ever (lists that hold one another double with every
level when they are printed). This check follows the pickle's stack with descriptions in place of values.

Source: the operations are those of `torch/_weights_only_unpickler.py`, read with CPython's `pickletools`.
"""

import io
import pickletools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# What torch.save writes for tensors of any kind, for the dictionaries around them, and for a scheduler's state.
_NAMES = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)|torch (Size|device|\w+Storage)"
    r"|torch (u?int\d+|b?float\w+|complex\d+|bool|q\w+|per_\w+)|torch\.storage (Typed|Untyped)Storage"
    r"|torch\._utils _rebuild_\w+|torch\.serialization _get_layout"
)
# A storage or a number format is mentioned, never called: calling one asks for memory.
_CALLABLE = re.compile(r"collections \w+|\w+ set|\w+ complex|torch (Size|device)|\S+ (_rebuild_\w+|_get_layout)")
_CONTAINERS = re.compile(r"collections \w+|\w+ set")
_MAX_PICKLES = 5  # of a file in PyTorch's older format: magic number, version, system, content, storage keys
_MAX_OPERATIONS = 5_000_000  # a ResNet-1202 with its momentum takes half a million
_MAX_TUPLE_SIZE = 100_000  # values and characters
_MAX_TUPLE_DEPTH = 50
# Each time a container is mentioned again, what is printed of it can double.
_MAX_SHARED_CONTAINERS = 8


class RefusedError(Exception):
    """The pickle does what no state dict does."""


class NameRefusedError(RefusedError):
    """The pickle asks for a name that no state dict needs; the message is that name."""


class _Value(NamedTuple):
    """What is known of a value."""

    name: str = ""
    """Of a function or class; empty for everything else."""
    is_container: bool = False
    """Whether things can be put into it."""
    is_tuple: bool = False
    holds_container: bool = False
    """Of a tuple."""
    size: int = 1
    """Of a string: its length; of a tuple: the sum over all levels of what is in it."""
    depth: int = 0


_ATOM = _Value()
_CONTAINER = _Value(is_container=True)


def check_pickle(data: bytes) -> None:
    """Raise `RefusedError` unless the pickles at the start of `data` are built as those of a state dict.

    Args:
        data: `data.pkl` of a PyTorch zip file, or a whole file in the older format, where storages follow the pickles.
    """
    stream = io.BytesIO(data)
    for _ in range(_MAX_PICKLES):
        if stream.tell() == len(data):
            break
        _Machine().run(stream)


class _Machine:
    """The stack machine of the pickle format, working on descriptions."""

    def __init__(self) -> None:
        self.stack: list[_Value] = []
        self.outer: list[list[_Value]] = []
        self.memo: dict[int, _Value] = {}
        self.num_shared = 0

    def run(self, stream: io.BytesIO) -> None:
        try:
            for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
                if count >= _MAX_OPERATIONS:
                    raise RefusedError(f"it has more than {_MAX_OPERATIONS:,} operations")
                if operation.name not in ("PROTO", "STOP"):
                    _OPERATIONS[operation.name](self, argument)
        except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
            raise RefusedError(f"it is damaged or of another kind: {error}") from error

    def push(self, value: _Value) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[_Value]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def name(self, name: str) -> None:
        if not _NAMES.fullmatch(name):
            raise NameRefusedError(name.replace(" ", "."))
        self.push(_Value(name=name))

    def recall(self, index: int) -> None:
        value = self.memo[index]
        if value.is_container or value.holds_container:
            self.num_shared += 1
            if self.num_shared > _MAX_SHARED_CONTAINERS:
                raise RefusedError("its lists and dictionaries hold one another")
        self.push(value)

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def tuple_of(self, items: Iterable[_Value]) -> None:
        items = list(items)
        size = 1 + sum(item.size for item in items)
        depth = 1 + max((item.depth for item in items), default=0)
        if size > _MAX_TUPLE_SIZE or depth > _MAX_TUPLE_DEPTH:
            raise RefusedError("it holds a tuple of tuples that never ends")
        holds_container = any(item.is_container or item.holds_container for item in items)
        self.push(_Value(is_tuple=True, holds_container=holds_container, size=size, depth=depth))

    def last(self, count: int) -> list[_Value]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def fill(self, items: Iterable[_Value]) -> None:
        """Put `items` into the container on top; nothing but that it is one needs to be known."""
        del items
        if not self.stack[-1].is_container:
            raise RefusedError("it fills what is neither a list nor a dictionary")

    def reduce(self) -> None:
        function, arguments = self.last(2)
        if not _CALLABLE.fullmatch(function.name) or not arguments.is_tuple:
            raise RefusedError(f"it calls {function.name.replace(' ', '.') or 'what is no function'}")
        self.push(_CONTAINER if _CONTAINERS.fullmatch(function.name) else _ATOM)

    def build(self) -> None:
        self.fill(self.last(1))

    def persistent(self) -> None:
        (key,) = self.last(1)
        if key.is_container or key.holds_container or key.name:
            raise RefusedError("it names a storage by a list or a dictionary")
        self.push(_ATOM)


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": lambda m, name: m.name(name),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.persistent(),
    "MARK": lambda m, _: m.mark(),
    "TUPLE": lambda m, _: m.tuple_of(m.since_mark()),
    "EMPTY_TUPLE": lambda m, _: m.tuple_of(()),
    "TUPLE1": lambda m, _: m.tuple_of(m.last(1)),
    "TUPLE2": lambda m, _: m.tuple_of(m.last(2)),
    "TUPLE3": lambda m, _: m.tuple_of(m.last(3)),
    "APPEND": lambda m, _: m.fill(m.last(1)),
    "APPENDS": lambda m, _: m.fill(m.since_mark()),
    "SETITEM": lambda m, _: m.fill(m.last(2)),
    "SETITEMS": lambda m, _: m.fill(m.since_mark()),
    "BINGET": lambda m, index: m.recall(index),
    "LONG_BINGET": lambda m, index: m.recall(index),
    "BINPUT": lambda m, index: m.remember(index),
    "LONG_BINPUT": lambda m, index: m.remember(index),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), lambda m, _: m.push(_CONTAINER)),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINSTRING"), lambda m, text: m.push(_Value(size=1 + len(text)))),
    **dict.fromkeys(
        ("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"), lambda m, _: m.push(_ATOM)
    ),
}  # fmt: skip
