"""A sealed file: equal contents give equal bytes, and no byte of it can change unseen."""

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
from resnet_cli import seal
from resnet_cli.errors import InputError
from resnet_cli.recipes import make_config
from resnet_cli.weights import read_weights

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(3, dtype=torch.int64)}
METADATA = {"format": "x", "text": 'it says "file_sha256":"' + "0" * 64 + '"', "long": "é" * 50}


@pytest.fixture
def sealed():
    return seal.sealed(save(TENSORS, metadata=METADATA))


def test_tensors_and_metadata_stay_what_they_were(sealed):
    assert {name: value.tolist() for name, value in load(sealed).items()} == {
        name: value.tolist() for name, value in TENSORS.items()
    }
    metadata = seal.read_metadata(sealed)
    assert len(metadata.pop(seal.KEY)) == 64
    assert metadata == METADATA


def test_tensors_begin_where_the_format_wants_them(sealed):
    assert int.from_bytes(sealed[:8], "little") % 8 == 0


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(sealed):
    checksum = seal.read_metadata(sealed)[seal.KEY]
    blank = sealed.replace(checksum.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == checksum


def test_an_intact_file_is_intact_and_can_be_sealed_again(sealed):
    assert seal.is_intact(sealed)
    assert seal.sealed(sealed) == sealed


def test_every_flipped_bit_is_seen(sealed):
    for at in range(len(sealed)):
        for bit in range(8):
            damaged = bytearray(sealed)
            damaged[at] ^= 1 << bit
            assert not seal.is_intact(bytes(damaged)), (at, bit)


def test_every_cut_and_every_byte_too_many_is_seen(sealed):
    assert not any(seal.is_intact(sealed[:length]) for length in range(len(sealed)))
    assert not seal.is_intact(sealed + b" ")


def test_a_file_that_was_never_sealed_is_not_intact():
    assert not seal.is_intact(save(TENSORS, metadata=METADATA))
    assert not seal.is_intact(save(TENSORS))
    assert seal.read_metadata(save(TENSORS)) == {}


def test_equal_contents_are_equal_bytes_in_every_process():
    """The library writes metadata in another order each time."""
    code = (
        "import hashlib, torch; from safetensors.torch import save; from resnet_cli.seal import sealed\n"
        "metadata = {str(i): str(i) for i in range(20)}\n"
        "print(hashlib.sha256(sealed(save({'a': torch.ones(2)}, metadata=metadata))).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
    metadata = {str(i): str(i) for i in reversed(range(20))}
    here = hashlib.sha256(seal.sealed(save({"a": torch.ones(2)}, metadata=metadata))).hexdigest()
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
        assert seal.is_intact(path.read_bytes())
        assert read_weights(path).config is not None

    def test_weights_that_lost_their_seal_are_refused(self, path):
        metadata = seal.read_metadata(path.read_bytes())
        del metadata[seal.KEY]
        path.write_bytes(save(load(path.read_bytes()), metadata=metadata))
        with pytest.raises(InputError, match="lacks file_sha256"):
            read_weights(path)

    def test_weights_that_another_program_changed_are_refused(self, path):
        tensors, metadata = load(path.read_bytes()), seal.read_metadata(path.read_bytes())
        tensors["fc.bias"] = tensors["fc.bias"] + np.float32(0.5)
        path.write_bytes(save(tensors, metadata=metadata))
        with pytest.raises(InputError, match="is damaged: its bytes do not have the checksum"):
            read_weights(path)

    def test_weights_of_before_there_were_seals_are_read(self, path):
        metadata = {**seal.read_metadata(path.read_bytes()), "schema_version": "1"}
        del metadata[seal.KEY]
        path.write_bytes(save(load(path.read_bytes()), metadata=metadata))
        assert read_weights(path).config is not None
