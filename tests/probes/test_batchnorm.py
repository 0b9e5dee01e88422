"""Re-estimated statistics are those of PyTorch's own function, and the network is restored afterwards."""

import copy

import pytest
import torch
from torch.optim.swa_utils import update_bn

from resnet_cli.data.batches import DeviceImages
from resnet_cli.probes.batchnorm import reestimated_statistics, shuffled
from resnet_cli.probes.scoring import predict


def batches_of(network):
    """The batches in the order in which statistics are estimated; the last one is smaller."""
    return [
        network.normalizer(network.train.pixels[chosen])
        for chosen in shuffled(len(network.train)).split(network.batch_size)
    ]


@pytest.mark.parametrize("arch", ["plain", "resnet"])
def test_re_estimated_statistics_are_those_of_update_bn_bit_for_bit(network_of, arch):
    network = network_of(arch)
    expected = copy.deepcopy(network.model)
    update_bn(batches_of(network), expected)
    with reestimated_statistics(network.model, network.train, network.normalizer, network.batch_size):
        found = network.model.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())
        assert not network.model.training


def test_statistics_of_the_first_layer_are_equally_weighted_means_over_batches(network_of):
    network = network_of()
    means, variances = [], []
    for batch in batches_of(network):
        channels = network.model.conv1(batch).detach().double().transpose(0, 1).flatten(1)  # (C, N·H·W)
        means.append(channels.mean(1))
        variances.append(channels.var(1, correction=1))
    assert len(means) == 3
    with reestimated_statistics(network.model, network.train, network.normalizer, network.batch_size):
        norm = network.model.bn1
        torch.testing.assert_close(norm.running_mean.double(), torch.stack(means).mean(0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), torch.stack(variances).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_restored_even_if_the_measurement_fails(network_of, fails):
    network = network_of()
    network.model.layer2.train()
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    modes = [module.training for module in network.model.modules()]
    try:
        with reestimated_statistics(network.model, network.train, network.normalizer, network.batch_size):
            assert not torch.equal(network.model.bn1.running_mean, before["bn1.running_mean"])
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    assert [module.training for module in network.model.modules()] == modes
    assert {module.momentum for module in network.model.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {0.1}


def test_statistics_are_estimated_with_the_given_forward_pass(network_of):
    network = network_of()
    model = network.model

    def without_second_stage(x):
        x = model.layer1(torch.relu(model.bn1(model.conv1(x))))
        return model.fc(model.layer3[0].branch(model.layer2[0].skip(x)).mean((2, 3)))

    with reestimated_statistics(model, network.train, network.normalizer, 120, without_second_stage):
        assert torch.equal(model.layer2[0].bn1.running_mean, torch.zeros(32)), "the deleted layer saw no image"
        seen = model.layer3[0].bn1.running_mean.clone()
    with reestimated_statistics(model, network.train, network.normalizer, 120):
        assert not torch.allclose(seen, model.layer3[0].bn1.running_mean)


def test_a_dataset_sorted_by_class_gives_nearly_the_statistics_of_a_shuffled_one(network_of):
    network = network_of()
    order = network.train.labels.argsort()
    by_class = DeviceImages(network.train.pixels[order], network.train.labels[order])
    outputs = []
    for images in (network.train, by_class):
        with reestimated_statistics(network.model, images, network.normalizer, 12):
            outputs.append(predict(network.model, network.test, network.normalizer, 60))
    with torch.no_grad():  # what batches of one class would give
        sorted_model = copy.deepcopy(network.model)
        update_bn(network.normalizer(by_class.pixels).split(12), sorted_model)
        naive = predict(sorted_model.eval(), network.test, network.normalizer, 60)
    shuffled_change, naive_change = ((found - outputs[0]).abs().mean() for found in (outputs[1], naive))
    assert shuffled_change < naive_change / 2
