"""Files that were made to do harm, or were damaged by a bit: refused in one line; nothing is run, nothing written."""

import dataclasses
import hashlib
import io
import os
import random
import shutil
import signal
from collections.abc import Callable
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
from resnet_cli.data.archives import read_members
from resnet_cli.data.cifar import load_cifar
from resnet_cli.data.imagefolder import load_imagefolder
from resnet_cli.data.pickles import read_pickle
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
    """Nothing is run, and nothing is written into the current folder or where the archives lead."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not CANARY.exists()
    assert not Path("/tmp/resnet-cli-outside").exists()  # noqa: S108
    assert os.listdir(tmp_path / "here") == []


def assert_one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 600


class TestPickles:
    def test_there_are_enough(self):
        assert len(executing(CANARY)) >= 20
        assert len(set(HOSTILE.values())) == len(HOSTILE)

    @pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
    def test_the_reader_of_datasets_refuses_it(self, data):
        with pytest.raises(InputError, match="data_batch_1 is not a CIFAR file: ") as caught:
            read_pickle(data, "data_batch_1")
        assert_one_line(caught.value)

    @pytest.mark.parametrize("pack", [as_raw, as_zip, as_legacy])
    @pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
    def test_eval_refuses_it_as_a_weight_file(self, data, pack, tmp_path, capfd):
        path = pack(data, tmp_path / "weights.pt")
        said = watched(capfd, ["eval", str(path), "--arch", "plain", "--dataset", "digits"])
        assert said.code == 2
        assert said.err.splitlines() == said.errors
        assert str(path) in said.errors[0]
        assert said.out == ""


class TestArchives:
    def test_there_are_enough(self):
        assert len(ARCHIVES) >= 12

    @pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES.keys())
    def test_it_is_refused_even_with_the_right_checksum(self, data, tmp_path, monkeypatch):
        published_as(data, monkeypatch)
        (tmp_path / "data").mkdir()
        archive = tmp_path / "data" / TINY.spec.archive
        archive.write_bytes(data)
        with pytest.raises(InputError, match="is refused: ") as caught:
            load_cifar("cifar10", tmp_path / "data", offline=True)
        assert_one_line(caught.value)
        assert str(archive) in str(caught.value)
        assert os.listdir(tmp_path / "data") == [archive.name]


# What reads a dataset itself (`reproduce` starts `train`); runs would go into the current folder.
ON_DATA = {
    "data verify": ["data", "verify", "cifar10"],
    "data show": ["data", "show", "cifar10"],
    "train": ["train", "--arch", "plain", "--depth", "8", "--dataset", "cifar10", "--device", "cpu"],
    "gradflow": ["gradflow", "--depth", "8", "--dataset", "cifar10", "--device", "cpu"],
}


class TestCommands:
    """What no reader lets through is one line and exit code 2 wherever it is read."""

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
            assert_refused(said, f"{folder}: {batch.name} is not a CIFAR file: ", name)

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
    def test_training_does_not_go_on_from_a_hostile_checkpoint(self, pack, unfinished, tmp_path, capfd):
        for name, data in HOSTILE.items():
            path = pack(data, unfinished.checkpoint_path)
            assert_refused(watched(capfd, [*UNFINISHED, "--out", unfinished.path]), path, name)

    @pytest.mark.parametrize("what", damages_of_a_file(CHECKPOINT))
    def test_training_does_not_go_on_from_what_is_no_checkpoint(self, what, unfinished, capfd):
        before = unfinished.metrics_path.read_bytes()
        damages_of_a_file(CHECKPOINT)[what](unfinished.path, random.Random(0))  # noqa: S311
        assert_refused(watched(capfd, [*UNFINISHED, "--out", unfinished.path]), unfinished.checkpoint_path, what)
        assert unfinished.metrics_path.read_bytes() == before


def assert_refused(said, path, name):
    assert said.code == 2, (name, said)
    assert str(path) in said.errors[0], (name, said)
    # what comes before it is progress: the disk was read, and nothing was printed as a result
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
    """An archive that was published so: its checksum is right."""
    spec = msgspec.structs.replace(TINY.spec, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(cifar.SPECS, "cifar10", spec)


@dataclasses.dataclass
class Target:
    """A file, and what reads it."""

    data: bytes
    read: Callable[[bytes], object]
    """Given other bytes: returns what it makes of them or raises `InputError`."""
    is_sealed: bool
    """Whether a checksum covers every byte, so that no change whatever may pass."""
    unchanged: Callable[[object], bool] = lambda _: True
    """Whether what was read may pass for what a file that is not with_checksum holds."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """The files of a dataset and of a run, as they are read and, for the dataset, also without its checksums."""
    folder = tmp_path_factory.mktemp("targets")
    config = make_config(
        "demo", arch="resnet", depth=8, device="cpu", compile="off", limit_train=40, limit_test=20, epochs=1
    )
    run = train(config, folder / "run").run
    engine = Engine(config, load_dataset(config), decide(config))
    labels_and_logits = run.read_predictions()

    def file_reader(path, read):
        def read_bytes(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return read()

        return read_bytes

    archive = folder / "archive" / TINY.spec.archive
    batches = folder / "batches" / TINY.spec.folder
    TINY.unpack(batches)
    limits = {f"{TINY.spec.folder}/{member.name}": member.max_bytes for member in TINY.spec.members}
    batch = TINY.files["data_batch_1"]

    def parse_archive(data):
        return dict(read_members(io.BytesIO(data), "archive", limits))

    def same_predictions(read):
        return np.array_equal(read.labels, labels_and_logits.labels) and np.array_equal(
            read.logits, labels_and_logits.logits
        )

    def load_archive():
        return load_cifar("cifar10", archive.parent, offline=True)

    def load_batches():
        return load_cifar("cifar10", batches, offline=True)

    members = parse_archive(TINY.archive)
    checkpoint, weights = folder / "resume.safetensors", folder / "last.safetensors"
    return {
        "archive, verified": Target(TINY.archive, file_reader(archive, load_archive), True),
        "batch, verified": Target(batch, file_reader(batches / "data_batch_1", load_batches), True),
        "archive, parsed": Target(TINY.archive, parse_archive, False, lambda read: read == members),
        "batch, parsed": Target(batch, lambda data: read_pickle(data, "batch"), False),
        "checkpoint": Target(
            run.checkpoint_path.read_bytes(), file_reader(checkpoint, lambda: load_state(engine, checkpoint)),
            True,
        ),
        "weights": Target(
            run.last_weights_path.read_bytes(), file_reader(weights, lambda: read_weights(weights)), True
        ),
        "predictions": Target(
            run.predictions_path.read_bytes(), file_reader(run.predictions_path, run.read_predictions),
            False, same_predictions,
        ),
    }  # fmt: skip


# Flipped bits and truncations of each file.
DAMAGE = {
    "archive, verified": (200, 20), "batch, verified": (100, 10), "archive, parsed": (200, 20),
    "batch, parsed": (200, 10), "checkpoint": (150, 20), "weights": (100, 10), "predictions": (100, 10),
}  # fmt: skip
NUM_FLIPS, NUM_CUTS = map(sum, zip(*DAMAGE.values(), strict=True))


@pytest.fixture
def target(request, targets, monkeypatch):
    monkeypatch.setitem(cifar.SPECS, "cifar10", TINY.spec)
    target = targets[request.param]
    target.read(target.data)  # as it is, it can be read
    return target


def outcome(target, data):
    """`refused`, in one line, or `read`; any other exception is the test's."""
    try:
        read = target.read(data)
    except InputError as error:
        assert_one_line(error)
        return "refused"
    assert target.unchanged(read)
    return "read"


