"""Networks with a few digits to probe."""

import functools

import pytest


@pytest.fixture
def network_of():
    """A factory of `Network`s with 8 layers on 120 digits: `network_of("plain", images=50)`."""
    import torch

    from resnet_cli.data import load_source, prepare
    from resnet_cli.data.batches import DeviceImages, Normalizer
    from resnet_cli.model import build_model
    from resnet_cli.probes.base import Network
    from resnet_cli.recipes import make_config

    cpu = torch.device("cpu")
    digits = prepare(load_source("digits", None), limit_train=120, limit_test=60)

    def build(arch="resnet", depth=8, shortcut=None, *, trained=True, **fields):
        config = make_config("demo", arch=arch, depth=depth, shortcut=shortcut or ("A" if arch == "resnet" else "none"))
        fresh = functools.partial(build_model, arch, depth, config.shortcut)
        model = fresh()
        normalizer = Normalizer.for_dataset(digits, "channel", cpu)
        if trained:  # statistics and scales that are not the initial ones
            torch.manual_seed(0)
            model.train()(normalizer(torch.from_numpy(digits.train.pixels)))
            for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
                torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
                torch.nn.init.normal_(norm.bias, std=0.2)
        values = {
            "label": config.network, "config": config, "which": "last",
            "model": model.to(memory_format=torch.channels_last).eval(),
            "train": DeviceImages.on(cpu, digits.train), "test": DeviceImages.on(cpu, digits.test),
            "normalizer": normalizer, "initial": lambda: fresh().eval(), "images": None, "batch_size": 50, "seed": 0,
            "settings": {},
        }  # fmt: skip
        return Network(**values | fields)

    return build
