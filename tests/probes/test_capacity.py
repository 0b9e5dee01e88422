"""The deeper network computes the same function in eval mode, and training changes it as batch norm prescribes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import update_bn

from resnet_cli.model import count_parameters
from resnet_cli.probes.blocks import capture_blocks
from resnet_cli.probes.capacity import PROBE, ChannelStatistics, deepen, stage_statistics


@pytest.fixture
def plain(network_of):
    """A plain network with settings for two identity blocks per stage."""
    return network_of("plain", settings={"blocks": 2, "finetune": 0, "lr": 0.001})


def rows_of(network, unit):
    return {(row["built_depth"], row["mode"], row["epoch"], row["split"]): row for row in PROBE.measure(network, unit)}


@pytest.mark.parametrize("unit", ["initial", "matched"])
def test_the_deeper_network_has_the_same_logits_in_eval_mode(plain, unit):
    images = plain.normalizer(plain.test.pixels)
    statistics = stage_statistics(plain, plain.train) if unit == "matched" else None
    deeper = deepen(plain.model, 2, statistics)
    assert deeper.depth == 20
    assert count_parameters(deeper) > count_parameters(plain.model)
    with torch.no_grad():
        torch.testing.assert_close(deeper(images), plain.model(images), rtol=0, atol=1e-5)


def test_every_appended_block_returns_its_input(plain):
    deeper = deepen(plain.model, 2, stage_statistics(plain, plain.train))
    with torch.no_grad():
        _, blocks = capture_blocks(deeper, plain.normalizer(plain.test.pixels))
    appended = [found for found in blocks if found.block.index > 1]
    assert len(appended) == 6
    for found in appended:
        assert found.input.min() >= 0
        torch.testing.assert_close(found.output, found.input, rtol=1e-5, atol=1e-5)


def test_stage_statistics_are_mean_and_variance_of_each_channel_over_all_images(plain):
    with torch.no_grad():
        _, blocks = capture_blocks(plain.model, plain.normalizer(plain.train.pixels))
    for found, block in zip(stage_statistics(plain, plain.train), blocks, strict=True):
        channels = block.output.double().transpose(0, 1).flatten(1)
        expected = ChannelStatistics(channels.mean(1).float(), channels.var(1, correction=0).float())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_in_training_mode_initial_statistics_change_the_logits_but_matched_ones_do_not(plain):
    plain = plain._replace(batch_size=120)  # the statistics of the only batch are those of the training images
    update_bn([plain.normalizer(plain.train.pixels)], plain.model)
    changes = {}
    for unit in ("initial", "matched"):
        found = rows_of(plain, unit)
        assert found[20, "eval", 0, "train"]["max_logit_difference"] <= 1e-12  # float64
        assert found[20, "eval", 0, "train"]["dtype"] == "float64"
        assert found[20, "eval", 0, "train"]["num_changed"] == 0
        assert found[20, "eval", 0, "test"]["error_pct"] == found[8, "eval", 0, "test"]["error_pct"]
        assert found[8, "train", 0, "train"]["max_logit_difference"] == 0
        changes[unit] = found[20, "train", 0, "train"]["max_logit_difference"]
    assert changes["initial"] > 0.5
    assert changes["matched"] < 0.02


def test_a_neutral_block_in_training_mode_normalises_and_rectifies_its_input(plain):
    """Batch normalisation with scale 1 and shift 0 (up to ε), then ReLU, twice: computed by hand."""
    block = deepen(plain.model, 1).layer1[1].train()
    x = torch.rand(8, 16, 4, 4) * torch.arange(16.0).view(1, 16, 1, 1)

    def normalise(x):
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    expected = F.relu(normalise(F.relu(normalise(x))))
    torch.testing.assert_close(block(x), expected, rtol=1e-3, atol=1e-3)


def test_the_network_keeps_its_mode_statistics_and_weights_and_rows_have_every_image(plain):
    before = copy.deepcopy(plain.model.state_dict())
    rows = PROBE.measure(plain._replace(settings={"blocks": 1, "finetune": 1, "lr": 0.01}), "matched")
    assert all(torch.equal(before[name], value) for name, value in plain.model.state_dict().items())
    assert not plain.model.training
    assert {(row["split"], row["num_images"]) for row in rows} == {("train", 120), ("test", 60)}
    assert len({tuple(row) for row in rows}) == 1


def test_fine_tuning_reports_each_epoch_and_lowers_the_training_loss(plain):
    found = rows_of(plain._replace(settings={"blocks": 1, "finetune": 3, "lr": 0.02}), "matched")
    losses = [found[14, "eval", 0, "train"]["loss"]]
    losses += [found[14, "fine-tuned", epoch, "train"]["loss"] for epoch in (1, 2, 3)]
    assert losses[-1] < losses[0]
    assert (8, "fine-tuned", 1, "train") not in found


def test_a_residual_network_is_refused(network_of):
    assert "plain networks only" in PROBE.refuse(network_of("resnet").config)
    assert PROBE.refuse(network_of("plain").config) is None
