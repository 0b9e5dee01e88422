"""Deleting and swapping blocks gives the network without them, and leaves the measured network unchanged."""

import copy
import functools
import itertools

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from resnet_cli.device import decide
from resnet_cli.engine.evaluate import evaluate
from resnet_cli.probes.base import choose_images
from resnet_cli.probes.batchnorm import shuffled
from resnet_cli.probes.lesion import PROBE, forward_with, random_deletions, single_deletions, swaps
from resnet_cli.probes.scoring import score
from resnet_cli.recipes import make_config

CPU = decide(make_config("demo", arch="resnet", depth=14, device="cpu", precision="fp32", compile="off"))
SETTINGS = {"repeats": 2, "swaps": 10}


@pytest.fixture
def network_of(network_of):
    """Networks with 14 layers, measured on 40 images per split."""
    return functools.partial(network_of, depth=14, images=40, batch_size=16)


def _images(network):
    return network.normalizer(network.test.pixels)


def _logits(model, lesion, images):
    with torch.no_grad():
        return forward_with(model, lesion.steps)(images)


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_with_nothing_deleted_the_numbers_are_those_of_the_ordinary_evaluation_exactly(network_of, arch):
    network = network_of(arch, settings=SETTINGS)
    before = copy.deepcopy(network.model.state_dict())
    rows = PROBE.measure(network, "delete-random 1")
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    intact = [row for row in rows if row["num_deleted"] == 0]
    expected = evaluate(network.model, choose_images(network.test, 40), network.normalizer, CPU, batch_size=16)
    found = intact[0]["loss"], intact[0]["error_pct"], intact[0]["num_images"]
    assert found == (expected.loss, expected.error_pct, expected.num_examples)
    assert [(row["statistics"], row["loss_change"], row["error_change_pp"]) for row in intact] == [
        ("running", 0, 0), ("re-estimated", 0, 0),
    ]  # fmt: skip


def test_deleting_a_residual_block_is_setting_its_branch_to_zero(network_of):
    network = network_of("resnet")
    lesions = [lesion for stage in (1, 2, 3) for lesion in single_deletions(network.model, stage)]
    assert [lesion.columns["blocks"] for lesion in lesions] == [block.name for block in network.model.blocks()]
    assert [lesion.columns["downsampling"] for lesion in lesions] == [False, False, True, False, True, False]
    for lesion, block in zip(lesions, network.model.blocks(), strict=True):
        expected = copy.deepcopy(network.model)
        norm = expected.get_submodule(block.name).bn2
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
        assert torch.equal(_logits(network.model, lesion, _images(network)), expected(_images(network)))


def test_deleting_a_block_of_a_plain_network_that_is_the_identity_changes_nothing(network_of):
    network = network_of("plain")
    lesions = [lesion for stage in (1, 2, 3) for lesion in single_deletions(network.model, stage)]
    assert [lesion.columns["blocks"] for lesion in lesions] == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]
    block = network.model.get_submodule("layer2.1")
    for conv, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        nn.init.dirac_(conv.weight)
        norm.reset_parameters()
        nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)
    logits = [_logits(network.model, lesion, _images(network)) for lesion in lesions]
    whole = network.model(_images(network)).detach()
    torch.testing.assert_close(logits[2], whole, rtol=1e-4, atol=1e-5)
    assert all((other - whole).abs().max() > 0.01 for other in (logits[0], logits[1], logits[3]))


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_swapping_two_blocks_is_exchanging_their_weights(network_of, arch):
    network = network_of(arch, depth=20)
    lesions = swaps(network.model, 100, seed=0)
    assert [lesion.columns["blocks"] for lesion in lesions] == [
        "layer1.0 layer1.1", "layer1.0 layer1.2", "layer1.1 layer1.2", "layer2.1 layer2.2", "layer3.1 layer3.2",
    ]  # fmt: skip
    for lesion in lesions:
        exchanged = copy.deepcopy(network.model)
        first, second = (exchanged.get_submodule(name) for name in lesion.columns["blocks"].split())
        state = copy.deepcopy(first.state_dict())
        first.load_state_dict(second.state_dict())
        second.load_state_dict(state)
        assert torch.equal(_logits(network.model, lesion, _images(network)), exchanged(_images(network)))


