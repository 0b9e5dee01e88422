"""Gradient flow is what autograd gives, on the same batches for every run, and its two parts add up."""

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from resnet_cli.data import load_source, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer, draw_epoch
from resnet_cli.errors import ConfigError
from resnet_cli.model import build_model, weighted_layers
from resnet_cli.optim import build_optimizer
from resnet_cli.probes.gradflow import (
    PROBE,
    batch_gradients,
    identity_residuals,
    measure_gradflow,
    skip_path_survival,
    update_norms,
)
from resnet_cli.recipes import make_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    """200 images of the digits on the CPU, and their normalisation."""
    digits = prepare(load_source("digits", None), limit_train=200, limit_test=20)
    return DeviceImages.on(CPU, digits.train), Normalizer.for_dataset(digits, "channel", CPU)


@pytest.fixture(scope="module")
def batch(data):
    """Normalised images and labels of 20 digits."""
    images, normalizer = data
    return normalizer(images.pixels[:20]), images.labels[:20]


def test_weight_gradients_over_one_batch_are_those_of_the_backward_pass(data):
    images, normalizer = data
    rows = measure_gradflow(build_model("resnet", 8), *data, lr=0.1, num_batches=1, batch_size=200)
    model = build_model("resnet", 8).train()
    F.cross_entropy(model(normalizer(images.pixels)), images.labels).backward()
    for row, layer in zip(rows, weighted_layers(model), strict=True):
        norm, weight_norm = layer.module.weight.grad.norm().item(), layer.module.weight.norm().item()
        assert row.layer == layer.name
        assert row.grad_norm == pytest.approx(norm, rel=1e-3)  # the batch has the images in another order
        assert row.weight_norm == pytest.approx(weight_norm)
        assert row.scale_free_grad_norm == pytest.approx(norm * weight_norm, rel=1e-3)
        assert row.effective_step == pytest.approx(0.1 / weight_norm**2)


