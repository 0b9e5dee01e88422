"""A probe sees the network of a run with the requested weights and the data that the run was trained on."""

import shutil

import msgspec
import pandas as pd
import pytest
import torch

from resnet_cli.data import prepare
from resnet_cli.device import decide
from resnet_cli.errors import InputError, RunFileError
from resnet_cli.measure import fresh_subjects, measure, run_subjects
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config
from resnet_cli.session import train
from resnet_cli.weights import read_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = make_config("demo", arch="resnet", depth=8, epochs=1, limit_train=200, limit_test=20, seed=3, device="cpu")
    return train(config, tmp_path_factory.mktemp("runs") / "run").run


class Recorder:
    """A probe that keeps the networks it is given."""

    def __init__(self):
        self.models, self.num_images = [], []

    def __call__(self, model, images, normalizer, *, batch_size, seed):
        self.models.append(model)
        self.num_images.append(len(images))
        return pd.DataFrame({"batch_size": [batch_size, batch_size], "probe_seed": [seed, seed]})


def test_a_plain_network_may_be_named_with_its_shortcut():
    (subject,) = fresh_subjects(arch="plain", depth=8, shortcut="none")
    assert subject.label == "plain-8"


def test_rows_of_a_probe_follow_the_identity_of_each_network():
    subjects = fresh_subjects(depth=8, shortcut="B", seed=1)
    frame = measure(subjects, Recorder(), batch_size=7, device="cpu")
    identity = {"which": "init", "dataset": "digits (16×16)", "seed": 1, "batch_size": 7, "probe_seed": 1}
    assert frame.to_dict("records") == [
        {"label": name, "network": name, **identity} for name in ("plain-8", "plain-8", "resnet-8-B", "resnet-8-B")
    ]


@pytest.mark.parametrize("which", ["init", "last", "best"])
def test_a_probe_sees_the_requested_weights_of_a_run_and_its_own_training_images(run, which):
    probe = Recorder()
    measure(run_subjects([run.path], which), probe, device="cpu")
    paths = {"last": run.last_weights_path, "best": run.best_weights_path}
    expected = (
        build_model("resnet", 8, seed=3).state_dict() if which == "init" else read_weights(paths[which]).state_dict
    )
    assert all(torch.equal(value, expected[name]) for name, value in probe.models[0].state_dict().items())
    assert probe.num_images == [200]


def test_networks_are_measured_in_fp32_without_compilation_even_if_the_run_used_others(run, monkeypatch):
    chosen = []
    monkeypatch.setattr("resnet_cli.device.decide", lambda config: chosen.append(config) or decide(config))
    (subject,) = run_subjects([run.path], "last")
    config = msgspec.structs.replace(subject.config, precision="bf16", compile="on")
    measure([subject._replace(config=config)], Recorder(), device="cpu")
    assert [(config.precision, config.compile) for config in chosen] == [("fp32", "off")]


def test_runs_of_one_network_are_labelled_by_folder_name_or_by_path_where_names_repeat(make_run, tmp_path):
    paths = [make_run(tmp_path / name, seed=seed).path for seed, name in enumerate("ab")]
    assert [subject.label for subject in run_subjects([*paths, paths[0]], "init")] == ["a", "b"]
    paths = [make_run(tmp_path / name / "run").path for name in "cd"]
    assert [subject.label for subject in run_subjects(paths, "init")] == [str(path) for path in paths]


def test_measuring_a_missing_run_or_missing_weights_is_refused(run, tmp_path):
    with pytest.raises(RunFileError, match="does not exist"):
        run_subjects([tmp_path / "nothing"], "init")
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "weights" / "last.safetensors").unlink()
    with pytest.raises(InputError, match=r"last\.safetensors is missing"):
        measure(run_subjects([copy], "last"), Recorder(), device="cpu")


def test_measuring_a_run_on_other_data_is_refused(run, monkeypatch):
    monkeypatch.setattr(
        "resnet_cli.data.open.prepare", lambda source, **_: prepare(source, limit_train=100, limit_test=20)
    )
    with pytest.raises(InputError, match="fingerprint"):
        measure(run_subjects([run.path], "last"), Recorder(), device="cpu")