class TestDamage:
    def test_there_is_enough(self, targets):
        assert NUM_FLIPS >= 1000
        assert NUM_CUTS >= 100
        assert targets.keys() == DAMAGE.keys()

    @pytest.mark.parametrize(("target", "num_flips"), [(n, f) for n, (f, _) in DAMAGE.items()], indirect=["target"])
    def test_a_flipped_bit_is_refused_where_there_is_a_checksum_and_read_as_data_elsewhere(
        self, target, num_flips, request
    ):
        rng = random.Random(request.node.name)  # noqa: S311 (damage, not a secret)
        for _ in range(num_flips):
            at = rng.randrange(len(target.data))
            damaged = bytearray(target.data)
            damaged[at] ^= 1 << rng.randrange(8)
            found = outcome(target, bytes(damaged))
            assert found == "refused" or not target.is_sealed, f"byte {at}"

    @pytest.mark.parametrize("target", ["checkpoint", "weights"], indirect=True)
    def test_a_flipped_bit_anywhere_in_the_header_is_refused(self, target):
        header_end = 8 + int.from_bytes(target.data[:8], "little")
        rng = random.Random(0)  # noqa: S311 (damage, not a secret)
        for at in range(0, header_end, 23):
            damaged = bytearray(target.data)
            damaged[at] ^= 1 << rng.randrange(8)
            assert outcome(target, bytes(damaged)) == "refused", f"byte {at}"

    @pytest.mark.parametrize(("target", "num_cuts"), [(n, c) for n, (_, c) in DAMAGE.items()], indirect=["target"])
    def test_a_file_that_is_cut_off_is_refused(self, target, num_cuts, request):
        rng = random.Random(request.node.name)  # noqa: S311 (damage, not a secret)
        for length in [0, len(target.data) - 1, *(rng.randrange(len(target.data)) for _ in range(num_cuts - 2))]:
            assert outcome(target, target.data[:length]) == "refused", f"{length} of {len(target.data)} bytes"

    def test_a_damaged_cache_of_decoded_images_is_made_anew(self, tmp_path, monkeypatch):
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
            damaged = bytearray(data)
            damaged[rng.choice(heads)] ^= 1 << rng.randrange(8)
            cache.write_bytes(damaged)
            assert np.array_equal(load_imagefolder(tmp_path / "images").train.pixels, images)
