"""Damage to the weight file of a run: truncated, from elsewhere, or with a header that does not fit its content."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from damage import ESCAPES, MARKUP, Change, Mutation, cut, damages_of_a_file, flip, rewrite, unlink
from safetensors.torch import load, save
from torch import zeros

from resnet_cli.util.checksum import read_metadata, with_checksum

WEIGHTS = "weights/last.safetensors"


def mutations_of_weights() -> Iterator[Mutation]:
    """Every mutation of the last weights of a run; `eval` and `gradflow` must reject all of them."""
    changes: dict[str, Change] = {
        **damages_of_a_file(WEIGHTS),
        "is missing": unlink(WEIGHTS),
        **{f"ends after {share:%}": cut(WEIGHTS, share) for share in (0.001, 0.1, 0.7, 0.99, 0.9999)},
        **{f"has {number} flipped bits": flip(WEIGHTS, number) for number in (1, 2, 5, 100)},
        **{what: rewrite(WEIGHTS, change) for what, change in _CONTENTS.items()},
    }
    for what, change in changes.items():
        yield Mutation(f"{WEIGHTS} {what}", change, is_refused=True)


def _header(**entries: Any) -> Callable[[bytes], bytes]:
    """Change entries of the JSON header and keep the bytes of the tensors."""

    def rewrite(data: bytes) -> bytes:
        end = 8 + int.from_bytes(data[:8], "little")
        text = json.dumps({**json.loads(data[8:end]), **entries}).encode()
        return len(text).to_bytes(8, "little") + text + data[end:]

    return rewrite


def _bias(dtype: str = "F32", shape: tuple[int, ...] = (10,), offsets: tuple[int, ...] = (0, 40)) -> Any:
    return _header(**{"fc.bias": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})


def _tensors(change: Callable[[dict[str, Any]], object] = lambda _: None, **metadata: str) -> Callable[[bytes], bytes]:
    """Change tensors and metadata under a valid checksum."""

    def rewrite(data: bytes) -> bytes:
        tensors = load(data)
        change(tensors)
        return with_checksum(save(tensors, {**read_metadata(data), **metadata}))

    return rewrite


_CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "claims a header of 2**63 bytes": lambda data: (2**63).to_bytes(8, "little") + data[8:],
    "claims a header of 100 MB": lambda data: (10**8).to_bytes(8, "little") + data[8:],
    "claims an empty header": lambda data: (0).to_bytes(8, "little") + data[8:],
    "has a deeply nested header": lambda _: (40_000).to_bytes(8, "little") + b'{"a":' * 8000,
    "has offsets beyond its end": _bias(offsets=(0, 2**40)),
    "has offsets that run backwards": _bias(offsets=(40, 0)),
    "has a shape beyond 64 bits": _bias(shape=(2**62, 2**62)),
    "has an unknown type": _bias(dtype="ESC"),
    "has metadata of numbers": _header(__metadata__={"format": 1}),
    "has no metadata of ours": _header(__metadata__={}),
    "has a configuration of escapes": _tensors(config=ESCAPES),
    "has the configuration of another run": _tensors(config=json.dumps({"arch": "resnet"})),
    "has a newer schema": _tensors(schema_version="99"),
    "has a schema of markup": _tensors(schema_version=MARKUP),
    "has a schema of five thousand digits": _tensors(schema_version="9" * 5000),
    "is a checkpoint": _tensors(format="resnet-cli checkpoint"),
    "contains a tensor named by escapes": _tensors(lambda tensors: tensors.update({ESCAPES: zeros(1)})),
    "contains NaN": _tensors(lambda tensors: tensors["fc.bias"].fill_(float("nan"))),
    "contains a negative variance": _tensors(lambda tensors: tensors["bn1.running_var"].fill_(-1.0)),
    "is a pickle with code": lambda _: b"\x80\x02cposix\nsystem\n(Vtouch /tmp/resnet-cli-was-here\ntR.",
}
