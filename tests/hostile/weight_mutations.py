"""Damage to a weight file: cut, foreign, or lying about what it holds."""

import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from damage import ESCAPES, MARKUP, Mutation, damages_of_a_file, flip, write
from safetensors import safe_open
from safetensors.torch import save

WEIGHTS = "weights/last.safetensors"


def mutations_of_weights() -> Iterator[Mutation]:
    """Every mutation of the last weights of a run; `is_refused`: by `eval` and `gradflow`."""
    for what, change in damages_of_a_file(WEIGHTS).items():
        yield Mutation(f"{WEIGHTS} {what}", change, is_refused=True)
    yield Mutation(f"{WEIGHTS} is missing", lambda run, _: (run / WEIGHTS).unlink(), is_refused=True)
    for share in (0.001, 0.01, 0.1, 0.3, 0.7, 0.9, 0.99, 0.9999):
        yield Mutation(f"{WEIGHTS} ends after {share:%}", _rewrite(_cut(share)), is_refused=True)
    for number in (1, 2, 5, 100):
        yield Mutation(f"{WEIGHTS} has {number} flipped bits", flip(WEIGHTS, number), is_refused=True)
    for what, make in _CONTENTS.items():
        yield Mutation(f"{WEIGHTS} {what}", _rewrite(make), is_refused=True)


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path, random.Random], None]:
    return lambda run, _: write(run / WEIGHTS, change((run / WEIGHTS).read_bytes()))


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(share * len(data))]


def _header(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """The same bytes of tensors under a changed header."""

    def rewrite(data: bytes) -> bytes:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[end:]

    return rewrite


def _tensors(change: Callable[[dict[str, torch.Tensor]], None], **more: str) -> Callable[[bytes], bytes]:
    """The same metadata, without a checksum of what is there no longer, over changed tensors."""

    def rewrite(data: bytes) -> bytes:
        tensors, metadata = _read(data)
        change(tensors)
        return save(tensors, metadata={**metadata, **more})

    return rewrite


def _read(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    path = Path(f"/tmp/resnet-cli-{os.getpid()}.safetensors")  # noqa: S108 (the reader takes a path only)
    path.write_bytes(data)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, file.metadata() or {}
    finally:
        path.unlink()


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/resnet-cli-was-here",))


def _pickled(value: Any, **options: Any) -> Callable[[bytes], bytes]:
    def make(_: bytes) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        return buffer.getvalue()

    return make


def _zip_bomb(_: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 2**24)
    return buffer.getvalue()


def _fill(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors[name].fill_(value)  # type: ignore[return-value]


def _replace(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda mapping: mapping.__setitem__(name, value)


def _pop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda mapping: mapping.pop(name)


def _metadata(**values: Any) -> Callable[[bytes], bytes]:
    return _header(lambda header: header["__metadata__"].update(values))


_ONE = torch.zeros(1)
_CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "claims a header of 2**63 bytes": lambda data: (2**63).to_bytes(8, "little") + data[8:],
    "claims a header of 100 MB": lambda data: (10**8).to_bytes(8, "little") + data[8:],
    "claims an empty header": lambda data: (0).to_bytes(8, "little") + data[8:],
    "has a header that is nested deep": lambda _: (40_000).to_bytes(8, "little") + b'{"a":' * 8000,
    "has offsets beyond its end": _header(
        _replace("fc.bias", {"dtype": "F32", "shape": [10], "data_offsets": [0, 2**40]})
    ),
    "has offsets that run backwards": _header(
        _replace("fc.bias", {"dtype": "F32", "shape": [10], "data_offsets": [40, 0]})
    ),
    "has a shape beyond 64 bits": _header(
        _replace("fc.bias", {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 40]})
    ),
    "has an unknown type": _header(_replace("fc.bias", {"dtype": "ESC", "shape": [10], "data_offsets": [0, 40]})),
    "has no metadata": _header(_pop("__metadata__")),
    "has metadata of numbers": _header(_replace("__metadata__", {"format": 1})),
    "has a configuration that is no JSON": _metadata(config="{"),
    "has a configuration of escapes": _metadata(config=ESCAPES),
    "has a configuration of another run": _metadata(config=json.dumps({"arch": "resnet"})),
    "is of a newer schema": _metadata(schema_version="99"),
    "is of the schema of markup": _metadata(schema_version=MARKUP),
    "is of a schema of five thousand digits": _metadata(schema_version="9" * 5000),
    "holds another tensor": _tensors(_replace("extra.\x1b[31m<b>", _ONE)),
    "lacks a tensor": _tensors(_pop("fc.bias")),
    "holds a tensor of another shape": _tensors(_replace("fc.bias", torch.zeros(7))),
    "holds other classes": _tensors(lambda tensors: tensors.update({"fc.weight": _ONE.expand(5, 64).clone()})),
    "holds NaN": _tensors(_fill("fc.bias", float("nan"))),
    "holds a negative variance": _tensors(_fill("bn1.running_var", -1.0)),
    "holds numbers near the largest": _tensors(_fill("fc.weight", 3e38)),
    "holds whole numbers": _tensors(_replace("fc.bias", torch.zeros(10, dtype=torch.int64))),
    "is a checkpoint": _tensors(lambda _: None, format="resnet-cli checkpoint"),
    "is a pickle with code": _pickled({"state_dict": _Payload()}),
    "is a legacy pickle with code": _pickled({"state_dict": _Payload()}, _use_new_zipfile_serialization=False),
    "is a state dict of nothing": _pickled({}),
    "is a state dict of another network": _pickled({"layer4.0.conv1.weight": _ONE, "fc.weight": torch.zeros(10, 512)}),
    "is a state dict of escapes": _pickled({ESCAPES: _ONE, MARKUP: 1}),
    "is a list": _pickled([1, 2, 3]),
    "is a compressed archive": _zip_bomb,
}
