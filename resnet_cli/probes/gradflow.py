"""Gradient flow: the norms of gradient, weight and update of every weighted layer."""

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, draw_epoch
from resnet_cli.errors import ConfigError
from resnet_cli.model import CifarNet, Layer, weighted_layers
from resnet_cli.rundir.records import GradflowRow

if TYPE_CHECKING:
    import pandas as pd


@torch.no_grad()
def layer_norms(model: CifarNet) -> Tensor:
    """L2 norms of gradient and weight of each weighted layer, after a backward pass; (layers, 2) on its device."""
    norms = []
    for layer in weighted_layers(model):
        weight = layer.module.weight
        assert weight.grad is not None
        norms.append(torch.stack([weight.grad.norm(), weight.norm()]))
    return torch.stack(norms)


@torch.no_grad()
def step_norms(model: CifarNet, optimizer: torch.optim.Optimizer, lr: float) -> Tensor:
    """L2 norms of gradient, weight and update of each weighted layer, just after a training step.

    Args:
        model: after `optimizer.step()`, with the gradients of that step.
        optimizer: SGD without dampening and Nesterov momentum, so the update is lr times the momentum buffer.
        lr: learning rate of the step.

    Returns:
        (layers, 3) float64 on the CPU.
    """
    (group,) = optimizer.param_groups
    updates = []
    for layer in weighted_layers(model):
        weight = layer.module.weight
        update = optimizer.state[weight].get("momentum_buffer")
        if update is None:  # momentum 0
            assert weight.grad is not None
            update = weight.grad + group["weight_decay"] * weight
        updates.append(lr * update.norm())
    return torch.cat([layer_norms(model), torch.stack(updates)[:, None]], dim=1).double().cpu()


def gradflow_rows(model: CifarNet, norms: Tensor, epoch: int) -> list[GradflowRow]:
    """Rows of gradflow.csv for one epoch, from the (layers, 3) norms of `step_norms`."""
    return [
        GradflowRow(
            epoch=epoch,
            **_layer_columns(layer),
            grad_norm=grad,
            weight_norm=weight,
            update_to_weight_ratio=update / weight if weight else None,
        )
        for layer, (grad, weight, update) in zip(weighted_layers(model), norms.tolist(), strict=True)
    ]


def _layer_columns(layer: Layer) -> dict[str, Any]:
    return {"layer_index": layer.layer_index, "layer": layer.name, "stage": layer.stage, "block": layer.block}


def measure_gradflow(
    model: CifarNet,
    images: DeviceImages,
    normalizer: Normalizer,
    *,
    num_batches: int = 8,
    batch_size: int = 128,
    seed: int = 0,
) -> "pd.DataFrame":
    """Measure the L2 norm of each layer's weight gradient of the mean cross-entropy, averaged over minibatches.

    The network is in training mode (batch normalisation uses the batch) and fp32; images are not augmented.
    The weights, gradients and running statistics of `model` stay unchanged.

    Args:
        model: on the device of `images`.
        images: images from which the batches are drawn without replacement.
        normalizer: turns bytes into network input.
        num_batches: number of minibatches.
        batch_size: number of images per minibatch.
        seed: seed for drawing the images.

    Returns:
        One row per weighted layer, in forward order: layer_index, layer, stage, block, grad_norm (mean
        over batches), grad_norm_std (standard deviation over batches; NaN for one batch), weight_norm.

    Raises:
        ConfigError: there are fewer images than `num_batches * batch_size`.
    """
    import pandas as pd

    if num_batches * batch_size > len(images):
        raise ConfigError(
            f"--batches {num_batches} of {batch_size} images need more than the {len(images)} images available",
            hint=f"use --batches {len(images) // batch_size} or a smaller --batch-size",
        )
    model = copy.deepcopy(model).train()
    order = draw_epoch(len(images), "none", seed=seed, epoch=0, device=images.labels.device).order
    batches = []
    for chosen in order[: num_batches * batch_size].view(num_batches, batch_size):
        model.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(normalizer(images.pixels[chosen])), images.labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        batches.append(layer_norms(model).double().cpu())
    grad_norms, weight_norms = torch.stack(batches).unbind(dim=2)  # (batches, layers) each
    return pd.DataFrame([_layer_columns(layer) for layer in weighted_layers(model)]).assign(
        grad_norm=grad_norms.mean(dim=0).tolist(),
        grad_norm_std=grad_norms.std(dim=0).tolist() if num_batches > 1 else float("nan"),
        weight_norm=weight_norms[0].tolist(),
    )