def test_norms_over_several_batches_are_means_and_leave_the_network_unchanged(data):
    images, normalizer = data
    model = build_model("resnet", 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = measure_gradflow(model, *data, lr=0.1, num_batches=4, batch_size=50)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.conv1.weight.grad is None
    assert not model.training
    norms, inputs, shares = [], [], []
    model.train()
    for chosen in draw_epoch(200, "none", seed=0, epoch=0, device=CPU).order.view(4, 50):
        gradients = batch_gradients(model, normalizer(images.pixels[chosen]), images.labels[chosen])
        block = gradients.blocks[1]
        norms.append(gradients.weights[0].norm().item())
        inputs.append(block.total.norm().item())
        shares.append(((block.total * block.skip).sum() / block.total.square().sum()).item())
    assert rows[0].grad_norm == pytest.approx(sum(norms) / 4, rel=1e-5)
    assert rows[3].input_grad_norm == pytest.approx(sum(inputs) / 4, rel=1e-5)
    assert rows[3].skip_share == pytest.approx(sum(shares) / 4, rel=1e-4)


def test_the_batches_do_not_depend_on_the_seed_of_the_run(data):
    # the seed of a run decides its weights, so two measurements of one network must agree
    first, again = (measure_gradflow(build_model("plain", 8), *data, lr=0.1, num_batches=1) for _ in range(2))
    assert first == again


def test_rescaling_weights_before_batch_normalisation_changes_the_raw_norm_but_not_the_scale_free_one(data):
    model = build_model("plain", 8)
    (before,) = (row for row in measure_gradflow(model, *data, lr=0.1, num_batches=1) if row.layer == "layer2.0.conv1")
    with torch.no_grad():
        model.layer2[0].conv1.weight *= 10
    (after,) = (row for row in measure_gradflow(model, *data, lr=0.1, num_batches=1) if row.layer == "layer2.0.conv1")
    assert after.grad_norm == pytest.approx(before.grad_norm / 10, rel=1e-3)
    assert after.effective_step == pytest.approx(before.effective_step / 100)
    assert after.scale_free_grad_norm == pytest.approx(before.scale_free_grad_norm, rel=1e-3)


@pytest.mark.parametrize(("arch", "shortcut"), [("plain", None), ("resnet", "A"), ("resnet", "B")])
def test_block_gradients_are_those_of_autograd_and_their_parts_are_exact(batch, arch, shortcut):
    model = build_model(arch, 14, shortcut).double().train()
    images, labels = batch[0].double(), batch[1]
    gradients = batch_gradients(model, images, labels)
    captured = []
    for block in model.blocks():
        block.register_forward_pre_hook(lambda _, inputs: (inputs[0].retain_grad(), captured.append(inputs[0]))[0])
    F.cross_entropy(model(images), labels).backward()
    for block, gradient, x in zip(model.blocks(), gradients.blocks, captured, strict=True):
        torch.testing.assert_close(gradient.total, x.grad)
        if arch == "plain":
            assert gradient.skip is None
            assert gradient.branch is gradient.total
        else:  # the shortcut and the branch, each alone, with the ReLU's mask by hand
            detached = x.detach().requires_grad_()
            branch, skip = block.branch(detached), block.skip(detached)
            masked = gradient.output * (branch + skip > 0)
            (of_skip,) = torch.autograd.grad(skip, detached, masked, retain_graph=True)
            (of_branch,) = torch.autograd.grad(branch, detached, masked)
            torch.testing.assert_close(gradient.skip, of_skip)
            torch.testing.assert_close(gradient.branch, of_branch)
    assert max(identity_residuals(model, images, labels)) < 1e-10


def test_the_identity_fails_for_gradients_of_other_weights(batch, monkeypatch):
    model = build_model("resnet", 8)
    gradients = batch_gradients(build_model("resnet", 8, seed=1).double().train(), batch[0].double(), batch[1])
    monkeypatch.setattr("resnet_cli.probes.gradflow.batch_gradients", lambda *_: gradients)
    assert min(identity_residuals(model, *batch)) > 1e-3


def test_shares_of_a_residual_block_worked_out_by_hand(batch):
    # with a branch whose last scale is 0, F(x) = 0: all of the gradient comes through the shortcut
    model = build_model("resnet", 8)
    with torch.no_grad():
        model.layer1[0].bn2.weight.zero_()
    images, labels = batch
    for block in batch_gradients(model.train(), images, labels).blocks[:1]:
        assert torch.equal(block.skip, block.total)
        assert block.branch.abs().max() == 0
        # x is not negative, so the ReLU after the addition passes all of x > 0
        assert torch.equal(block.total != 0, (block.output != 0) & (block.skip != 0))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_what_survives_along_the_shortcuts_is_the_gradient_of_a_network_with_detached_branches(batch, shortcut):
    model = build_model("resnet", 14, shortcut).double().train()
    images, labels = batch[0].double(), batch[1]
    inputs, x = [], F.relu(model.bn1(model.conv1(images)))
    for block in model.blocks():
        inputs.append(x)
        x = F.relu(block.branch(x).detach() + block.skip(x))
    *of_inputs, at_end = torch.autograd.grad(F.cross_entropy(model.fc(x.mean(dim=(2, 3))), labels), [*inputs, x])
    expected = [gradient.norm().item() / at_end.norm().item() for gradient in of_inputs]
    assert skip_path_survival(model, images, labels) == pytest.approx(expected)
    assert skip_path_survival(build_model("plain", 14).train(), *batch) == []


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_the_probe_has_the_mean_of_what_survives_for_each_residual_block_and_keeps_the_mode(data, arch):
    images, normalizer = data
    model = build_model(arch, 8)
    config = make_config("demo", arch=arch, depth=8)
    network = SimpleNamespace(
        config=config, model=model.eval(), train=images, normalizer=normalizer, which="init",
        settings={"batches": 2, "batch_size": 50},
    )  # fmt: skip
    survival = [row["skip_path_survival"] for row in PROBE.measure(network, "gradients")]
    assert not model.training
    of_blocks = [value for value in survival if value is not None]
    assert len(of_blocks) == (3 if arch == "resnet" else 0)
    if arch == "resnet":
        assert [index for index, value in enumerate(survival) if value is not None] == [1, 3, 5]
        assert 0 < of_blocks[0] < of_blocks[1] < of_blocks[2] <= 1


def test_only_first_convolutions_of_blocks_have_block_measures_and_only_residual_blocks_have_shares(data):
    for arch in ("plain", "resnet"):
        rows = measure_gradflow(build_model(arch, 14), *data, lr=0.1, num_batches=1)
        assert [row.layer for row in rows if row.input_grad_norm is not None] == [
            f"layer{stage}.{index}.conv1" for stage in (1, 2, 3) for index in (0, 1)
        ]
        shares = [row.skip_share + row.branch_share for row in rows if row.skip_share is not None]
        assert shares == ([] if arch == "plain" else [1.0] * 6)
        blocks = [row for row in rows if row.growth is not None]
        for block, following in itertools.pairwise(blocks):
            assert block.growth == pytest.approx(block.input_grad_norm / following.input_grad_norm)


def test_too_few_images_for_the_batches_are_an_error(data):
    with pytest.raises(ConfigError, match=r"batches 3 of 100 images need more than the 200 images available"):
        measure_gradflow(build_model("plain", 8), *data, lr=0.1, num_batches=3, batch_size=100)


def test_the_update_norm_is_the_distance_that_a_step_moves_the_weights(data):
    images, normalizer = data
    config = make_config("demo", arch="resnet", depth=8, momentum=0.9, weight_decay=0.02)
    model = build_model("resnet", 8)
    optimizer = build_optimizer(model, config, CPU)
    for _ in range(2):
        before = [layer.module.weight.detach().clone() for layer in weighted_layers(model)]
        optimizer.zero_grad()
        F.cross_entropy(model(normalizer(images.pixels)), images.labels).backward()
        optimizer.step()
    norms = update_norms(model, optimizer, config.lr)
    moved = [
        (layer.module.weight - old).norm().item() for layer, old in zip(weighted_layers(model), before, strict=True)
    ]
    assert norms == pytest.approx(moved, rel=1e-3)
    row = measure_gradflow(model, *data, lr=config.lr, num_batches=1, update_norms=norms)[2]
    assert row.update_to_weight_ratio == pytest.approx(norms[2] / row.weight_norm)
