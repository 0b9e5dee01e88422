"""Gradient norms are those of autograd, for the requested network, which stays unchanged."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from resnet_cli.analysis.gradients import gradient_trend
from resnet_cli.data import load_source, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer, draw_epoch
from resnet_cli.errors import ConfigError
from resnet_cli.measure import fresh_subjects, measure
from resnet_cli.model import build_model, weighted_layers
from resnet_cli.optim import build_optimizer
from resnet_cli.probes.gradflow import gradflow_rows, measure_gradflow, step_norms
from resnet_cli.recipes import make_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    """200 images of the digits on the CPU, and their normalisation."""
    digits = prepare(load_source("digits", None), limit_train=200, limit_test=20)
    return DeviceImages.on(CPU, digits.train), Normalizer.for_dataset(digits, "channel", CPU)


def test_norms_over_one_batch_are_those_of_its_gradient(data):
    images, normalizer = data
    frame = measure_gradflow(build_model("resnet", 8), images, normalizer, num_batches=1, batch_size=200)
    model = build_model("resnet", 8).train()
    F.cross_entropy(model(normalizer(images.pixels)), images.labels).backward()
    layers = weighted_layers(model)
    # the batch has all images, in another order
    assert frame["grad_norm"].tolist() == pytest.approx([x.module.weight.grad.norm().item() for x in layers], rel=1e-3)
    assert frame["weight_norm"].tolist() == pytest.approx([x.module.weight.norm().item() for x in layers])
    assert frame["grad_norm_std"].isna().all()
    assert frame["layer"].tolist() == [layer.name for layer in layers]


def test_norms_over_several_batches_have_a_standard_deviation_and_leave_the_network_unchanged(data):
    model = build_model("plain", 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frame = measure_gradflow(model, *data, num_batches=4, batch_size=50)
    singles = [
        measure_gradflow(model, DeviceImages(data[0].pixels[chosen], data[0].labels[chosen]), data[1], num_batches=1,
                         batch_size=50)["grad_norm"]
        for chosen in draw_epoch(200, "none", seed=0, epoch=0, device=CPU).order.view(4, 50)
    ]  # fmt: skip
    norms = np.array(singles)
    np.testing.assert_allclose(frame["grad_norm"], norms.mean(axis=0), rtol=1e-2)
    np.testing.assert_allclose(frame["grad_norm_std"], norms.std(axis=0, ddof=1), rtol=0.05)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.conv1.weight.grad is None


def test_the_seed_decides_which_images_gradient_norms_are_measured_on(data):
    model = build_model("plain", 8)
    first, again, other = (
        measure_gradflow(model, *data, num_batches=1, batch_size=50, seed=seed)["grad_norm"] for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert not np.isclose(first, other, rtol=1e-3).any()


def test_a_layer_whose_weights_are_zero_has_no_update_to_weight_ratio(data):
    model = build_model("plain", 8)
    (row, *_) = gradflow_rows(model, torch.tensor([[1.0, 0.0, 0.1]] * 8), epoch=1)
    assert row.update_to_weight_ratio is None


def test_too_few_images_for_the_batches_are_an_error_that_names_the_number_of_batches_that_fit(data):
    with pytest.raises(ConfigError, match=r"200 images.*batches 2"):
        measure_gradflow(build_model("plain", 8), *data, num_batches=3, batch_size=100)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_recorded_update_is_the_distance_that_a_step_moves_the_weights(data, momentum):
    images, normalizer = data
    config = make_config("demo", arch="resnet", depth=8, momentum=momentum, weight_decay=0.02)
    model = build_model("resnet", 8)
    optimizer = build_optimizer(model, config, CPU)
    for _ in range(2):
        before = [layer.module.weight.detach().clone() for layer in weighted_layers(model)]
        optimizer.zero_grad()
        F.cross_entropy(model(normalizer(images.pixels)), images.labels).backward()
        optimizer.step()
    rows = gradflow_rows(model, step_norms(model, optimizer, config.lr), epoch=3)
    for row, layer, old in zip(rows, weighted_layers(model), before, strict=True):
        moved = (layer.module.weight - old).norm() / layer.module.weight.norm()
        assert row.update_to_weight_ratio == pytest.approx(moved.item(), rel=1e-3)
        assert (row.epoch, row.layer, row.stage) == (3, layer.name, layer.stage)


def test_at_initialisation_gradients_explode_towards_the_input_in_a_plain_network_but_not_in_a_residual_one():
    # Yang et al. 2019 (arXiv 1902.08129): BN without skips explodes the gradient with depth
    subjects = fresh_subjects(depth=56)
    frame = measure(subjects, functools.partial(measure_gradflow, num_batches=1), device="cpu")
    plain, residual = (gradient_trend(frame[frame["network"] == name]) for name in ("plain-56", "resnet-56"))
    assert plain.early_late_ratio > 30
    assert residual.early_late_ratio < 5
    assert plain.log10_slope_per_layer < 4 * residual.log10_slope_per_layer < 0


def test_the_trend_of_a_geometric_profile_is_its_ratio_and_slope():
    index = np.arange(1, 57)
    stage = np.r_[0, np.repeat([1, 2, 3], 18), 4]
    frame = pd.DataFrame({"layer_index": index, "stage": stage, "grad_norm": 10.0 ** (-0.05 * index)})
    frame.loc[0, "grad_norm"] = frame.loc[55, "grad_norm"] = 1e9  # other shapes, which do not count
    trend = gradient_trend(frame)
    assert trend.log10_slope_per_layer == pytest.approx(-0.05)
    assert trend.early_late_ratio == pytest.approx(10 ** (0.05 * 36))


def test_a_gradient_of_exactly_zero_has_no_trend():
    frame = pd.DataFrame({"layer_index": [2, 3, 4], "stage": [1, 2, 3], "grad_norm": [1.0, 0.0, 1.0]})
    assert all(np.isnan(gradient_trend(frame)))