def test_a_few_swaps_are_drawn_from_all_pairs_by_the_seed(network_of):
    model = network_of("resnet", depth=32).model
    names = [[lesion.columns["blocks"] for lesion in swaps(model, 5, seed)] for seed in (0, 0, 1)]
    assert len(set(names[0])) == 5
    assert names[0] == names[1] != names[2]


def test_random_deletions_grow_along_one_order_from_none_to_all_blocks_that_keep_the_shape(network_of):
    plain, residual = network_of("plain", depth=26).model, network_of("resnet", depth=26).model
    lesions = random_deletions(residual, 1, seed=0)
    names = [set(lesion.columns["blocks"].split()) for lesion in lesions]
    assert [lesion.columns["num_deleted"] for lesion in lesions] == [0, 1, 2, 5, 8, 10]
    assert [len(deleted) for deleted in names] == [0, 1, 2, 5, 8, 10]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(names))
    assert names[-1] == {block.name for block in residual.blocks()} - {"layer2.0", "layer3.0"}
    for lesion, deleted in zip(lesions, names, strict=True):
        assert lesion.steps == [block for block in residual.blocks() if block.name not in deleted]
    assert [lesion.columns for lesion in lesions] == [lesion.columns for lesion in random_deletions(plain, 1, seed=0)]
    others = [random_deletions(residual, repeat, seed)[3].columns["blocks"] for repeat, seed in ((2, 0), (1, 1))]
    assert lesions[3].columns["blocks"] not in others


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_statistics_are_re_estimated_for_the_network_without_the_block(network_of, arch):
    network = network_of(arch)
    rows = PROBE.measure(network, "delete 2")
    (found,) = [row for row in rows if row["blocks"] == "layer2.1" and row["statistics"] == "re-estimated"]
    (running,) = [row for row in rows if row["blocks"] == "layer2.1" and row["statistics"] == "running"]
    train, test = (choose_images(images, 40) for images in (network.train, network.test))
    arguments = network.normalizer, network.batch_size
    losses = []
    for deleted in (False, True):
        model = copy.deepcopy(network.model)
        if deleted:
            model.layer2 = nn.Sequential(model.layer2[0])
        losses.append([score(model, test, *arguments).loss])
        update_bn([network.normalizer(train.pixels[chosen]) for chosen in shuffled(40).split(16)], model)
        losses[-1].append(score(model.eval(), test, *arguments).loss)
    intact, lesioned = losses
    assert [running["loss"], found["loss"]] == pytest.approx(lesioned, rel=1e-5)
    assert found["loss_change"] == pytest.approx(lesioned[1] - intact[1], rel=1e-4)
    assert running["loss_change"] == pytest.approx(lesioned[0] - intact[0], rel=1e-4)


def test_units_cover_every_lesion_once_and_all_rows_have_the_same_columns(network_of):
    network = network_of("plain", settings=SETTINGS)
    units = PROBE.units(network.config, SETTINGS)
    assert units == ["delete 1", "delete 2", "delete 3", "delete-random 1", "delete-random 2", "swap"]
    rows = [row for unit in units for row in PROBE.measure(network, unit)]
    assert len({tuple(row) for row in rows}) == 1
    keys = [(row["lesion"], row["blocks"], row["repeat"], row["statistics"]) for row in rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("arch", "units"), [("plain", ["delete 1"]), ("resnet", ["delete 1", "delete 2", "delete 3"])])
def test_the_shallowest_network_has_no_pair_to_swap(network_of, arch, units):
    network = network_of(arch, depth=8, settings=SETTINGS)
    assert PROBE.units(network.config, SETTINGS) == [*units, "delete-random 1", "delete-random 2"]
    rows = [row for unit in units for row in PROBE.measure(network, unit)]
    assert len(rows) == 2 * len(units)
