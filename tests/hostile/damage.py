"""Damage to any file of a run directory; `mutations` combines it with damage to particular files."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202e"
MARKUP = "<script>alert(1)</script>[red]$\\frac{\\input{/etc/passwd}|`%n\n# h"

Change = Callable[[Path, random.Random], None]


class Mutation(NamedTuple):
    """One way to damage a run directory."""

    name: str
    apply: Change
    is_refused: bool
    """Whether `resnet plot` must exclude the run, or omit the figure that shows the file; else it may use it."""


def replace(file: str, content: bytes) -> Change:
    """Put other bytes in the place of a file."""
    return lambda run, _: write(run / file, content)


def write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def rewrite(file: str, change: Callable[[bytes], bytes]) -> Change:
    """Change the content of a file."""
    return lambda run, _: write(run / file, change((run / file).read_bytes()))


def put(file: str, make: Callable[[Path], object]) -> Change:
    """Put something else in the place of a file: `make` receives its path, which is free."""

    def apply(run: Path, _: random.Random) -> None:
        (run / file).unlink(missing_ok=True)
        (run / file).parent.mkdir(exist_ok=True)
        make(run / file)

    return apply


def link(file: str, target: str) -> Change:
    return put(file, lambda path: path.symlink_to(target))


def larger_than_read(file: str) -> Change:
    def apply(run: Path, _: random.Random) -> None:
        with (run / file).open("r+b") as opened:
            opened.truncate(2**40)  # sparse: it takes no disk

    return apply


def cut(file: str, share: float) -> Change:
    return rewrite(file, lambda content: content[: int(share * len(content))])


def flip(file: str, number: int) -> Change:
    def apply(run: Path, rng: random.Random) -> None:
        content = bytearray((run / file).read_bytes())
        for _ in range(number):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (run / file).write_bytes(content)

    return apply


def damages_of_a_file(file: str) -> dict[str, Change]:
    """Things in the place of a file that are not that file."""
    return {
        "is empty": replace(file, b""),
        "is a folder": put(file, lambda path: (path / "inside").mkdir(parents=True)),
        "is a pipe": put(file, os.mkfifo),
        "links to itself": link(file, Path(file).name),
        "links to nothing": link(file, "nothing/there"),
        "links to /dev/zero": link(file, "/dev/zero"),
        "links to /dev/stdin": link(file, "/dev/stdin"),
        "links to a folder": link(file, ".."),
        "links to a file of /proc": link(file, "/proc/cpuinfo"),
        "is a terabyte": larger_than_read(file),
        "is cut in half": cut(file, 0.5),
        "is cut near its start": cut(file, 0.02),
        "is zeros": replace(file, b"\0" * 4096),
        "is no UTF-8": replace(file, b"\xff\xfe\xfd\x80" * 50),
        "is a PNG": replace(file, b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        "is an escape sequence": replace(file, ESCAPES.encode()),
    }


def unlink(file: str) -> Change:
    return lambda run, _: (run / file).unlink()


def then(*changes: Change) -> Change:
    def apply(run: Path, rng: random.Random) -> None:
        for change in changes:
            change(run, rng)

    return apply
