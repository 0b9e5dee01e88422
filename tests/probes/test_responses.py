"""Deviations of layer responses are those of the tensors inside the network, and follow from γ and β."""

import copy
import functools

import numpy as np
import pytest
import torch

from resnet_cli.probes.blocks import capture_blocks, frozen_statistics
from resnet_cli.probes.responses import PROBE, measure_responses


@pytest.fixture
def network_of(network_of):
    """Networks with 14 layers, measured on 40 images per split."""
    return functools.partial(network_of, depth=14, images=40, batch_size=16)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 3, 16, 16, generator=generator) for count in (24, 8)]


def test_deviations_are_those_of_all_elements_before_addition_and_relu(network_of, batches):
    network = network_of("resnet")
    before = copy.deepcopy(network.model.state_dict())
    rows = {row["layer"]: row for row in measure_responses(network.model, network.initial(), batches)}
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    assert not network.model.training
    network.model.train()
    captured = [capture_blocks(network.model, images)[1] for images in batches]
    for tensors in zip(*captured, strict=True):
        block = tensors[0].block
        with frozen_statistics(network.model), torch.no_grad():
            first = [block.bn1(block.conv1(found.input)).numpy() for found in tensors]
        second = [found.branch.detach().numpy() for found in tensors]
        skips = [found.skip.detach().numpy() for found in tensors]
        for layer, outputs in (("conv1", first), ("conv2", second)):
            expected = np.concatenate([output.ravel() for output in outputs]).std(dtype=np.float64)
            assert rows[f"{block.name}.{layer}"]["deviation"] == pytest.approx(expected, rel=1e-5)
        ratio = np.linalg.norm(np.concatenate(second)) / np.linalg.norm(np.concatenate(skips))
        assert rows[f"{block.name}.conv2"]["branch_to_skip"] == pytest.approx(ratio, rel=1e-5)
        assert rows[f"{block.name}.conv1"]["branch_to_skip"] is None


def test_deviations_follow_from_scale_and_shift_and_are_1_at_initialisation(network_of, batches):
    network = network_of("plain")
    rows = measure_responses(network.model, network.initial(), batches)
    stem = network.model.bn1
    closed_form = np.sqrt(np.mean(stem.weight.detach().numpy() ** 2) + np.var(stem.bias.detach().numpy()))
    assert rows[0]["closed_form"] == pytest.approx(closed_form)
    for row in rows:
        assert row["deviation"] == pytest.approx(row["closed_form"], rel=1e-3)
    initial = measure_responses(network.initial(), network.initial(), batches)
    assert [row["deviation"] for row in initial] == pytest.approx([1.0] * 13, rel=1e-3)
    assert {row["closed_form"] for row in initial} == {1.0}


def test_a_hook_that_keeps_the_tensors_would_read_them_after_the_relu(network_of, batches):
    network = network_of("plain")
    kept = {}
    for block in network.model.blocks():
        block.bn1.register_forward_hook(lambda _, __, output, name=block.name: kept.update({name: output}))
    rows = {row["layer"]: row for row in measure_responses(network.initial(), network.initial(), batches[:1])}
    with frozen_statistics(network.model.train()), torch.no_grad():
        network.model(batches[0])
    for name, output in kept.items():
        assert output.min() >= 0
        assert output.std() < 0.9 * rows[f"{name}.conv1"]["deviation"]


def test_layers_are_ranked_by_deviation(network_of, batches):
    network = network_of("plain")
    rows = measure_responses(network.model, network.initial(), batches)
    by_rank = sorted(rows, key=lambda row: row["rank"])
    assert [row["rank"] for row in by_rank] == list(range(1, 14))
    assert [row["deviation"] for row in by_rank] == sorted((row["deviation"] for row in rows), reverse=True)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_tripling_the_scale_of_the_last_branch_triples_its_ratio_alone(network_of, batches, shortcut):
    network = network_of("resnet", shortcut=shortcut)
    model = network.initial()
    with torch.no_grad():
        model.blocks()[-1].bn2.weight.mul_(3)
    rows = [row for row in measure_responses(model, network.initial(), batches) if row["branch_to_skip"] is not None]
    assert [row["branch_to_skip_growth"] for row in rows] == pytest.approx([1, 1, 1, 1, 1, 3])
    assert [row["downsampling"] for row in rows] == [False, False, True, False, True, False]


def test_a_plain_network_has_deviations_but_no_ratio(network_of):
    rows = PROBE.measure(network_of("plain"), "responses")
    assert all(row["branch_to_skip"] is row["branch_to_skip_growth"] is None for row in rows)
    assert all(row["deviation"] > 0 for row in rows)
