"""Weight files that are damaged, too large or unsafe are rejected in one line, and nothing in them is executed."""

import contextlib
import os
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save
from weight_files import rejection, save_legacy, save_zip, small_network

from resnet_cli.errors import InputError
from resnet_cli.weights import loading, read_weights


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it starts with b''"),
        (b"hello, this is a text file\n", "it starts with b'hello, this "),
        (b"\x00", "neither"),
        (b"PK\x03\x04 and then nothing", "damaged"),
        (b"\x80\x02}q\x00.", "damaged"),
        (struct.pack("<Q", 50) + b'{"a":', "damaged"),
        (struct.pack("<Q", 2) + b"[]", "neither"),
    ],
)
def test_a_file_that_is_neither_safetensors_nor_pytorch_is_rejected(path, data, words):
    path.write_bytes(data)
    assert words in rejection(path)


def test_a_missing_weight_file_a_folder_and_a_pipe_are_rejected(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is missing" in rejection(tmp_path / "missing.pt")
    assert "not a regular file" in rejection(tmp_path)
    assert "not a regular file" in rejection(tmp_path / "pipe")


def test_a_file_larger_than_any_supported_network_is_not_read(path, monkeypatch):
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(loading, "MAX_WEIGHT_FILE_BYTES", 99)
    assert "is larger than" in rejection(path)


def test_a_compressed_archive_is_rejected_before_it_is_unpacked(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    assert "compressed archive" in rejection(path)


def with_many_names(path):
    entries = b",".join(b'"x%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(80_000))
    path.write_bytes((len(entries) + 2).to_bytes(8, "little") + b"{" + entries + b"}")


def with_a_large_pickle(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(loading._MAX_PICKLE_BYTES + 1))


def with_many_tensors(path):
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(20_001):
            archive.writestr(f"archive/data/{i}", b"")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (with_many_names, "bytes of names and shapes; expected at most 4,194,304"),
        (with_a_large_pickle, "has 4,194,305 bytes of names and shapes"),
        (with_many_tensors, "contains more than 20,000 tensors"),
    ],
)
def test_a_file_with_more_names_than_any_network_is_rejected_before_they_are_read(path, write, words):
    write(path)
    assert words in rejection(path)


def test_the_bounds_admit_as_many_names_as_the_deepest_network_has(path):
    names = [f"module._orig_mod.layer1.{i % 200}.bn1.num_batches_tracked.{i}" for i in range(7220)]
    assert "expected a CIFAR network" in rejection(save_zip(dict.fromkeys(names, torch.zeros(())), path))
    path.write_bytes(save({name: torch.zeros(()) for name in names}))
    assert "expected a CIFAR network" in rejection(path)


def test_a_whole_pickled_model_is_rejected_with_the_way_to_save_it(path):
    message = rejection(save_zip(torch.nn.Linear(1, 1), path))
    assert "torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), FILE)" in message


def test_the_error_for_a_numpy_scalar_in_a_weight_file_names_it(path):
    assert "scalar" in rejection(save_zip({"state_dict": small_network().state_dict(), "best": np.float64(1.0)}, path))


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_program_is_rejected(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    assert "TorchScript" in rejection(path)


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def assert_nothing_runs(tmp_path, monkeypatch, capfd):
    """Assert that a hostile file is rejected without output and without the file `canary`; return the message."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def check(path):
        message = rejection(path)
        assert os.listdir(tmp_path / "here") == []
        assert capfd.readouterr() == ("", "")
        return message

    return check


@pytest.mark.parametrize("save", [save_legacy, save_zip])
@pytest.mark.parametrize("call", [Call(os.system, "touch canary"), Call(exec, "open('canary', 'w')"), Call(print, "x")])
def test_a_pickle_that_calls_a_function_is_rejected_naming_it(path, assert_nothing_runs, save, call):
    save({"state_dict": {}, "x": call}, path)
    assert call.call[0].__name__ in assert_nothing_runs(path)


HOSTILE_OPCODES = {
    "REDUCE": b"cposix\nsystem\n(Vtouch canary\ntR",
    "INST": b"(Vtouch canary\niposix\nsystem\n",
    "OBJ": b"(cposix\nsystem\nVtouch canary\no",
    "STACK_GLOBAL": b"\x8c\x05posix\x8c\x06system\x93(Vtouch canary\ntR",
    "NEWOBJ": b"csubprocess\nPopen\n(Vtouch\nt\x81",
    "BINPERSID": b"cposix\nsystem\nVtrue\n\x86Q",
    "EXT1": b"\x82\x01",
    "a storage of terabytes": b"ctorch.storage\nUntypedStorage\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R",
}


@pytest.mark.parametrize("opcodes", HOSTILE_OPCODES.values(), ids=HOSTILE_OPCODES)
def test_a_pickle_written_by_hand_is_rejected_bare_and_in_an_archive(path, assert_nothing_runs, opcodes):
    hostile = b"\x80\x02}Vstate_dict\n" + opcodes + b"s."
    path.write_bytes(hostile)
    assert_nothing_runs(path)
    save_zip({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, hostile if name.endswith("/data.pkl") else content)
    assert_nothing_runs(path)


@pytest.mark.parametrize("save", [save_legacy, save_zip])
def test_a_truncated_weight_file_is_rejected(path, capfd, save):
    data = save(small_network().state_dict(), path).read_bytes()
    for length in {*np.random.default_rng(0).choice(len(data), 50, replace=False), 1, len(data) - 1}:
        path.write_bytes(data[:length])
        rejection(path)
    assert capfd.readouterr() == ("", "")


def test_a_weight_file_with_random_damage_is_rejected_or_gives_a_finite_network(path):
    pristine = save_legacy(small_network().state_dict(), path).read_bytes()
    noise = np.random.default_rng(0)
    num_accepted = 0
    for _ in range(100):
        noisy = np.frombuffer(pristine, np.uint8).copy()
        noisy[noise.integers(0, 3000, 20)] = noise.integers(0, 256, 20)
        path.write_bytes(noisy.tobytes())
        with contextlib.suppress(InputError):
            assert all(torch.isfinite(value).all() for value in read_weights(path).state_dict.values())
            num_accepted += 1
    assert num_accepted < 50
