"""CIFAR is found, downloaded, verified and laid out as published."""

import hashlib
import os
import pickle
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import tiny_cifar
import torchvision

from resnet_cli.data import cifar
from resnet_cli.data.cifar import CIFAR10, CIFAR100, load_cifar
from resnet_cli.data.dataset import fingerprint_of
from resnet_cli.errors import ConfigError, InputError


@pytest.fixture
def archive(published, tmp_path):
    """A data folder that holds the archive."""
    path = tmp_path / "data" / published.spec.archive
    path.parent.mkdir()
    path.write_bytes(published.archive)
    return path


@pytest.fixture
def unpacked(published, tmp_path):
    """A data folder that holds the unpacked archive."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
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


def test_the_unpacked_folder_gives_the_same_as_the_archive(archive, unpacked_beside, published):
    from_archive = load_cifar("cifar10", archive.parent)
    from_folder = load_cifar("cifar10", unpacked_beside)
    check(from_folder, published)
    assert fingerprint_of(from_folder.train, from_folder.test) == fingerprint_of(from_archive.train, from_archive.test)


@pytest.fixture
def unpacked_beside(published, tmp_path):
    published.unpack(tmp_path / "other" / "cifar-10-batches-py")
    return tmp_path / "other"


def test_the_folder_itself_may_be_named(unpacked, published):
    source = load_cifar("cifar10", unpacked)
    check(source, published)
    assert source.location == str(unpacked)


def test_the_folder_is_found_through_the_environment(archive, published, monkeypatch):
    monkeypatch.setenv("RESNET_DATA", str(archive.parent))
    check(load_cifar("cifar10", None), published)


def test_a_python_3_pickle_of_the_same_data_is_read_too(tmp_path, monkeypatch):
    tiny = tiny_cifar.TinyCifar(pickler=lambda values: pickle.dumps(values, 2))
    monkeypatch.setitem(cifar.SPECS, "cifar10", tiny.spec)
    tiny.unpack(tmp_path / "cifar-10-batches-py")
    check(load_cifar("cifar10", tmp_path), tiny)


def test_cifar100_has_fine_labels_and_computed_statistics(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    sizes = {"train": 5, "test": 3}
    values = {
        name: {
            b"filenames": [b"x.png"] * n, b"batch_label": b"", b"fine_labels": [99, 0, 50, 7, 1][:n],
            b"coarse_labels": [1] * n, b"data": random.integers(0, 256, (n, 3072), np.uint8),
        }
        for name, n in sizes.items()
    } | {"meta": tiny_cifar.META_100}  # fmt: skip
    files = {name: tiny_cifar.python2_pickle(value) for name, value in values.items()}
    data = tiny_cifar.tar_gz(files, "cifar-100-python")
    spec = msgspec.structs.replace(
        CIFAR100,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        train=(cifar.Member("train", "", 5),),
        test=cifar.Member("test", "", 3),
    )
    monkeypatch.setitem(cifar.SPECS, "cifar100", spec)
    (tmp_path / spec.archive).write_bytes(data)
    source = load_cifar("cifar100", tmp_path)
    assert source.display_name == "CIFAR-100"
    assert source.train.labels.tolist() == [99, 0, 50, 7, 1]
    assert np.array_equal(source.test.pixels, expected_pixels(values["test"][b"data"]))
    assert (len(source.classes), source.classes[0], source.classes[99]) == (100, "apple", "worm")
    assert source.mean is None


@pytest.mark.parametrize("spec", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_the_published_facts_are_the_ones_that_torchvision_knows(spec, monkeypatch):
    known = getattr(torchvision.datasets, spec.torchvision_class)
    assert (spec.archive, spec.folder) == (known.filename, known.base_folder)
    assert [[m.name, m.md5] for m in spec.train] == known.train_list
    assert [[spec.test.name, spec.test.md5]] == known.test_list
    assert (spec.meta.name, spec.meta.md5) == (known.meta["filename"], known.meta["md5"])
    assert spec.names_key.decode() == known.meta["key"]
    assert cifar._address(spec) == known.url
    monkeypatch.setenv(spec.mirror_variable, "https://mirror.example/file")
    assert cifar._address(spec) == "https://mirror.example/file"


def test_a_real_file_fits_its_bound_with_room_to_spare():
    # lengths of the published files, as `tar tvf` lists them
    for member, size in ((CIFAR10.train[0], 31_035_704), (CIFAR10.meta, 158), (CIFAR100.train[0], 155_249_918)):
        assert size < member.max_bytes < size * 1.05 + 2**17


def test_what_is_missing_is_downloaded_verified_and_then_used_offline(published, server, tmp_path):
    folder = tmp_path / "fresh"
    labels = []
    check(load_cifar("cifar10", folder, progress=lambda label, *rest: labels.append(label)), published)
    assert labels[0] == "downloading cifar-10-python.tar.gz"
    assert labels[-1] == "reading CIFAR-10"
    server.answers = [500] * 9
    check(load_cifar("cifar10", folder), published)
    assert len(server.requests) == 1


def test_a_mirror_cannot_serve_something_else(published, server, tmp_path):
    server.content = server.content[:-1] + b"!"
    with pytest.raises(InputError, match="SHA-256 is"):
        load_cifar("cifar10", tmp_path)
    assert not (tmp_path / published.spec.archive).exists()


def test_an_unreachable_server_tells_how_to_do_without(published, monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_CIFAR10_URL", "http://127.0.0.1:1/x")
    with pytest.raises(InputError, match=rf"put cifar-10-python\.tar\.gz into {tmp_path} by hand, or use --data-dir"):
        load_cifar("cifar10", tmp_path)


def test_offline_nothing_is_downloaded_and_the_command_that_does_is_named(published, server, tmp_path):
    with pytest.raises(InputError, match=rf"CIFAR-10 is not in {tmp_path}; resnet data fetch cifar10 --data-dir"):
        load_cifar("cifar10", tmp_path, offline=True)
    assert server.requests == []


def test_a_damaged_archive_is_refused_and_never_parsed(archive, published, server, monkeypatch):
    monkeypatch.setattr(cifar, "read_members", None)
    monkeypatch.setattr(cifar, "read_pickle", None)
    for position in range(0, len(published.archive), 997):
        damaged = bytearray(published.archive)
        damaged[position] ^= 1
        archive.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is damaged: SHA-256 is .*; delete it, then resnet data fetch cifar10"):
            load_cifar("cifar10", archive.parent)
    archive.write_bytes(published.archive[:-1])
    with pytest.raises(InputError, match=r"is damaged: size is .* bytes, not "):
        load_cifar("cifar10", archive.parent)
    assert archive.exists(), "what the tool did not write is never deleted"
    assert server.requests == []


def test_an_intact_folder_stands_in_for_a_damaged_archive(archive, unpacked_in_same_folder, published):
    archive.write_bytes(b"half of it")
    source = load_cifar("cifar10", archive.parent)
    check(source, published)
    assert source.location == str(unpacked_in_same_folder)


@pytest.fixture
def unpacked_in_same_folder(archive, published):
    folder = archive.parent / "cifar-10-batches-py"
    published.unpack(folder)
    return folder


def test_an_intact_archive_is_preferred_to_the_folder(archive, unpacked_in_same_folder, published):
    (unpacked_in_same_folder / "data_batch_3").write_bytes(b"damaged")
    check(load_cifar("cifar10", archive.parent), published)


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_damaged_file_in_the_folder_is_named_and_never_parsed(name, unpacked, monkeypatch):
    read = []
    original = cifar.read_pickle
    monkeypatch.setattr(cifar, "read_pickle", lambda data, where: read.append(where) or original(data, where))
    path = unpacked / name
    for damage in (lambda data: data[:-1], lambda data: data + b"x", lambda data: b"cos\nsystem\n" + data):
        intact = path.read_bytes()
        path.write_bytes(damage(intact))
        with pytest.raises(InputError, match=rf"{name} is damaged: MD5 is .*; delete .*cifar-10-batches-py, then"):
            load_cifar("cifar10", unpacked.parent)
        path.write_bytes(intact)
    assert not any(where.endswith(name) for where in read)


def test_a_missing_file_in_the_folder_is_named(unpacked):
    (unpacked / "data_batch_2").unlink()
    with pytest.raises(InputError, match=r"data_batch_2 is missing; delete .*, then resnet data fetch cifar10"):
        load_cifar("cifar10", unpacked.parent)


WRONG = {
    "no data": ({b"data": None}, "does not hold 4 images of 3072 bytes"),
    "fewer images": ({b"data": np.zeros((3, 3072), np.uint8)}, "does not hold 4 images of 3072 bytes"),
    "larger images": ({b"data": np.zeros((4, 3073), np.uint8)}, "does not hold 4 images of 3072 bytes"),
    "no labels": ({b"labels": None}, "does not hold 4 labels"),
    "fewer labels": ({b"labels": [1]}, "does not hold 4 labels"),
    "a label too high": ({b"labels": [1, 2, 10, 4]}, "has a label 10, not 0 … 9"),
    "a negative label": ({b"labels": [1, 2, -1, 4]}, "has a label -1, not 0 … 9"),
    "a label of text": ({b"labels": [1, 2, b"3", 4]}, "has a label of type bytes, not 0 … 9"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_batch_with_other_content_is_refused(change, message, tmp_path, monkeypatch):
    tiny = tiny_cifar.TinyCifar()
    values = {key: value for key, value in (tiny.batches["data_batch_2"] | change).items() if value is not None}
    use(tiny, "data_batch_2", values, tmp_path, monkeypatch)
    with pytest.raises(InputError, match=f"data_batch_2 {message}"):
        load_cifar("cifar10", tmp_path)


@pytest.mark.parametrize("names", [None, [b"cat"], [7] * 10])
def test_class_names_must_be_ten_names(names, tmp_path, monkeypatch):
    tiny = tiny_cifar.TinyCifar()
    use(tiny, "batches.meta", {b"label_names": names} if names else {b"num_vis": 1}, tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"batches\.meta does not name 10 classes"):
        load_cifar("cifar10", tmp_path)


def use(tiny, name, values, folder, monkeypatch):
    """Make `tiny` with other content in one file the published dataset, unpacked in `folder`."""
    tiny.files[name] = tiny_cifar.python2_pickle(values)
    monkeypatch.setitem(cifar.SPECS, "cifar10", tiny.describe({m.name: m.num_images for m in tiny.spec.members}))
    tiny.unpack(folder / "cifar-10-batches-py")


def test_an_unknown_dataset_is_refused():
    with pytest.raises(ConfigError, match="dataset 'cifar1000' is not one of cifar10, cifar100"):
        load_cifar("cifar1000", None)


def test_a_file_in_place_of_the_folder_is_refused(archive):
    with pytest.raises(InputError, match="is not a folder; --data-dir names the folder that the archive lies in"):
        load_cifar("cifar10", archive)


def test_an_unreadable_archive_gives_one_line(archive, monkeypatch):
    archive.unlink()
    archive.mkdir()
    with pytest.raises(InputError, match=r"cifar-10-python\.tar\.gz: Is a directory"):
        load_cifar("cifar10", archive.parent)


def test_reading_needs_no_torch(tmp_path):
    code = (
        "import sys, tiny_cifar; from pathlib import Path; from resnet_cli.data import cifar\n"
        "tiny = tiny_cifar.TinyCifar(); folder = Path(sys.argv[1]); cifar.SPECS['cifar10'] = tiny.spec\n"
        "(folder / tiny.spec.archive).write_bytes(tiny.archive)\n"
        "print(len(cifar.load_cifar('cifar10', folder).train), 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.split() == ["20", "False"]
