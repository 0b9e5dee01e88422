"""Malicious files and files with flipped bits are refused in one line; no code is run and no file is written."""

import os
import pickle
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from damage import damages_of_a_file
from watch import watched

from resnet_cli.checkpoint import load_state
from resnet_cli.data import open_data
from resnet_cli.device import decide
from resnet_cli.engine import Engine
from resnet_cli.errors import InputError, StoppedError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import Reporter, train
from resnet_cli.weights import read_weights

CANARY = Path("/tmp/resnet-cli-canary")  # noqa: S108 (the file that the hostile files would create)
CHECKPOINT = "checkpoints/resume.safetensors"


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path, monkeypatch):
    """Nothing is run, and nothing is written into the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not CANARY.exists()
    assert os.listdir(tmp_path / "here") == []


class Call:
    """Is unpickled by a call of `os.system`."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_training_is_not_resumed_from_a_checkpoint_that_runs_a_command(save, unfinished, capfd):
    save(Call(), unfinished.checkpoint_path)
    said = watched(capfd, [*UNFINISHED, "--out", unfinished.path])
    assert_refused(said, unfinished.checkpoint_path, "a call of os.system")


@pytest.mark.parametrize("what", damages_of_a_file(CHECKPOINT))
def test_training_is_not_resumed_from_a_file_that_is_not_a_checkpoint(what, unfinished, capfd):
    before = unfinished.metrics_path.read_bytes()
    damages_of_a_file(CHECKPOINT)[what](unfinished.path, random.Random(0))  # noqa: S311
    assert_refused(watched(capfd, [*UNFINISHED, "--out", unfinished.path]), unfinished.checkpoint_path, what)
    assert unfinished.metrics_path.read_bytes() == before


FILES = (
    ".lock", ".holder.json", "attempts.jsonl", "metrics.csv", "gradflow.csv", "run.json", "weights", "checkpoints",
    "weights/last.safetensors", "weights/best.safetensors", "predictions.npz", "README.md", "summary.json",
    "diverged.json", CHECKPOINT,
)  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_training_writes_through_no_link_in_place_of_a_file_or_folder_of_the_run(stopped, tmp_path, capfd, more):
    elsewhere = tmp_path / "elsewhere"
    for number, file in enumerate(FILES):
        run = RunDir(shutil.copytree(stopped, tmp_path / str(number)))
        if (run.path / file).exists():
            (run.path / file).rename(elsewhere)
        else:
            elsewhere.write_bytes(b"mine")
        (run.path / file).symlink_to(elsewhere)
        inside = elsewhere.rglob("*") if elsewhere.is_dir() else [elsewhere]
        before = {path: path.read_bytes() for path in inside}
        said = watched(capfd, [*UNFINISHED, "--out", run.path, *more])
        assert said.code == 0 or str(run.path / file) in said.errors[0], said
        assert {path: path.read_bytes() for path in before} == before, file
        elsewhere.rename(tmp_path / f"elsewhere-{number}")


def assert_refused(said, path, name):
    assert said.code == 2, (name, said)
    assert str(path) in said.errors[0], (name, said)
    # the lines before the error are progress
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


class Target(NamedTuple):
    """An intact file of a run."""

    path: Path
    read: Callable[[], object]
    """Returns the content of the file or raises `InputError`."""
    data: bytes
    content: object


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Files of a run, each with a function that reads it."""
    config = make_config(
        "demo", arch="resnet", depth=8, device="cpu", compile="off", limit_train=40, limit_test=20, epochs=1
    )
    run = train(config, tmp_path_factory.mktemp("targets") / "run").run
    engine = Engine(config, open_data(config), decide(config))

    def read_predictions():
        predictions = run.read_predictions()
        return predictions.labels.tolist(), predictions.logits.tolist()

    return {
        "checkpoint": (run.checkpoint_path, lambda: load_state(engine, run.checkpoint_path)),
        "weights": (run.last_weights_path, lambda: read_weights(run.last_weights_path)),
        "predictions": (run.predictions_path, read_predictions),
    }


@pytest.fixture
def target(request, readers):
    path, read = readers[request.param]
    data = path.read_bytes()
    yield Target(path, read, data, read())
    path.write_bytes(data)


def is_refused(target, data):
    """Whether `data` is refused in one line; without a checksum it may be read if the content is unchanged."""
    target.path.write_bytes(data)
    try:
        content = target.read()
    except InputError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 600
        return True
    assert target.path.suffix == ".npz", "the checksum of a safetensors file covers every byte"
    assert content == target.content
    return False


def flipped(data, position, rng):
    damaged = bytearray(data)
    damaged[position] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize("target", ["checkpoint", "weights", "predictions"], indirect=True)
def test_a_file_with_a_flipped_bit_is_refused_in_one_line_or_has_the_same_content(target, request):
    rng = random.Random(request.node.name)  # noqa: S311 (damage, not a secret)
    for _ in range(150):
        is_refused(target, flipped(target.data, rng.randrange(len(target.data)), rng))


@pytest.mark.parametrize("target", ["checkpoint", "weights"], indirect=True)
def test_a_file_with_a_flipped_bit_in_its_header_is_refused(target):
    header_end = 8 + int.from_bytes(target.data[:8], "little")
    rng = random.Random(0)  # noqa: S311 (damage, not a secret)
    for position in range(0, header_end, 23):
        assert is_refused(target, flipped(target.data, position, rng)), f"byte {position}"


@pytest.mark.parametrize("target", ["checkpoint", "weights", "predictions"], indirect=True)
def test_every_truncated_file_is_refused_in_one_line(target, request):
    rng = random.Random(request.node.name)  # noqa: S311 (damage, not a secret)
    for length in [0, len(target.data) - 1, *(rng.randrange(len(target.data)) for _ in range(18))]:
        assert is_refused(target, target.data[:length]), f"{length} of {len(target.data)} bytes"
