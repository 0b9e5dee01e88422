"""Damage to metrics.csv, gradflow.csv and predictions.npz."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from damage import ESCAPES, Mutation, replace, rewrite

TABLES = ("metrics.csv", "gradflow.csv")
PREDICTIONS = "predictions.npz"


def mutations_of_tables() -> Iterator[Mutation]:
    for file in TABLES:
        for what, (change, is_refused) in _table_changes(file).items():
            yield Mutation(f"{file} {what}", rewrite(file, change), is_refused)


def _table_changes(file: str) -> dict[str, tuple[Callable[[bytes], bytes], bool]]:
    def cell(row: int, column: int, value: bytes) -> Callable[[bytes], bytes]:
        def change(text: bytes) -> bytes:
            lines = [line.split(b",") for line in text.splitlines()]
            lines[row][column] = value
            return b"\n".join(map(b",".join, lines)) + b"\n"

        return change

    def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
        return lambda text: b"".join(change(text.splitlines(keepends=True)))

    measure = 6 if file == "metrics.csv" else 5  # train_clean_error_pct, grad_norm
    changes: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
        "has other columns": (lambda text: text.replace(b"epoch", b"period", 1), True),
        "has its columns in another order": (
            lambda text: text.replace(b"epoch,", b"", 1).replace(b"\n", b",epoch\n", 1), True,
        ),
        "has a million columns": (lambda text: b",".join([text.split(b"\n")[0]] * 70_000) + b"\n", True),
        "has no header": (lines(lambda rows: rows[1:]), True),
        "has its header twice": (lines(lambda rows: [rows[0], *rows]), True),
        "has a cell too many": (lines(lambda rows: [rows[0], rows[1].replace(b"\n", b",1\n"), *rows[2:]]), True),
        "has a cell too many in every row": (
            lines(lambda rows: [rows[0], *(row.replace(b"\n", b",1\n") for row in rows[1:])]), True,
        ),
        "has a cell too few": (lines(lambda rows: [rows[0], rows[1].rpartition(b",")[0] + b"\n", *rows[2:]]), True),
        "has an empty line": (lines(lambda rows: [*rows[:2], b"\n", *rows[2:]]), True),
        "is backwards": (lines(lambda rows: [rows[0], *rows[:0:-1]]), file == "metrics.csv"),
        "has its rows twice": (lines(lambda rows: [*rows, *rows[1:]]), True),
        "has mixed line ends": (lines(lambda rows: [rows[0], rows[1].replace(b"\n", b"\r\n"), *rows[2:]]), False),
        "has a NUL": (cell(1, measure, b"1\x00"), True),
        "has a byte order mark": (lambda text: b"\xef\xbb\xbf" + text, True),
        "has quotes": (cell(1, measure, b'"1'), True),
        "has a formula": (cell(1, measure, b"=cmd|'/C calc'!A0"), True),
        "has an escape sequence": (cell(1, measure, ESCAPES.replace("\r", "").encode()), True),
        "is UTF-16": (lambda text: text.decode().encode("utf-16"), True),
        "is nothing but its header": (lines(lambda rows: rows[:1]), file == "metrics.csv"),
        "lost its last row": (lines(lambda rows: rows[:-1]), True),
        "has a huge cell": (cell(1, measure, b"1" * 5_000_000), False),
    }  # fmt: skip
    for value in ("NaN", "1000000000", "0x1", "one"):
        changes[f"has the epoch {value!r}"] = (cell(-1, 0, value.encode()), True)
    for value in ("1e300", "-inf", "nan", "101"):
        is_refused = value == "-inf" or (file == "metrics.csv" and value != "nan")
        changes[f"has the measure {value}"] = (cell(-1, measure, value.encode()), is_refused)
    return changes


def npz(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """An .npz file of raw members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    """An array as `np.save` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _claiming(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/resnet-cli-was-here",))


def mutations_of_predictions() -> Iterator[Mutation]:
    labels, logits = np.arange(40) % 10, np.zeros((40, 10), np.float32)
    good_labels, good_logits = npy(labels), npy(logits)
    contents = {
        "of pickled objects": npz(labels=npy(np.array([_Payload()], dtype=object)), logits=good_logits),
        "that is a pickle": pickle.dumps(_Payload()),
        "beyond float32": npz(labels=good_labels, logits=npy(logits.astype(float) + 1e300)),
        "of complex numbers": npz(labels=good_labels, logits=npy(logits.astype(complex))),
        "of words": npz(labels=npy(labels.astype(str)), logits=good_logits),
        "of other classes": npz(labels=good_labels, logits=npy(np.zeros((40, 7 + 20), np.float32))),
        "of a hundred thousand classes": npz(labels=npy(labels[:1]), logits=npy(np.zeros((1, 100_000), np.float32))),
        "that unpacks to 4 GB": _bomb(),
        "that claims a terabyte": npz(labels=good_labels, logits=_claiming((10**11, 10))),
        "that claims a negative shape": npz(labels=good_labels, logits=_claiming((-40, -10), data=b"\0" * 1600)),
        "that claims no bytes": npz(labels=good_labels, logits=_claiming((10**18, 0))),
        "of a void type": npz(labels=good_labels, logits=_claiming((40, 10), "|V0")),
        "with code in its header": npz(labels=good_labels, logits=_claiming((40, 10), "__import__('os')")),
        "packed by LZMA": npz(zipfile.ZIP_LZMA, labels=good_labels, logits=good_logits),
        "packed by bzip2": npz(zipfile.ZIP_BZIP2, labels=good_labels, logits=good_logits),
        "of ten thousand members": npz(labels=good_labels, logits=good_logits, **{f"m{i}": b"" for i in range(10_000)}),
        "of version 9": npz(labels=good_labels, logits=good_logits.replace(b"NUMPY\x01", b"NUMPY\x09")),
        "that is encrypted": _encrypted(npz(labels=good_labels, logits=good_logits)),
    }
    usable = {
        "of the other byte order": npz(labels=npy(labels.astype(">i2")), logits=npy(logits.astype(">f8"))),
        "in Fortran's order": npz(labels=good_labels, logits=npy(np.asfortranarray(logits))),
        "in half precision": npz(labels=good_labels, logits=npy(logits.astype(np.float16))),
        "with more arrays": npz(labels=good_labels, logits=good_logits, more=good_labels),
    }
    for what, content in {**contents, **usable}.items():
        yield Mutation(f"{PREDICTIONS} {what}", replace(PREDICTIONS, content), is_refused=what in contents)


def _bomb() -> bytes:
    """Four gigabytes of zeros in as many megabytes: one block, listed as a member of the size that it claims."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("labels.npy", npy(np.zeros(1, int)))
        with archive.open("logits.npy", "w", force_zip64=True) as member:
            for _ in range(32):  # a sample of it: the declared size is what a reader goes by
                member.write(b"\0" * 2**20)
    data = bytearray(buffer.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    return bytes(data)


def _encrypted(data: bytes) -> bytes:
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := changed.find(signature, at + 1)) >= 0:
            changed[at + offset] |= 1
    return bytes(changed)
