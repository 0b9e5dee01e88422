"""A small network with the digits, as the probes receive it."""

import functools

import pytest


@pytest.fixture(scope="session")
def digits_network():
    """A factory of `Network`: depth 8, 200 training and 100 test images of the digits, on the CPU."""
    import torch

    from resnet_cli.data import load_source, prepare
    from resnet_cli.data.batches import DeviceImages, Normalizer
    from resnet_cli.model import build_model
    from resnet_cli.probes.base import Network
    from resnet_cli.recipes import make_config

    cpu = torch.device("cpu")
    digits = prepare(load_source("digits", None), limit_train=200, limit_test=100)

    def build(arch, *, settings, seed=0, **fields):
        build_again = functools.partial(build_model, arch, 8, seed=seed)
        return Network(**{
            "label": f"{arch}-8", "config": make_config("demo", arch=arch, depth=8, seed=seed), "which": "init",
            "model": build_again().eval(), "train": DeviceImages.on(cpu, digits.train),
            "test": DeviceImages.on(cpu, digits.test), "normalizer": Normalizer.for_dataset(digits, "channel", cpu),
            "initial": build_again, "images": None, "batch_size": 50, "seed": 0, "settings": settings,
        } | fields)  # fmt: skip

    return build
