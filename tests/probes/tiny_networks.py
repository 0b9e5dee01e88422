"""A small network on the digits whose statistics and scales are not the initial ones."""

import torch

from resnet_cli.data import load_source, prepare
from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.model import build_model
from resnet_cli.probes.base import Network
from resnet_cli.recipes import make_config

CPU = torch.device("cpu")


def tiny_network(arch, depth=14, shortcut=None, **fields):
    """A network with random scales, shifts and running statistics, as training could have left it."""
    shortcut = "none" if arch == "plain" else (shortcut or "A")
    digits = prepare(load_source("digits", None), limit_train=120, limit_test=50)
    train, test = (DeviceImages.on(CPU, images) for images in (digits.train, digits.test))
    normalizer = Normalizer.for_dataset(digits, "channel", CPU)

    def initial():
        return build_model(arch, depth, shortcut).eval()

    model = initial()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            layer.weight.add_(0.3 * torch.randn(layer.weight.shape, generator=generator))
            layer.bias.add_(0.3 * torch.randn(layer.bias.shape, generator=generator))
        model.train()
        for _ in range(5):
            model(normalizer(train.pixels))
    values = {"images": 40, "batch_size": 16, "seed": 0, "settings": {}} | fields
    config = make_config("demo", arch=arch, depth=depth, shortcut=shortcut)
    return Network(f"{arch}-{depth}", config, "last", model.eval(), train, test, normalizer, initial, **values)


def state_of(model):
    """Copies of all tensors of a network."""
    return {name: value.clone() for name, value in model.state_dict().items()}
