"""The loss landscape agrees with direct evaluation and with explicit Hessians."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from resnet_cli.model import build_model
from resnet_cli.probes.landscape import (
    PROBE,
    draw_direction,
    extreme_eigenvalues,
    filter_weights,
    hessian_product,
    moved,
    weight_scales,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small():
    """A network of 66 weights in float64 and eval mode, with lively statistics, and two batches of images."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(8, 3),
    ).double()  # fmt: skip
    model[1].running_mean.normal_(std=0.3)
    model[1].running_var.uniform_(0.5, 2)
    batches = [(torch.randn(n, 3, 6, 6).double(), torch.randint(0, 3, (n,))) for n in (5, 3)]
    return model.eval(), batches


def explicit_hessian(model, batches):
    """Hessian of the mean loss by autograd's own function, from one flat vector of weights."""
    weights = filter_weights(model)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))

    def loss(flat):
        parts = flat.split([weight.numel() for weight in weights.values()])
        named = {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}
        return F.cross_entropy(functional_call(model, named, images), labels)

    flat = torch.cat([weight.detach().flatten() for weight in weights.values()])
    return torch.autograd.functional.hessian(loss, flat)


def test_hessian_products_over_batches_are_those_of_the_explicit_hessian(small):
    model, batches = small
    hessian = explicit_hessian(model, batches)
    scales = weight_scales(model)
    product, scaled = hessian_product(model, batches), hessian_product(model, batches, scales)
    for vector in torch.randn(3, len(hessian), dtype=torch.float64):
        torch.testing.assert_close(product(vector), hessian @ vector)
        torch.testing.assert_close(scaled(vector), scales * (hessian @ (scales * vector)))


def test_the_scale_of_a_weight_is_the_norm_of_its_filter(small):
    model, _ = small
    filters = [*model[0].weight, *model[5].weight]
    expected = [value for kernel in filters for value in [kernel.norm().item()] * kernel.numel()]
    assert weight_scales(model).tolist() == pytest.approx(expected)


def test_extreme_eigenvalues_are_those_of_the_explicit_hessian(small):
    model, batches = small
    expected = np.linalg.eigvalsh(explicit_hessian(model, batches).numpy())
    largest, smallest = extreme_eigenvalues(
        hessian_product(model, batches), torch.randn(len(expected), dtype=torch.float64), steps=len(expected)
    )
    assert expected[0] < 0 < expected[-1]
    assert (largest.value, smallest.value) == pytest.approx((expected[-1], expected[0]), rel=1e-8)
    assert max(largest.residual, smallest.residual) < 1e-6


def test_the_residual_bounds_the_distance_to_an_eigenvalue_after_a_few_steps():
    torch.manual_seed(0)
    square = torch.randn(40, 40, dtype=torch.float64)
    matrix = square + square.T
    spectrum = np.linalg.eigvalsh(matrix.numpy())
    for found in extreme_eigenvalues(lambda v: matrix @ v, torch.randn(40, dtype=torch.float64), steps=8):
        assert 1e-3 < np.abs(spectrum - found.value).min() <= found.residual
        assert spectrum[0] <= found.value <= spectrum[-1]


def test_the_iteration_stops_when_it_has_found_an_invariant_subspace():
    matrix = torch.diag(torch.tensor([3.0, -1.0, 0.0, 0.0]))
    largest, smallest = extreme_eigenvalues(lambda v: matrix @ v, torch.ones(4), steps=4)
    assert (largest.value, smallest.value) == pytest.approx((3, -1), abs=1e-5)


def test_a_hessian_that_is_not_finite_has_no_eigenvalues():
    for found in extreme_eigenvalues(lambda v: v * math.inf, torch.ones(4), steps=3):
        assert math.isnan(found.value)


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_second_derivatives_of_the_networks_are_those_of_finite_differences(arch):
    torch.manual_seed(0)
    model = build_model(arch, 8).double().eval()
    batch = (torch.randn(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 3]))
    vector = torch.randn(sum(weight.numel() for weight in filter_weights(model).values()), dtype=torch.float64)
    direction = dict(
        zip(filter_weights(model), vector.split([w.numel() for w in filter_weights(model).values()]), strict=True)
    )

    def gradient(factor):
        weights = {
            name: (weight + factor * direction[name].view_as(weight)).detach().requires_grad_()
            for name, weight in filter_weights(model).items()
        }
        loss = F.cross_entropy(functional_call(model, weights, batch[0]), batch[1])
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(weights.values()))])

    step = 1e-7  # small enough that no ReLU changes its sign
    expected = (gradient(step) - gradient(-step)) / (2 * step)
    torch.testing.assert_close(hessian_product(model, [batch])(vector), expected, rtol=1e-5, atol=1e-6)


