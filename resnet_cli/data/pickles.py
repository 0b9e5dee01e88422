"""A reader of the pickles that CIFAR consists of: it builds data and never calls, imports or constructs anything.

CIFAR's batches are protocol-2 pickles of dictionaries with byte strings, lists of small integers and one uint8
array. Python's own unpickler would import and call whatever a pickle names; limiting it by `find_class` still leaves
it open to pickles that exhaust memory or crash it (huge memo indices, deeply nested keys, hostile array states).
This reader interprets the few operations that those files use, as data; everything else is refused by name.

Source: the table of operations in CPython's `pickletools`; the layout was checked against the published MD5 sums
of `batches.meta` and `meta`, which can be rebuilt byte for byte.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from resnet_cli.errors import InputError

MAX_BYTES = 256 * 2**20  # CIFAR-100's training file, the largest, has 155 MB
# One label or file name takes up to two operations; CIFAR-100's training file has 50,000 of each and a coarse label.
MAX_OPERATIONS = 1_000_000

_NDARRAY = "numpy ndarray"
_ADMITTED = frozenset({
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",  # since numpy 2
    _NDARRAY,
    "numpy dtype",
    "_codecs encode",  # how Python 3 writes byte strings in protocol 2
})  # fmt: skip


class _RefusedError(Exception):
    """The pickle does what no CIFAR file does."""


class _Global(NamedTuple):
    """A name that the pickle mentions; it stands for itself and nothing is imported."""

    name: str


class _Numpy(enum.Enum):
    """What stands for numpy's objects while they are being put together."""

    UINT8 = enum.auto()  # the only dtype there is
    EMPTY_ARRAY = enum.auto()  # an array before its state arrives


def read_pickle(data: bytes, name: str) -> dict[bytes, Any]:
    """The dictionary that a pickle of CIFAR holds.

    Args:
        data: the whole file.
        name: what error messages call it.

    Returns:
        byte-string keys to integers, byte strings, lists, or read-only uint8 arrays (rows, columns).

    Raises:
        InputError: the data is truncated, damaged, too large, or holds anything that a CIFAR file does not.
    """
    try:
        if len(data) > MAX_BYTES:
            raise _RefusedError(f"{len(data):,} bytes are too many")
        value = _Machine(data).run()
        if not isinstance(value, dict):
            raise _RefusedError(f"it holds a {type(value).__name__}, not a dictionary")
    except _RefusedError as error:
        raise InputError(f"{name} is not a CIFAR file: {error}", hint="fetch the dataset again") from error
    return value


class _Machine:
    """The stack machine of the pickle format, reduced to data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # stacks below each open mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPERATIONS):
            start = self.position
            code = self.take(1)
            if code == b".":
                if self.position < len(self.data):
                    raise _RefusedError(f"bytes follow its end at byte {start}")
                return self.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise _RefusedError(f"operation {code!r} at byte {start}")
            operation(self)
        raise _RefusedError(f"it has more than {MAX_OPERATIONS:,} operations")

    def take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise _RefusedError("it is truncated")
        return self.data[start : self.position]

    def number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def pop(self) -> Any:
        if not self.stack:
            raise _RefusedError(f"the stack is empty at byte {self.position}")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        if not self.outer:
            raise _RefusedError(f"there is no mark at byte {self.position}")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise _RefusedError(f"there is no {kind.__name__} to fill at byte {self.position}")
        return self.stack[-1]

    def protocol(self) -> None:
        if (version := self.number(1)) > 2:
            raise _RefusedError(f"protocol {version} is not 2")

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def remember(self, index: int) -> None:
        self.stack.append(value := self.pop())
        self.memo[index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise _RefusedError(f"memo {index} is not set")
        self.stack.append(self.memo[index])

    def text(self) -> None:
        try:
            self.stack.append(self.take(self.number(4)).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise _RefusedError(f"text before byte {self.position} is not UTF-8") from error

    def long(self) -> None:
        if (width := self.number(1)) > 8:
            raise _RefusedError(f"an integer of {width} bytes at byte {self.position}")
        self.stack.append(self.number(width, signed=True))

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def tuple_since_mark(self) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise _RefusedError(f"a key has no value at byte {self.position}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not bytes:  # hashing nested tuples can take for ever or overflow the C stack
                raise _RefusedError(f"a key at byte {self.position} is not a byte string")
            target[key] = value

    def name(self) -> None:
        parts = []
        for _ in range(2):
            end = self.data.find(b"\n", self.position, self.position + 100)
            if end < 0:
                raise _RefusedError(f"the name at byte {self.position} has no end")
            parts.append(self.take(end - self.position).decode("latin-1"))
            self.position += 1
        name = " ".join(parts)
        if name not in _ADMITTED:
            raise _RefusedError(f"it asks for {'.'.join(parts)!r}")
        self.stack.append(_Global(name))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise _RefusedError(f"a call at byte {self.position}")
        self.stack.append(_call(function.name, arguments))

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if target is _Numpy.UINT8 and type(state) is tuple:
            self.stack.append(target)  # byte order and alignment say nothing about single bytes
        elif target is _Numpy.EMPTY_ARRAY:
            self.stack.append(_array(state))
        else:
            raise _RefusedError(f"a state at byte {self.position}")


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    """What a call of an admitted name stands for; the arguments must be the ones that CIFAR's writers give."""
    match name, arguments:
        case "numpy dtype", (b"u1" | "u1" | b"|u1" | "|u1", *_):
            return _Numpy.UINT8
        case "numpy dtype", (bytes(kind) | str(kind), *_):
            raise _RefusedError(f"it holds an array of dtype {kind[:20]!r}, not uint8")
        case "_codecs encode", (str(text), "latin1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError as error:
                raise _RefusedError("a byte string has characters above 255") from error
        case (("numpy.core.multiarray _reconstruct" | "numpy._core.multiarray _reconstruct"), (_Global(cls), *_)):
            if cls == _NDARRAY:
                return _Numpy.EMPTY_ARRAY
    raise _RefusedError(f"it calls {name.replace(' ', '.')!r} with other arguments than numpy does")


def _array(state: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    match state:
        case (int(), (int(rows), int(columns)), _Numpy.UINT8, bool(is_fortran), bytes(data)):
            if rows > 0 and columns > 0 and rows * columns == len(data):
                return np.frombuffer(data, np.uint8).reshape(rows, columns, order="F" if is_fortran else "C")
            raise _RefusedError(f"an array of {rows} × {columns} does not fit its {len(data):,} bytes")
    raise _RefusedError("an array's state is not that of a uint8 table")


# By the letters of `pickletools`; each takes its argument from the data and the rest from the stack.
_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"(": _Machine.mark,
    b"c": _Machine.name,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
    b"q": lambda m: m.remember(m.number(1)),
    b"r": lambda m: m.remember(m.number(4)),
    b"h": lambda m: m.recall(m.number(1)),
    b"j": lambda m: m.recall(m.number(4)),
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"K": lambda m: m.stack.append(m.number(1)),
    b"M": lambda m: m.stack.append(m.number(2)),
    b"J": lambda m: m.stack.append(m.number(4, signed=True)),
    b"\x8a": _Machine.long,
    b"U": lambda m: m.stack.append(m.take(m.number(1))),
    b"T": lambda m: m.stack.append(m.take(m.number(4))),
    b"X": _Machine.text,
    b")": lambda m: m.stack.append(()),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": _Machine.tuple_since_mark,
    b"]": lambda m: m.stack.append([]),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"}": lambda m: m.stack.append({}),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.since_mark()),
}
