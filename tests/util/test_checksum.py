"""A file file: equal contents give equal bytes, and no byte of it can change unseen."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import resnet_cli
from resnet_cli.errors import InputError
from resnet_cli.recipes import make_config
from resnet_cli.util import checksum
from resnet_cli.weights import read_weights

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(3, dtype=torch.int64)}
METADATA = {"format": "x", "text": 'it says "file_sha256":"' + "0" * 64 + '"', "long": "é" * 50}


@pytest.fixture
def file():
    return checksum.with_checksum(save(TENSORS, metadata=METADATA))


def test_tensors_and_metadata_stay_what_they_were(file):
    assert {name: value.tolist() for name, value in load(file).items()} == {
        name: value.tolist() for name, value in TENSORS.items()
    }
    metadata = checksum.read_metadata(file)
    assert len(metadata.pop(checksum.KEY)) == 64
    assert metadata == METADATA


def test_tensors_begin_where_the_format_wants_them(file):
    assert int.from_bytes(file[:8], "little") % 8 == 0


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(file):
    digest = checksum.read_metadata(file)[checksum.KEY]
    blank = file.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == digest


def test_an_intact_file_is_intact_and_can_be_sealed_again(file):
    assert checksum.has_valid_checksum(file)
    assert checksum.with_checksum(file) == file


def test_every_flipped_bit_is_seen(file):
    for at in range(len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[at] ^= 1 << bit
            assert not checksum.has_valid_checksum(bytes(damaged)), (at, bit)


def test_every_cut_and_every_byte_too_many_is_seen(file):
    assert not any(checksum.has_valid_checksum(file[:length]) for length in range(len(file)))
    assert not checksum.has_valid_checksum(file + b" ")


def test_a_file_that_was_never_sealed_is_not_intact():
    assert not checksum.has_valid_checksum(save(TENSORS, metadata=METADATA))
    assert not checksum.has_valid_checksum(save(TENSORS))
    assert checksum.read_metadata(save(TENSORS)) == {}


def test_equal_contents_are_equal_bytes_in_every_process():
    """The library writes metadata in another order each time."""
    code = (
        "import hashlib, torch; from safetensors.torch import save\n"
        "from resnet_cli.util.checksum import with_checksum\n"
        "metadata = {str(i): str(i) for i in range(20)}\n"
        "print(hashlib.sha256(with_checksum(save({'a': torch.ones(2)}, metadata=metadata))).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
    metadata = {str(i): str(i) for i in reversed(range(20))}
    here = hashlib.sha256(checksum.with_checksum(save({"a": torch.ones(2)}, metadata=metadata))).hexdigest()
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


class TestWeightFiles:
    @pytest.fixture
    def path(self, tmp_path):
        """The weights of a run, as it saves them."""
        from resnet_cli.session import train

        config = make_config("demo", arch="plain", depth=8, device="cpu", limit_train=20, limit_test=10, epochs=1)
        return train(config, tmp_path / "run").run.last_weights_path

    def test_a_run_seals_its_weights(self, path):
        assert checksum.has_valid_checksum(path.read_bytes())
        assert read_weights(path).config is not None

    def test_weights_that_lost_their_seal_are_refused(self, path):
        metadata = checksum.read_metadata(path.read_bytes())
        del metadata[checksum.KEY]
        path.write_bytes(save(load(path.read_bytes()), metadata=metadata))
        with pytest.raises(InputError, match="lacks file_sha256"):
            read_weights(path)

    def test_weights_that_another_program_changed_are_refused(self, path):
        tensors, metadata = load(path.read_bytes()), checksum.read_metadata(path.read_bytes())
        tensors["fc.bias"] = tensors["fc.bias"] + np.float32(0.5)
        path.write_bytes(save(tensors, metadata=metadata))
        with pytest.raises(InputError, match="is damaged: its checksum does not match"):
            read_weights(path)

    def test_weights_of_before_there_were_seals_are_read(self, path):
        metadata = {**checksum.read_metadata(path.read_bytes()), "schema_version": "1"}
        del metadata[checksum.KEY]
        path.write_bytes(save(load(path.read_bytes()), metadata=metadata))
        assert read_weights(path).config is not None
