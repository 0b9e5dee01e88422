"""Branches scaled by α: the network itself at 1, its shortcuts alone at 0."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F

from resnet_cli.device import decide
from resnet_cli.engine.evaluate import evaluate
from resnet_cli.probes.base import choose_images
from resnet_cli.probes.batchnorm import reestimated_statistics
from resnet_cli.probes.branch_scale import ALPHAS, PROBE
from resnet_cli.probes.scoring import score
from resnet_cli.recipes import make_config

CPU = decide(make_config("demo", arch="resnet", depth=14, device="cpu", precision="fp32", compile="off"))


@pytest.fixture
def network_of(network_of):
    """Networks with 14 layers, measured on 40 images per split."""
    return functools.partial(network_of, depth=14, images=40, batch_size=16)


def _scaled_forward(model, alpha):
    def forward(images):
        x = F.relu(model.bn1(model.conv1(images)))
        for block in model.blocks():
            x = F.relu(block.skip(x) + alpha * block.branch(x))
        return model.fc(x.mean(dim=(2, 3)))

    return forward


def test_scaling_by_1_is_the_ordinary_evaluation_exactly(network_of):
    network = network_of("resnet")
    rows = {(row["statistics"], row["split"]): row for row in PROBE.measure(network, "1")}
    train, test = (choose_images(images, 40) for images in (network.train, network.test))
    arguments = network.normalizer, network.batch_size
    for split, images in (("train", train), ("test", test)):
        row = rows["running", split]
        expected = evaluate(network.model, images, network.normalizer, CPU, batch_size=16)
        found = row["loss"], row["error_pct"], row["num_images"]
        assert found == (expected.loss, expected.error_pct, expected.num_examples)
    with reestimated_statistics(network.model, train, *arguments):
        assert rows["re-estimated", "test"]["loss"] == score(network.model, test, *arguments).loss


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_every_branch_is_multiplied_before_the_addition(network_of, shortcut, alpha):
    network = network_of("resnet", shortcut=shortcut)
    before = copy.deepcopy(network.model.state_dict())
    rows = {(row["statistics"], row["split"]): row["loss"] for row in PROBE.measure(network, f"{alpha:g}")}
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    train, test = (choose_images(images, 40) for images in (network.train, network.test))
    forward = _scaled_forward(network.model, alpha)
    arguments = network.normalizer, network.batch_size
    assert rows["running", "test"] == pytest.approx(score(forward, test, *arguments).loss, rel=1e-5)
    with reestimated_statistics(network.model, train, *arguments, forward):
        assert rows["re-estimated", "test"] == pytest.approx(score(forward, test, *arguments).loss, rel=1e-5)
        assert rows["re-estimated", "train"] == pytest.approx(score(forward, train, *arguments).loss, rel=1e-5)
    if alpha:
        assert rows["re-estimated", "test"] != pytest.approx(rows["running", "test"], rel=1e-3)


def test_each_factor_is_one_unit_and_a_plain_network_is_refused_with_the_reason(network_of):
    config = network_of("resnet").config
    assert [float(unit) for unit in PROBE.units(config, {})] == list(ALPHAS)
    assert PROBE.refuse(config) is None
    assert "no shortcuts" in PROBE.refuse(network_of("plain").config)
