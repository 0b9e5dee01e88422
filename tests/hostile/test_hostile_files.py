"""Malicious files and files with flipped bits are refused in one line; no code is run and no file is written."""

import dataclasses
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_cifar
from damage import damages_of_a_file
from hostile_pickles import as_legacy, as_raw, as_zip, bombs, executing, unusual
from PIL import Image
from watch import watched

from resnet_cli.checkpoint import load_state
from resnet_cli.data import cifar, open_data
from resnet_cli.data.cifar import load_cifar
from resnet_cli.data.imagefolder import load_imagefolder
from resnet_cli.device import decide
from resnet_cli.engine import Engine
from resnet_cli.errors import InputError, StoppedError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import SilentReporter, train
from resnet_cli.weights import read_weights

CANARY = Path("/tmp/resnet-cli-canary")  # noqa: S108 (the file that the hostile files would create)
EXECUTING = executing(CANARY)
HOSTILE = EXECUTING | unusual() | bombs()
CHECKPOINT = "checkpoints/resume.safetensors"
TINY = tiny_cifar.TinyCifar()


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path, monkeypatch):
    """Nothing is run, and nothing is written into the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not CANARY.exists()
    assert os.listdir(tmp_path / "here") == []


def assert_one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 600


class TestPickles:
    @pytest.mark.parametrize("pack", [as_raw, as_zip, as_legacy])
    @pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
    def test_eval_refuses_it_as_a_weight_file(self, data, pack, tmp_path, capfd):
        path = pack(data, tmp_path / "weights.pt")
        said = watched(capfd, ["eval", str(path), "--arch", "plain", "--dataset", "digits"])
        assert said.code == 2
        assert said.err.splitlines() == said.errors
        assert str(path) in said.errors[0]
        assert said.out == ""


# Commands that read a dataset (`reproduce` starts `train`); runs would go into the current folder.
ON_DATA = {
    "data verify": ["data", "verify", "cifar10"],
    "data show": ["data", "show", "cifar10"],
    "train": ["train", "--arch", "plain", "--depth", "8", "--dataset", "cifar10", "--device", "cpu"],
    "gradflow": ["gradflow", "--depth", "8", "--dataset", "cifar10", "--device", "cpu"],
}


class TestCommands:
    """Every command that reads a hostile file ends in one error line and exit code 2."""

    @pytest.mark.parametrize("command", ON_DATA)
    def test_a_batch_that_runs_a_command_is_refused_by_its_checksum_and_even_with_the_right_one(
        self, command, tmp_path, monkeypatch, capfd
    ):
        hostile = tiny_cifar.TinyCifar(data_batch_1=EXECUTING["os.system"])
        hostile.unpack(tmp_path / hostile.spec.folder)
        batch = tmp_path / hostile.spec.folder / "data_batch_1"
        for spec, problem in ((TINY.spec, f"{batch} is damaged: MD5"), (hostile.spec, "data_batch_1 is not a CIFAR")):
            monkeypatch.setitem(cifar.SPECS, "cifar10", spec)
            assert_refused(watched(capfd, [*ON_DATA[command], "--data-dir", tmp_path]), problem, command)

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
    # the lines before the error are progress
    assert said.out == ""
    assert said.err.splitlines()[-1:] == said.errors


UNFINISHED = ["train", "--recipe", "demo", "--arch", "plain", "--depth", "8", "--device", "cpu", "--epochs", "2",
              "--limit-train", "130", "--limit-test", "20"]  # fmt: skip


class StopAfterTheFirstEpoch(SilentReporter):
    def epoch(self, metrics):
        if metrics["epoch"] == 1:
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


@dataclasses.dataclass
class Target:
    """A file and its reader."""

    data: bytes
    read: Callable[[bytes], object]
    """Given other bytes: returns their content or raises `InputError`."""
    has_checksum: bool
    """Whether a checksum covers every byte, so that every change must be refused."""
    unchanged: Callable[[object], bool] = lambda _: True
    """Whether the content read from a changed file without a checksum is acceptable."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """The files of a dataset and of a run."""
    folder = tmp_path_factory.mktemp("targets")
    config = make_config(
        "demo", arch="resnet", depth=8, device="cpu", compile="off", limit_train=40, limit_test=20, epochs=1
    )
    run = train(config, folder / "run").run
    engine = Engine(config, open_data(config), decide(config))
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
    batch = TINY.files["data_batch_1"]

    def same_predictions(read):
        return np.array_equal(read.labels, labels_and_logits.labels) and np.array_equal(
            read.logits, labels_and_logits.logits
        )

    def load_archive():
        return load_cifar("cifar10", archive.parent, offline=True)

    def load_batches():
        return load_cifar("cifar10", batches, offline=True)

    checkpoint, weights = folder / "resume.safetensors", folder / "last.safetensors"
    return {
        "archive": Target(TINY.archive, file_reader(archive, load_archive), True),
        "batch": Target(batch, file_reader(batches / "data_batch_1", load_batches), True),
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
    "archive": (200, 20), "batch": (100, 10), "checkpoint": (150, 20), "weights": (100, 10), "predictions": (100, 10),
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
            assert found == "refused" or not target.has_checksum, f"byte {at}"

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

    def test_a_damaged_cache_of_decoded_images_is_rebuilt(self, tmp_path, monkeypatch):
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
