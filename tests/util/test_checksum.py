"""Safetensors files with a checksum: equal contents give equal bytes, and every change is detected."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import load, save

import resnet_cli
from resnet_cli.errors import InputError
from resnet_cli.recipes import make_config
from resnet_cli.session import train
from resnet_cli.util import checksum
from resnet_cli.weights import read_weights

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(3, dtype=torch.int64)}
METADATA = {"format": "x", "text": 'it says "file_sha256":"' + "0" * 64 + '"', "long": "é" * 50}


@pytest.fixture
def file():
    return checksum.with_checksum(save(TENSORS, metadata=METADATA))


def test_adding_a_checksum_keeps_tensors_and_metadata(file):
    assert {name: value.tolist() for name, value in load(file).items()} == {
        name: value.tolist() for name, value in TENSORS.items()
    }
    metadata = checksum.read_metadata(file)
    assert len(metadata.pop(checksum.KEY)) == 64
    assert metadata == METADATA


def test_tensors_stay_aligned_to_eight_bytes(file):
    assert int.from_bytes(file[:8], "little") % 8 == 0


def test_the_checksum_is_computed_with_zeros_in_its_place(file):
    digest = checksum.read_metadata(file)[checksum.KEY]
    blank = file.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == digest


def test_an_intact_file_has_a_valid_checksum_which_can_be_added_again(file):
    assert checksum.has_valid_checksum(file)
    assert checksum.with_checksum(file) == file


def test_every_flipped_bit_is_detected(file):
    for at in range(len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[at] ^= 1 << bit
            assert not checksum.has_valid_checksum(bytes(damaged)), (at, bit)


def test_every_truncation_and_every_extra_byte_is_detected(file):
    assert not any(checksum.has_valid_checksum(file[:length]) for length in range(len(file)))
    assert not checksum.has_valid_checksum(file + b" ")


def test_a_file_without_a_checksum_is_not_valid():
    assert not checksum.has_valid_checksum(save(TENSORS, metadata=METADATA))
    assert not checksum.has_valid_checksum(save(TENSORS))
    assert checksum.read_metadata(save(TENSORS)) == {}


def test_equal_contents_give_equal_bytes_in_every_process():
    """The library writes metadata in random order."""
    code = (
        "import hashlib, numpy; from safetensors.numpy import save\n"
        "from resnet_cli.util.checksum import with_checksum\n"
        "metadata = {str(i): str(i) for i in range(20)}\n"
        "print(hashlib.sha256(with_checksum(save({'a': numpy.ones(2)}, metadata=metadata))).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
    metadata = {str(i): str(i) for i in reversed(range(20))}
    here = hashlib.sha256(checksum.with_checksum(save_arrays({"a": np.ones(2)}, metadata=metadata))).hexdigest()
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights of a run, as it saves them."""
    config = make_config("demo", arch="plain", depth=8, device="cpu", limit_train=20, limit_test=10, epochs=1)
    return train(config, tmp_path_factory.mktemp("weights") / "run").run.last_weights_path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: metadata.pop(checksum.KEY), "lacks file_sha256"),
        (lambda tensors, metadata: tensors["fc.bias"].add_(0.5), "is damaged"),
        # files of schema version 1 had no checksum
        (lambda tensors, metadata: metadata.pop(checksum.KEY) and metadata.update(schema_version="1"), None),
    ],
    ids=["without checksum", "another value", "schema version 1"],
)
def test_weights_changed_by_another_program_are_refused(weights, tmp_path, change, message):
    tensors, metadata = load(weights), checksum.read_metadata(weights)
    change(tensors, metadata)
    path = tmp_path / "changed.safetensors"
    path.write_bytes(save(tensors, metadata=metadata))
    if message is None:
        assert read_weights(path).config is not None
    else:
        with pytest.raises(InputError, match=message):
            read_weights(path)
