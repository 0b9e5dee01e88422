"""The probe `bn` evaluates the same network with two kinds of statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import update_bn

from resnet_cli.device import decide
from resnet_cli.engine import evaluate
from resnet_cli.probes.batchnorm import shuffled
from resnet_cli.probes.bn import PROBE


def rows_of(network):
    return {
        (row["statistics"], row["split"]): row
        for unit in PROBE.units(network.config, {})
        for row in PROBE.measure(network, unit)
    }


def test_errors_with_running_statistics_are_those_of_the_ordinary_evaluation(network_of):
    network = network_of()
    found = rows_of(network)
    setup = decide(network.config)
    for split, images in (("train", network.train), ("test", network.test)):
        expected = evaluate(network.model, images, network.normalizer, setup, batch_size=network.batch_size)
        row = found["running", split]
        assert (row["loss"], row["error_pct"]) == (expected.loss, expected.error_pct)
        assert row["num_images"] == len(images)


def test_errors_with_re_estimated_statistics_are_those_of_a_network_updated_by_pytorch(network_of):
    network = network_of("plain")
    updated = copy.deepcopy(network.model)
    order = shuffled(len(network.train)).split(network.batch_size)
    update_bn([network.normalizer(network.train.pixels[chosen]) for chosen in order], updated)
    found = rows_of(network)
    with torch.no_grad():
        logits = updated.eval()(network.normalizer(network.test.pixels))
    row = found["re-estimated", "test"]
    assert row["loss"] == pytest.approx(F.cross_entropy(logits, network.test.labels).item(), rel=1e-5)
    assert row["error_pct"] == pytest.approx(100 * (logits.argmax(1) != network.test.labels).float().mean().item())
    assert row["loss"] != found["running", "test"]["loss"]


def test_fewer_images_change_the_evaluation_but_not_the_statistics(network_of):
    some = rows_of(network_of(images=60))
    every = rows_of(network_of())
    assert some["re-estimated", "train"]["num_images"] == 60
    assert some["re-estimated", "test"] == every["re-estimated", "test"]  # the test set has 60 images


def test_the_network_is_left_unchanged(network_of):
    network = network_of()
    before = copy.deepcopy(network.model.state_dict())
    rows_of(network)
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    assert not network.model.training
    assert all(parameter.grad is None for parameter in network.model.parameters())
