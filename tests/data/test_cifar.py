"""CIFAR is found, downloaded, verified and laid out as published."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_cifar
import torchvision

from resnet_cli.data import cifar
from resnet_cli.data.cifar import CIFAR10, CIFAR100, load_cifar
from resnet_cli.data.dataset import fingerprint_of
from resnet_cli.errors import InputError

ARCHIVE, FOLDER = torchvision.datasets.CIFAR10.filename, torchvision.datasets.CIFAR10.base_folder
TINY_FINGERPRINT = "e364d83a4704c1dd1096fd6b3758a0a2773acfaa8565dcb1aceef735f4d694a0"


@pytest.fixture
def archive(published, tmp_path):
    """The archive in a data folder."""
    path = tmp_path / "data" / ARCHIVE
    path.parent.mkdir()
    path.write_bytes(published.archive)
    return path


@pytest.fixture
def unpacked(published, tmp_path):
    """The unpacked archive in the same data folder."""
    folder = tmp_path / "data" / FOLDER
    published.unpack(folder)
    return folder


def expected_pixels(rows):
    """The slow, obvious reading of the published layout: red, green and blue plane, each row by row."""
    images = np.zeros((len(rows), 32, 32, 3), np.uint8)
    for image, row in zip(images, rows, strict=True):
        for channel in range(3):
            for y in range(32):
                for x in range(32):
                    image[y, x, channel] = row[1024 * channel + 32 * y + x]
    return images


def check(source, tiny):
    train = [tiny.batches[f"data_batch_{i}"] for i in range(1, 6)]
    assert np.array_equal(source.train.pixels, expected_pixels(np.concatenate([b[b"data"] for b in train])))
    assert source.train.labels.tolist() == [label for b in train for label in b[b"labels"]]
    assert np.array_equal(source.test.pixels, expected_pixels(tiny.batches["test_batch"][b"data"]))
    assert source.test.labels.tolist() == tiny.batches["test_batch"][b"labels"]
    assert source.classes == tuple(name.decode() for name in tiny_cifar.CLASS_NAMES)


def test_the_archive_gives_the_published_images_in_the_published_order(archive, published):
    source = load_cifar("cifar10", archive.parent)
    check(source, published)
    assert (source.name, source.display_name) == ("cifar10", "CIFAR-10")
    assert source.location == str(archive.parent)
    assert (source.mean, source.std) == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    for images in (source.train, source.test):
        assert images.pixels.flags.c_contiguous
        assert (images.pixels.dtype, images.labels.dtype) == (np.uint8, np.int64)


def test_the_cifar10_fingerprint_does_not_depend_on_archive_folder_or_version(archive, published, tmp_path):
    published.unpack(tmp_path / "other" / FOLDER)
    for folder in (archive.parent, tmp_path / "other"):
        source = load_cifar("cifar10", folder)
        assert fingerprint_of(source.train, source.test) == TINY_FINGERPRINT


def test_data_dir_may_be_the_unpacked_cifar_folder_itself(unpacked, published):
    source = load_cifar("cifar10", unpacked)
    check(source, published)
    assert source.location == str(unpacked)


def test_the_location_of_cifar_is_recorded_as_an_absolute_path(archive, published, monkeypatch):
    monkeypatch.chdir(archive.parent)
    assert load_cifar("cifar10", Path()).location == str(archive.parent)


def test_cifar_is_found_through_the_environment(archive, published, monkeypatch):
    monkeypatch.setenv("RESNET_DATA", str(archive.parent))
    check(load_cifar("cifar10", None), published)


def test_cifar100_has_fine_labels_and_no_published_statistics(tmp_path, monkeypatch):
    labels = {"train": [99, 0, 50, 7, 1], "test": [99, 0, 50]}
    values = {
        name: tiny_cifar.batch(name, len(fine), 0) | {b"fine_labels": fine, b"coarse_labels": [1] * len(fine)}
        for name, fine in labels.items()
    }
    pickles = {name: tiny_cifar.python2_pickle(value) for name, value in values.items()}
    meta = tiny_cifar.python2_pickle(tiny_cifar.META_100)
    archive = tiny_cifar.tar_gz(pickles | {"meta": meta}, torchvision.datasets.CIFAR100.base_folder)
    tiny_cifar.publish(monkeypatch, CIFAR100, archive)
    (tmp_path / torchvision.datasets.CIFAR100.filename).write_bytes(archive)
    source = load_cifar("cifar100", tmp_path)
    assert source.display_name == "CIFAR-100"
    assert source.train.labels.tolist() == labels["train"]
    assert np.array_equal(source.test.pixels, expected_pixels(values["test"][b"data"]))
    assert (len(source.classes), source.classes[0], source.classes[99]) == (100, "apple", "worm")
    assert source.mean is None


@pytest.mark.parametrize(("spec", "values"), [(CIFAR10, tiny_cifar.META), (CIFAR100, tiny_cifar.META_100)])
def test_the_rebuilt_file_of_class_names_is_the_published_one_and_is_parsed(spec, values):
    data = tiny_cifar.python2_pickle(values)
    name = spec.files.meta["filename"]
    assert hashlib.md5(data, usedforsecurity=False).hexdigest() == spec.md5[name]
    assert cifar._parse(data, name) == values


def test_a_missing_archive_is_downloaded_once_and_then_used_offline(published, server, tmp_path):
    folder = tmp_path / "fresh"
    labels = []
    check(load_cifar("cifar10", folder, progress=lambda label, *rest: labels.append(label)), published)
    assert labels[0] == "downloading cifar-10-python.tar.gz"
    assert labels[-1] == "reading CIFAR-10"
    server.answers = [500] * 9
    check(load_cifar("cifar10", folder), published)
    assert len(server.requests) == 1


def test_without_a_mirror_the_archive_comes_from_the_address_that_torchvision_uses(
    published, server, tmp_path, monkeypatch
):
    monkeypatch.delenv("RESNET_CIFAR10_URL")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", server.url)
    check(load_cifar("cifar10", tmp_path), published)


def test_a_mirror_cannot_serve_another_archive(published, server, tmp_path):
    server.content = server.content[:-1] + b"!"
    with pytest.raises(InputError, match="SHA-256 is"):
        load_cifar("cifar10", tmp_path)
    assert not (tmp_path / ARCHIVE).exists()


def test_the_error_for_an_unreachable_server_says_how_to_install_the_archive_by_hand(published, monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_CIFAR10_URL", "http://127.0.0.1:1/x")
    with pytest.raises(InputError, match=rf"download cifar-10-python\.tar\.gz to {tmp_path}, or point data_dir"):
        load_cifar("cifar10", tmp_path)


def test_a_damaged_archive_is_refused_and_never_parsed(archive, published, server, monkeypatch):
    monkeypatch.setattr(cifar, "tarfile", None)
    monkeypatch.setattr(cifar, "pickle", None)
    for position in range(0, len(published.archive), 997):
        damaged = bytearray(published.archive)
        damaged[position] ^= 1
        archive.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"is damaged: SHA-256 is .*; delete it and run: resnet data fetch cifar10 --"
        ):
            load_cifar("cifar10", archive.parent)
    archive.write_bytes(published.archive[:-1])
    with pytest.raises(InputError, match=r"is damaged: size is .* bytes, not "):
        load_cifar("cifar10", archive.parent)
    assert archive.exists(), "the tool never deletes files it did not create"
    assert server.requests == []


def test_an_intact_cifar_folder_is_used_instead_of_a_damaged_archive(archive, unpacked, published):
    archive.write_bytes(b"half of it")
    source = load_cifar("cifar10", archive.parent)
    check(source, published)
    assert source.location == str(unpacked)


def test_an_intact_cifar_archive_is_preferred_to_the_unpacked_folder(archive, unpacked, published):
    (unpacked / "data_batch_3").write_bytes(b"damaged")
    check(load_cifar("cifar10", archive.parent), published)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"cos\n" + data])
def test_a_damaged_file_in_the_cifar_folder_is_named_and_never_parsed(name, damage, unpacked, monkeypatch):
    parsed = []
    original = cifar._parse
    monkeypatch.setattr(cifar, "_parse", lambda data, where: parsed.append(where) or original(data, where))
    path = unpacked / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=rf"{name} is damaged: MD5 is .*; unpack cifar-10-python\.tar\.gz again"):
        load_cifar("cifar10", unpacked.parent)
    assert not any(where.endswith(name) for where in parsed)


def test_the_error_for_a_missing_file_in_the_cifar_folder_names_it(unpacked):
    (unpacked / "data_batch_2").unlink()
    with pytest.raises(InputError, match=r"data_batch_2 is missing; unpack .* again, or use another data_dir"):
        load_cifar("cifar10", unpacked.parent)


@pytest.mark.parametrize("names", [["test"], ["test", "train"]])
def test_a_folder_with_files_of_common_names_is_not_taken_for_an_unpacked_cifar100(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=r"CIFAR-100 not found in .*; run: resnet data fetch cifar100"):
        load_cifar("cifar100", tmp_path, offline=True)


def test_no_hint_advises_to_delete_a_folder_that_the_tool_did_not_create(tmp_path):
    for name in CIFAR100.md5:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="is damaged: MD5") as caught:
        load_cifar("cifar100", tmp_path, offline=True)
    assert "delete" not in str(caught.value).replace(str(tmp_path), "")


class Calls:
    """Is unpickled by a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


