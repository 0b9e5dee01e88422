"""Gradient flow: how large the gradient is that reaches each layer."""

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from resnet_cli.data.batches import DeviceImages, Normalizer, draw_epoch
from resnet_cli.errors import ConfigError
from resnet_cli.model import CifarNet, weighted_layers

if TYPE_CHECKING:
    import pandas as pd


def measure_gradflow(
    model: CifarNet,
    images: DeviceImages,
    normalizer: Normalizer,
    *,
    num_batches: int = 8,
    batch_size: int = 128,
    seed: int = 0,
) -> "pd.DataFrame":
    """L2 norm of each layer's weight gradient of the mean cross-entropy, averaged over minibatches.

    In training mode (batch normalisation uses the batch, as when training) and fp32, without
    augmentation. The model's weights and running statistics are left as they are.

    Args:
        model: on the device of `images`.
        images: what the batches are drawn from, without replacement.
        normalizer: turns bytes into input.
        num_batches: number of minibatches.
        batch_size: images in each.
        seed: decides which images.

    Returns:
        One row a weighted layer, in forward order: layer_index, layer, stage, block, grad_norm (mean
        over batches), grad_norm_std (standard deviation over batches; NaN for one), weight_norm.

    Raises:
        ConfigError: there are fewer images than `num_batches * batch_size`.
    """
    import pandas as pd

    if num_batches * batch_size > len(images):
        raise ConfigError(
            f"{num_batches} batches of {batch_size} need more than the {len(images)} images there are",
            hint=f"use --batches {len(images) // batch_size} or a smaller --batch-size",
        )
    model = copy.deepcopy(model).train()
    layers = weighted_layers(model)
    order = draw_epoch(len(images), "none", seed=seed, epoch=0, device=images.labels.device).order
    norms = torch.empty(num_batches, len(layers), dtype=torch.float64)
    for batch in range(num_batches):
        chosen = order[batch * batch_size : (batch + 1) * batch_size]
        model.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(normalizer(images.pixels[chosen])), images.labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [layer.module.weight.grad for layer in layers]
        norms[batch] = torch.stack([g.norm() for g in gradients if g is not None]).double().cpu()
    return pd.DataFrame(
        {
            "layer_index": [layer.layer_index for layer in layers],
            "layer": [layer.name for layer in layers],
            "stage": [layer.stage for layer in layers],
            "block": [layer.block for layer in layers],
            "grad_norm": norms.mean(dim=0).tolist(),
            "grad_norm_std": (norms.std(dim=0) if num_batches > 1 else norms[0] * float("nan")).tolist(),
            "weight_norm": [float(layer.module.weight.detach().norm()) for layer in layers],
        }
    )
