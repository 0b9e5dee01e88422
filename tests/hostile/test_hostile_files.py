"""Malicious and damaged files: refused in one line, with nothing executed and nothing written."""

import hashlib
import os
import random
import shutil
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_cifar
from damage import damages_of_a_file
from hostile_archives import hostile_archives
from hostile_pickles import as_legacy, as_raw, as_zip, bombs, executing, unusual
from PIL import Image
from watch import watched

from resnet_cli.checkpoint import load_state
from resnet_cli.data import cifar, load_dataset
from resnet_cli.data.cifar import load_cifar
from resnet_cli.data.imagefolder import load_imagefolder
from resnet_cli.device import decide
from resnet_cli.engine import Engine
from resnet_cli.errors import InputError, StoppedError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import Reporter, train
from resnet_cli.weights import read_weights

CANARY = Path("/tmp/resnet-cli-canary")  # noqa: S108 (what the hostile files would make)
HOSTILE = executing(CANARY) | unusual() | bombs()
CHECKPOINT = "checkpoints/resume.safetensors"
TINY = tiny_cifar.TinyCifar()
ARCHIVES = hostile_archives(TINY.files, outside="/tmp/resnet-cli-outside")  # noqa: S108


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path, monkeypatch):
    """Nothing is executed, and nothing is written to the current folder or to the targets of the archives."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not CANARY.exists()
    assert not Path("/tmp/resnet-cli-outside").exists()  # noqa: S108
    assert os.listdir(tmp_path / "here") == []


class TestPickles:
    def test_there_are_enough(self):
        assert len(executing(CANARY)) >= 20
        assert len(set(HOSTILE.values())) == len(HOSTILE)

    @pytest.mark.parametrize("pack", [as_raw, as_zip, as_legacy])
    @pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
    def test_eval_refuses_it_as_a_weight_file(self, data, pack, tmp_path, capfd):
        path = pack(data, tmp_path / "weights.pt")
        said = watched(capfd, ["eval", str(path), "--arch", "plain", "--dataset", "digits"])
        assert said.code == 2
        assert said.err.splitlines() == said.errors
        assert str(path) in said.errors[0]
        assert said.out == ""


# Commands that read a dataset themselves (`reproduce` starts `train`); runs would go to the current folder.
ON_DATA = {
    "data verify": ["data", "verify", "cifar10"],
    "data show": ["data", "show", "cifar10"],
    "train": ["train", "--arch", "plain", "--depth", "8", "--dataset", "cifar10", "--device", "cpu"],
    "gradflow": ["gradflow", "--depth", "8", "--dataset", "cifar10", "--device", "cpu"],
}


class TestCommands:
    """Malicious files end every command that reads them with one line and exit code 2."""

    @pytest.mark.parametrize("command", ON_DATA)
    def test_hostile_batches_are_refused(self, command, tmp_path, monkeypatch, capfd):
        folder = tmp_path / "data" / TINY.spec.folder
        TINY.unpack(folder)
        for name, data in HOSTILE.items():
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            # its checksum is right, and it may be as large as a real one
            batch = msgspec.structs.replace(TINY.spec.train[0], md5=md5, num_images=10_000)
            spec = msgspec.structs.replace(TINY.spec, train=(batch, *TINY.spec.train[1:]))
            monkeypatch.setitem(cifar.SPECS, "cifar10", spec)
            (folder / batch.name).write_bytes(data)
            said = watched(capfd, [*ON_DATA[command], "--data-dir", folder.parent])
            assert_refused(said, folder, name)
            assert batch.name in said.errors[0]

    @pytest.mark.parametrize("command", [*ON_DATA, "data fetch"])
    def test_hostile_archives_are_refused(self, command, tmp_path, monkeypatch, capfd):
        (tmp_path / "data").mkdir()
        archive = tmp_path / "data" / TINY.spec.archive
        for name, data in ARCHIVES.items():
            published_as(data, monkeypatch)
            archive.write_bytes(data)
            said = watched(
                capfd, [*(ON_DATA.get(command) or ["data", "fetch", "cifar10"]), "--data-dir", archive.parent]
            )
            assert_refused(said, archive, name)
            assert os.listdir(archive.parent) == [archive.name]

    @pytest.mark.parametrize("pack", [as_raw, as_zip, as_legacy])
    def test_training_does_not_resume_from_a_hostile_checkpoint(self, pack, unfinished, tmp_path, capfd):
        for name, data in HOSTILE.items():
            path = pack(data, unfinished.checkpoint_path)
            assert_refused(watched(capfd, [*UNFINISHED, "--out", unfinished.path]), path, name)

    @pytest.mark.parametrize("what", damages_of_a_file(CHECKPOINT))
    def test_training_does_not_resume_from_a_damaged_checkpoint(self, what, unfinished, capfd):
        before = unfinished.metrics_path.read_bytes()
        damages_of_a_file(CHECKPOINT)[what](unfinished.path, random.Random(0))  # noqa: S311
        assert_refused(watched(capfd, [*UNFINISHED, "--out", unfinished.path]), unfinished.checkpoint_path, what)
        assert unfinished.metrics_path.read_bytes() == before


def assert_refused(said, path, name):
    assert said.code == 2, (name, said)
    assert str(path) in said.errors[0], (name, said)
    # lines before it are progress, and nothing was printed as a result
    assert said.out == ""
    assert said.err.splitlines()[-1:] == said.errors


UNFINISHED = ["train", "--recipe", "demo", "--arch", "plain", "--depth", "8", "--device", "cpu", "--epochs", "2",
              "--limit-train", "130", "--limit-test", "20"]  # fmt: skip


class StopAfterTheFirstEpoch(Reporter):
    def epoch(self, metrics):
        if metrics.epoch == 1:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped after the first of two epochs."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    config = make_config("demo", arch="plain", depth=8, device="cpu", epochs=2, limit_train=130, limit_test=20)
    with pytest.raises(StoppedError):
        train(config, out, reporter=StopAfterTheFirstEpoch())
    return out


@pytest.fixture
def unfinished(stopped, tmp_path):
    """A copy of it."""
    return RunDir(shutil.copytree(stopped, tmp_path / "run"))


def published_as(data, monkeypatch):
    """Pin the checksum of `data` as that of the published archive."""
    spec = msgspec.structs.replace(TINY.spec, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(cifar.SPECS, "cifar10", spec)


NUM_FLIPS, NUM_CUTS = 300, 30
"""Flipped bits and truncations of each file."""


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """The files with a checksum: the bytes of each, and a function that reads it with other bytes in its place."""
    folder = tmp_path_factory.mktemp("readers")
    config = make_config(
        "demo", arch="resnet", depth=8, device="cpu", compile="off", limit_train=40, limit_test=20, epochs=1
    )
    run = train(config, folder / "run").run
    engine = Engine(config, load_dataset(config), decide(config))
    archive, batches = folder / "archive" / TINY.spec.archive, folder / "batches" / TINY.spec.folder
    archive.parent.mkdir()
    archive.write_bytes(TINY.archive)
    TINY.unpack(batches)

    def reader(path, read):
        def read_bytes(data):
            path.write_bytes(data)
            return read()

        return path.read_bytes(), read_bytes

    return {
        "archive": reader(archive, lambda: load_cifar("cifar10", archive.parent, offline=True)),
        "batch": reader(batches / "data_batch_1", lambda: load_cifar("cifar10", batches, offline=True)),
        "checkpoint": reader(run.checkpoint_path, lambda: load_state(engine, run.checkpoint_path)),
        "weights": reader(run.last_weights_path, lambda: read_weights(run.last_weights_path)),
    }


@pytest.fixture(params=["archive", "batch", "checkpoint", "weights"])
def checksummed(request, readers, monkeypatch):
    """One of these files, and a function that fails unless given bytes are refused in one line."""
    monkeypatch.setitem(cifar.SPECS, "cifar10", TINY.spec)
    data, read = readers[request.param]
    read(data)  # it can be read undamaged

    def refuse(damaged):
        with pytest.raises(InputError) as caught:
            read(bytes(damaged))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600

    return data, refuse


def flipped(data, at, rng):
    damaged = bytearray(data)
    damaged[at] ^= 1 << rng.randrange(8)
    return damaged


def test_a_flipped_bit_anywhere_in_a_file_with_a_checksum_is_refused(checksummed):
    (data, refuse), rng = checksummed, random.Random(0)  # noqa: S311 (damage, not a secret)
    # every part of a header of safetensors, and the rest at random
    for at in [*range(0, min(len(data), 5000), 23), *(rng.randrange(len(data)) for _ in range(NUM_FLIPS))]:
        refuse(flipped(data, at, rng))


def test_a_truncated_file_with_a_checksum_is_refused(checksummed):
    (data, refuse), rng = checksummed, random.Random(0)  # noqa: S311 (damage, not a secret)
    for length in [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(NUM_CUTS))]:
        refuse(data[:length])


def test_a_damaged_cache_of_decoded_images_is_decoded_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise = np.random.default_rng(0)
    for name in ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "test/dog/d.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "images" / name)
    images = load_imagefolder(tmp_path / "images").train.pixels
    (cache,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    data, rng = cache.read_bytes(), random.Random(0)  # noqa: S311 (damage, not a secret)
    heads = [*range(300), *range(len(data) - 1000, len(data))]
    for _ in range(200):
        cache.write_bytes(flipped(data, rng.choice(heads), rng))
        assert np.array_equal(load_imagefolder(tmp_path / "images").train.pixels, images)