EXECUTING = {
    "os.system": pickle.dumps({b"data": Calls(os.system, "touch canary")}, 2),
    "subprocess.Popen": pickle.dumps({b"data": Calls(subprocess.Popen, ["touch", "canary"])}, 2),
    "eval": pickle.dumps(Calls(eval, "open('canary', 'w')"), 2),
    "open": pickle.dumps({b"data": Calls(open, "canary", "w")}, 2),
    "an old-style instance": b"(S'touch canary'\nios\nsystem\n.",
    "an old-style object": b"\x80\x02}U\x01a(cos\nsystem\nU\x0ctouch canaryos.",
    "a name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch canary\x85R.",
}


@pytest.mark.parametrize("data", EXECUTING.values(), ids=EXECUTING.keys())
def test_a_pickle_that_runs_code_is_refused_by_its_checksum_and_even_with_the_right_one(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = tiny_cifar.TinyCifar(data_batch_1=data)
    hostile.unpack(tmp_path / "data")
    tiny_cifar.TinyCifar().publish(monkeypatch)
    with pytest.raises(InputError, match="data_batch_1 is damaged: MD5 is"):
        load_cifar("cifar10", tmp_path / "data")
    hostile.publish(monkeypatch)
    with pytest.raises(InputError, match=r"data_batch_1 is not a CIFAR file: it refers to \S+\.\S+$"):
        load_cifar("cifar10", tmp_path / "data")
    assert os.listdir(tmp_path) == ["data"]


def test_a_name_in_a_pickle_imports_nothing():
    with pytest.raises(InputError, match=r"batch is not a CIFAR file: it refers to antigravity\.fly"):
        cifar._parse(b"\x80\x02cantigravity\nfly\n.", "batch")
    assert "antigravity" not in sys.modules


def test_a_file_in_place_of_the_data_folder_is_refused(archive):
    with pytest.raises(InputError, match="is not a folder; point data_dir at the folder of the archive"):
        load_cifar("cifar10", archive)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_pipe_in_place_of_the_archive_is_refused(archive, make):
    archive.unlink()
    make(archive)
    with pytest.raises(InputError, match=r"cifar-10-python\.tar\.gz is not a file"):
        load_cifar("cifar10", archive.parent)