def test_filters_of_a_direction_have_the_norms_of_the_filters_of_the_network():
    model = build_model("resnet", 8, "B")
    direction = draw_direction(model, 1, seed=0)
    assert set(direction) == {name for name, value in model.named_parameters() if "bn" not in name and value.ndim > 1}
    for name, weight in filter_weights(model).items():
        torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))


def test_twins_move_in_the_same_direction_but_numbers_and_seeds_give_different_ones():
    plain, twin = build_model("plain", 8), build_model("resnet", 8)
    first = draw_direction(plain, 1, seed=0)
    assert all(torch.equal(first[name], value) for name, value in draw_direction(twin, 1, seed=0).items())
    for other in (draw_direction(plain, 2, seed=0), draw_direction(plain, 1, seed=1)):
        assert F.cosine_similarity(first["fc.weight"].flatten(), other["fc.weight"].flatten(), dim=0).abs() < 0.15


def test_a_moved_network_is_the_network_with_its_weights_changed_in_place():
    torch.manual_seed(0)
    model, images = build_model("resnet", 8).eval(), torch.randn(5, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (draw_direction(model, number, seed=0) for number in (1, 2))
    forward = moved(model, [(0.5, first), (-0.25, second)])
    with torch.no_grad():
        logits = forward(images)
        torch.testing.assert_close(moved(model, [(0.0, first)])(images), model(images), rtol=0, atol=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        for name, weight in filter_weights(model).items():
            weight.add_(0.5 * first[name] - 0.25 * second[name])
        torch.testing.assert_close(logits, model(images))


def test_rescaling_weights_with_their_statistics_changes_the_hessian_but_not_the_filter_normalised_one():
    torch.manual_seed(0)
    model = build_model("plain", 8).double().eval()
    batches = [(torch.randn(8, 3, 8, 8).double(), torch.randint(0, 10, (8,)))]
    scales = weight_scales(model)
    vector = torch.randn_like(scales)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eps = 0.0  # batch normalisation is invariant to the scale only without it
    hessian = hessian_product(model, batches)(vector)
    scaled = hessian_product(model, batches, scales)(vector)

    with torch.no_grad():
        for name, weight in filter_weights(model).items():
            weight.mul_(100 if "conv" in name else 1)
        for norm in norms:
            norm.running_mean *= 100
            norm.running_var *= 100**2
    factors = weight_scales(model) / scales  # 100, and 1 in the linear layer
    torch.testing.assert_close(hessian_product(model, batches, weight_scales(model))(vector), scaled)
    torch.testing.assert_close(hessian_product(model, batches)(factors * vector), hessian / factors)


def test_the_centre_of_every_slice_and_of_the_plane_is_the_ordinary_loss(network_of):
    settings = {**PROBE.settings, "points": 3, "plane_points": 3, "lanczos_steps": 2}
    network = network_of("resnet", settings=settings, images=40)
    rows = [row for unit in PROBE.units(network.config, settings) for row in PROBE.measure(network, unit)]
    centres = {row["loss"] for row in rows if row["part"] != "eigenvalue" and not row["alpha"] and not row["beta"]}
    slices = {(row["direction"], row["alpha"]) for row in rows if row["part"] == "slice"}
    assert len(centres) == 1
    assert slices == {(direction, alpha) for direction in (1, 2) for alpha in (-1, 0, 1)}
    assert sum(row["part"] == "plane" for row in rows) == 9
    # the middle row of the plane is the first slice
    assert {row["loss"] for row in rows if row["part"] == "plane" and row["beta"] == 0} == {
        row["loss"] for row in rows if row["direction"] == 1
    }
    ends = [(row["matrix"], row["end"]) for row in rows if row["part"] == "eigenvalue"]
    assert ends == [("DHD", "largest"), ("DHD", "smallest"), ("H", "largest"), ("H", "smallest")]
    assert len({tuple(row) for row in rows}) == 1
