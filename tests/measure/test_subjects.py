"""The networks to measure, and how each is opened: with the requested weights and the data that it was trained on."""

import shutil

import msgspec
import pytest
import torch

from resnet_cli.data import prepare
from resnet_cli.device import decide
from resnet_cli.errors import InputError, RunFileError
from resnet_cli.measure import fresh_subjects, saved_subjects
from resnet_cli.measure.opening import Opener
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config
from resnet_cli.session import train
from resnet_cli.util.progress import silent
from resnet_cli.weights import read_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = make_config("demo", arch="resnet", depth=8, epochs=1, limit_train=200, limit_test=20, seed=3, device="cpu")
    return train(config, tmp_path_factory.mktemp("runs") / "run").run


def subjects_of(*paths, which="last"):
    return saved_subjects(list(paths), which, warn=pytest.fail)


def opened(subject):
    return Opener(None, "cpu", silent).network(subject, images=None, batch_size=7, seed=0, settings={})


def test_a_plain_network_may_be_named_with_its_shortcut():
    (subject,) = fresh_subjects(arch="plain", depth=8, shortcut="none")
    assert subject.label == "plain-8"


def test_new_networks_are_a_plain_and_a_residual_one_with_the_weights_of_their_seed():
    plain, residual = fresh_subjects(depth=8, shortcut="B", seed=1)
    assert (plain.label, residual.label) == ("plain-8", "resnet-8-B")
    expected = build_model("resnet", 8, "B", seed=1).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in opened(residual).model.state_dict().items())


@pytest.mark.parametrize("which", ["init", "last", "best"])
def test_a_run_is_opened_with_the_requested_weights_and_its_own_training_images(run, which):
    (subject,) = subjects_of(run.path, which=which)
    network = opened(subject)
    paths = {"last": run.last_weights_path, "best": run.best_weights_path}
    expected = (
        build_model("resnet", 8, seed=3).state_dict() if which == "init" else read_weights(paths[which]).state_dict
    )
    assert all(torch.equal(value, expected[name]) for name, value in network.model.state_dict().items())
    assert len(network.train) == 200


def test_networks_are_measured_in_fp32_without_compilation_even_if_the_run_used_others(run, monkeypatch):
    chosen = []
    monkeypatch.setattr("resnet_cli.device.decide", lambda config: chosen.append(config) or decide(config))
    (subject,) = subjects_of(run.path)
    opened(subject._replace(config=msgspec.structs.replace(subject.config, precision="bf16", compile="on")))
    assert {(config.precision, config.compile) for config in chosen} == {("fp32", "off")}


def test_runs_of_one_network_are_labelled_by_folder_name_or_by_path_where_names_repeat(make_run, tmp_path):
    paths = [make_run(tmp_path / name, seed=seed).path for seed, name in enumerate("ab")]
    assert [subject.label for subject in subjects_of(*paths, paths[0], which="init")] == ["a", "b"]
    paths = [make_run(tmp_path / name / "run").path for name in "cd"]
    assert [subject.label for subject in subjects_of(*paths, which="init")] == [str(path) for path in paths]


def test_a_run_that_is_named_and_in_a_folder_is_measured_once(make_run, tmp_path):
    runs = [make_run(tmp_path / name, seed=seed, predictions=False).path for seed, name in enumerate("ab")]
    (tmp_path / "link").symlink_to(runs[1])
    subjects = saved_subjects([tmp_path, runs[0], tmp_path / "link"], "last", warn=print)
    assert sorted(subject.label for subject in subjects) == ["a", "link"]


def test_a_run_that_is_named_may_be_incomplete_and_those_of_a_folder_are_skipped_with_a_warning(make_run, tmp_path):
    run = make_run(tmp_path / "a", status="incomplete")
    make_run(tmp_path / "b")
    assert [subject.run.path for subject in subjects_of(run.path, which="init")] == [run.path]
    warnings = []
    found = saved_subjects([tmp_path], "init", warn=warnings.append)
    assert [subject.run.path.name for subject in found] == ["b"]
    assert "incomplete" in warnings[0]


def test_a_missing_run_or_missing_weights_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        subjects_of(tmp_path / "nothing")
    copy = shutil.copytree(run.path, tmp_path / "run")
    (copy / "weights" / "last.safetensors").unlink()
    (subject,) = subjects_of(copy)
    with pytest.raises(InputError, match=r"last\.safetensors is missing"):
        opened(subject)
    (copy / "run.json").write_text("{}")
    with pytest.raises(RunFileError, match=r"run\.json"):
        subjects_of(copy)


def test_a_run_on_other_data_is_refused(run, monkeypatch):
    monkeypatch.setattr(
        "resnet_cli.data.open.prepare", lambda source, **_: prepare(source, limit_train=100, limit_test=20)
    )
    (subject,) = subjects_of(run.path)
    with pytest.raises(InputError, match="fingerprint"):
        opened(subject)
