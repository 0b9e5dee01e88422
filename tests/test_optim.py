"""The learning rate is a pure function of the step, and SGD follows the recipes."""

import pytest
import torch

from resnet_cli.model import build_model
from resnet_cli.optim import build_optimizer, lr_at, steps_per_epoch, total_steps
from resnet_cli.recipes import make_config


def test_the_partial_last_batch_of_an_epoch_counts_as_a_step():
    assert steps_per_epoch(50_000, 128) == 391
    assert steps_per_epoch(45_000, 128) == 352
    assert steps_per_epoch(1280, 128) == 10


def test_report2025_divides_lr_by_ten_at_epochs_80_and_120():
    config = make_config("report2025", arch="plain", depth=20)
    assert total_steps(config, 50_000) == 78_200
    drops = {step: lr_at(step, config, 50_000) for step in (0, 80 * 391 - 1, 80 * 391, 120 * 391 - 1, 120 * 391)}
    assert list(drops.values()) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_he2015_divides_lr_by_ten_at_32k_and_48k_of_64k_steps():
    config = make_config("he2015", arch="resnet", depth=56)
    assert total_steps(config, 45_000) == 64_000
    rates = [lr_at(step, config, 45_000) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_he2015_warms_up_a_110_layer_network_at_a_tenth_of_lr_for_400_steps():
    config = make_config("he2015", arch="resnet", depth=110)
    assert [lr_at(step, config, 45_000) for step in (0, 399, 400)] == [0.01, 0.01, 0.1]


def test_the_optimizer_is_sgd_with_momentum_and_weight_decay_on_every_parameter():
    config = make_config("report2025", arch="resnet", depth=8, lr=0.5)
    model = build_model("resnet", 8)
    optimizer = build_optimizer(model, config, torch.device("cpu"))
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for name, weight in weights.items():
            velocity[name] = config.momentum * velocity[name] + 1 + config.weight_decay * weight
            weights[name] = weight - 0.5 * velocity[name]
    assert {"bn1.weight", "bn1.bias", "fc.bias"} <= weights.keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-5, atol=1e-6, msg=name)
