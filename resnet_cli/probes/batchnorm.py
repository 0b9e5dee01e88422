"""Batch-norm statistics re-estimated over a set of images, with the weights fixed."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.util.seeding import derive_seed


@contextlib.contextmanager
def reestimated_statistics(
    model: nn.Module,
    images: DeviceImages,
    normalizer: Normalizer,
    batch_size: int,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Replace the running statistics of batch normalisation by averages over `images`; restore them afterwards.

    In training mode, each layer normalises a batch by the statistics of that batch. The running mean becomes the mean
    over batches of the batch means, and the running variance the mean over batches of the unbiased batch variances,
    all batches weighted equally. This is what `torch.optim.swa_utils.update_bn` computes (Izmailov et al. 2018,
    arXiv 1803.05407, section 3.2). The images are not augmented. Their order is a fixed permutation, because a dataset
    that is sorted by class would fill whole batches with one class.

    Args:
        model: network whose layers are changed; it is in eval mode inside the context.
        images: on the device of `model`; usually all training images.
        normalizer: turns bytes into network input.
        batch_size: number of images per batch; the last batch may be smaller.
        forward: a forward pass through the layers of `model`, such as one that skips a block (default: `model`).
    """
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    modes = {module: module.training for module in model.modules()}
    momenta = [layer.momentum for layer in layers]
    before = [[buffer.clone() for buffer in layer.buffers()] for layer in layers]
    try:
        for layer in layers:
            layer.momentum = None  # cumulative averages
            layer.reset_running_stats()
        model.train()
        with torch.no_grad():
            for chosen in torch.split(shuffled(len(images)).to(images.labels.device), batch_size):
                (forward or model)(normalizer(images.pixels[chosen]))
        model.eval()
        yield
    finally:
        with torch.no_grad():
            for layer, momentum, buffers in zip(layers, momenta, before, strict=True):
                layer.momentum = momentum
                for buffer, value in zip(layer.buffers(), buffers, strict=True):
                    buffer.copy_(value)
        for module, mode in modes.items():
            module.training = mode


def shuffled(num_images: int) -> Tensor:
    """A fixed permutation of the indices of `num_images` images, (N,) int64 on the CPU."""
    generator = torch.Generator().manual_seed(derive_seed(0, "probe", "order"))
    return torch.randperm(num_images, generator=generator)
