"""Gradient norms are those that autograd gives, of the network that was asked for, which is left alone."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from resnet_cli.analysis.gradients import gradient_trend
from resnet_cli.data import load_source, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.errors import ConfigError, InputError, RunFileError
from resnet_cli.measure import profile, subjects_of_networks, subjects_of_runs
from resnet_cli.model import build_model, weighted_layers
from resnet_cli.probes.gradflow import measure_gradflow
from resnet_cli.recipes import make_config
from resnet_cli.session import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return prepare(load_source("digits", None), limit_train=200, limit_test=20)


@pytest.fixture(scope="module")
def material(digits):
    return DeviceImages.on(CPU, digits.train), Normalizer.for_dataset(digits, "channel", CPU)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = make_config("demo", arch="resnet", depth=8, epochs=1, limit_train=200, limit_test=20, device="cpu")
    return train(config, tmp_path_factory.mktemp("runs") / "run").run


def test_one_batch_gives_the_norms_of_its_gradient(material):
    images, normalizer = material
    frame = measure_gradflow(build_model("resnet", 8), images, normalizer, num_batches=1, batch_size=200)
    model = build_model("resnet", 8).train()
    F.cross_entropy(model(normalizer(images.pixels)), images.labels).backward()
    expected = [layer.module.weight.grad.norm().item() for layer in weighted_layers(model)]
    # the batch holds all images in another order
    assert frame["grad_norm"].tolist() == pytest.approx(expected, rel=1e-3)
    assert frame["grad_norm_std"].isna().all()
    assert frame["layer"].tolist() == [layer.name for layer in weighted_layers(model)]


def test_several_batches_are_averaged(material):
    images, normalizer = material
    frame = measure_gradflow(build_model("plain", 8), images, normalizer, num_batches=4, batch_size=50)
    assert (frame["grad_norm"] > 0).all()
    assert (frame["grad_norm_std"] > 0).all()


def test_measuring_changes_neither_weights_nor_running_statistics(material):
    model = build_model("plain", 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_gradflow(model, *material, num_batches=1, batch_size=50)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.conv1.weight.grad is None


def test_more_images_than_there_are_cannot_be_asked_for(material):
    with pytest.raises(ConfigError, match=r"200 images.*--batches 2"):
        measure_gradflow(build_model("plain", 8), *material, num_batches=3, batch_size=100)


def test_at_initialisation_gradients_of_a_plain_network_grow_towards_the_input_and_a_residual_one_does_not():
    # Yang et al. 2019 (arXiv 1902.08129): BN without skips explodes the gradient with depth
    subjects = subjects_of_networks(arch=None, depth=56, shortcut=None, seed=0, dataset="digits")
    frame = profile(subjects, num_batches=1, device="cpu")
    plain, residual = (gradient_trend(frame[frame["network"] == name]) for name in ("plain-56", "resnet-56"))
    assert plain.early_late_ratio > 30
    assert residual.early_late_ratio < 5
    assert plain.log10_slope_per_layer < 4 * residual.log10_slope_per_layer < 0


def test_a_run_is_measured_with_its_own_weights(run):
    initial, trained = (
        profile(subjects_of_runs([run.path], at), num_batches=1, batch_size=100, device="cpu")
        for at in ("init", "last")
    )
    assert not np.allclose(initial["weight_norm"], trained["weight_norm"])
    fresh = build_model("resnet", 8, seed=0)
    assert initial["weight_norm"].tolist() == pytest.approx(
        [layer.module.weight.norm().item() for layer in weighted_layers(fresh)]
    )


def test_weights_that_were_not_saved_are_asked_for_in_vain(make_run, tmp_path):
    path = make_run(tmp_path / "run", arch="plain").path
    with pytest.raises(InputError, match=r"last\.safetensors is missing.*--at init"):
        subjects_of_runs([path], "last")
    with pytest.raises(RunFileError, match="does not exist"):
        subjects_of_runs([tmp_path / "nothing"], "init")


def test_runs_of_one_network_are_told_apart_by_their_folders(make_run, tmp_path):
    paths = [make_run(tmp_path / name, seed=seed).path for seed, name in enumerate("ab")]
    assert [subject.label for subject in subjects_of_runs(paths, "init")] == ["a", "b"]
    paths = [make_run(tmp_path / name / "run").path for name in "cd"]
    assert [subject.label for subject in subjects_of_runs(paths, "init")] == [str(path) for path in paths]


def test_other_data_than_the_run_was_trained_on_are_refused(run, monkeypatch):
    def other_images(source, **_):
        return prepare(source, limit_train=100, limit_test=20)

    monkeypatch.setattr("resnet_cli.data.open.prepare", other_images)
    with pytest.raises(InputError, match="fingerprint"):
        profile(subjects_of_runs([run.path], "last"), num_batches=1, batch_size=50, device="cpu")


def test_the_trend_of_a_geometric_profile_is_its_ratio_and_its_slope():
    index = np.arange(1, 57)
    stage = np.r_[0, np.repeat([1, 2, 3], 18), 4]
    frame = pd.DataFrame({"layer_index": index, "stage": stage, "grad_norm": 10.0 ** (-0.05 * index)})
    frame.loc[0, "grad_norm"] = frame.loc[55, "grad_norm"] = 1e9  # other shapes, not counted
    trend = gradient_trend(frame)
    assert trend.log10_slope_per_layer == pytest.approx(-0.05)
    assert trend.early_late_ratio == pytest.approx(10 ** (0.05 * 36))


def test_a_gradient_of_exactly_zero_has_no_trend():
    frame = pd.DataFrame({"layer_index": [2, 3, 4], "stage": [1, 2, 3], "grad_norm": [1.0, 0.0, 1.0]})
    assert all(np.isnan(gradient_trend(frame)))
