"""Gradient flow: the gradient at every weighted layer and block, on fixed batches at fixed weights.

The raw norm of a weight's gradient says little under batch normalisation: the loss does not change when W is multiplied
by a constant, so ‖∂L/∂W‖ is proportional to 1/‖W‖. The measures here do not depend on that scale: ‖W‖·‖∂L/∂W‖ per
layer and ‖∂L/∂x‖ per block. The gradient at a block's input x splits exactly into two parts,

    ∂L/∂x = Sᵀ(m ⊙ g) + J_Fᵀ(m ⊙ g),

with g the gradient at the output relu(S x + F(x)) and m = 1 where the output is positive.

The columns of the probe are those of gradflow.csv, after its epoch (`resnet_cli.rundir.records.GradflowRow`), and
`skip_path_survival`; the effective step is that of the first or the last step of the run, and empty for other weights.
"""

import copy
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from msgspec.structs import asdict
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer, draw_epoch
from resnet_cli.errors import ConfigError
from resnet_cli.model import Block, CifarNet, weighted_layers
from resnet_cli.optim import lr_at, total_steps
from resnet_cli.probes.base import Network, Probe, Row
from resnet_cli.probes.blocks import BlockTensors, capture_blocks, frozen_statistics
from resnet_cli.rundir.records import GradflowRow

NUM_BATCHES = 4
BATCH_SIZE = 128


def batches_of(num_images: int) -> tuple[int, int]:
    """Number and size of the batches to measure on by default: fewer or smaller ones for few images."""
    batch_size = min(BATCH_SIZE, num_images)
    return min(NUM_BATCHES, num_images // batch_size), batch_size


class BlockGradient(NamedTuple):
    """Gradient at the input of one block, and its two parts."""

    total: Tensor  # ∂L/∂x, shaped like the input
    output: Tensor  # g, the gradient at the output of the block
    skip: Tensor | None  # Sᵀ(m ⊙ g); None in a plain network
    branch: Tensor  # J_Fᵀ(m ⊙ g)


class BatchGradients(NamedTuple):
    """Gradients of the mean cross-entropy of one batch."""

    weights: tuple[Tensor, ...]  # one per weighted layer, in forward order
    blocks: list[BlockGradient]


def batch_gradients(model: CifarNet, images: Tensor, labels: Tensor) -> BatchGradients:
    """Compute the gradients at every weighted layer and block, without changing the network or its `.grad`.

    Args:
        model: in training mode, batch normalisation uses the batch; the running statistics stay unchanged.
        images: normalised, (N, 3, H, W).
        labels: (N,) int64.
    """
    logits, blocks = capture_blocks(model, images)
    weights = [layer.module.weight for layer in weighted_layers(model)]
    loss = F.cross_entropy(logits, labels)
    grads = torch.autograd.grad(
        loss,
        [*weights, *(block.input for block in blocks), *(block.branch for block in blocks), blocks[-1].output],
    )
    inputs = grads[len(weights) : len(weights) + len(blocks)]
    branches = grads[len(weights) + len(blocks) : -1]
    outputs = (*inputs[1:], grads[-1])
    return BatchGradients(
        grads[: len(weights)],
        [
            _split(block, total, output, at_sum)
            for block, total, output, at_sum in zip(blocks, inputs, outputs, branches, strict=True)
        ],
    )


def _split(block: BlockTensors, total: Tensor, output: Tensor, at_sum: Tensor) -> BlockGradient:
    """Split ∂L/∂x, given m ⊙ g, the gradient at the sum S x + F(x) and so at either term."""
    if block.skip is None:
        return BlockGradient(total, output, None, total)
    skip = at_sum if block.skip is block.input else backpropagate(block.block, block.block.skip, block.input, at_sum)
    return BlockGradient(total, output, skip, total - skip)


def backpropagate(block: Block, function: Callable[[Tensor], Tensor | None], x: Tensor, gradient: Tensor) -> Tensor:
    """Apply the transposed Jacobian of a block's `skip` or `branch` at `x` to `gradient`; shaped like `x`."""
    x = x.detach().requires_grad_()
    with frozen_statistics(block):
        output = function(x)
    assert output is not None
    (result,) = torch.autograd.grad(output, x, gradient)
    return result


def measure_gradflow(
    model: CifarNet,
    images: DeviceImages,
    normalizer: Normalizer,
    *,
    lr: float | None,
    epoch: int = 0,
    update_norms: Sequence[float] | None = None,
    num_batches: int = NUM_BATCHES,
    batch_size: int = BATCH_SIZE,
) -> list[GradflowRow]:
    """Measure the gradient flow of a network on batches that depend only on the number of images.

    The network is in training mode (batch normalisation uses the batch) and fp32; images are not augmented. The
    weights, gradients and running statistics of `model` stay unchanged. Norms and shares are means over the batches.

    Args:
        model: on the device of `images`.
        images: training images, from which the batches are drawn without replacement.
        normalizer: turns bytes into network input.
        lr: learning rate, for the effective step (None: unknown).
        epoch: recorded in the rows.
        update_norms: L2 norm of the last update of each weighted layer (None: no update yet).
        num_batches: number of batches.
        batch_size: number of images per batch.

    Returns:
        One row per weighted layer, in forward order.

    Raises:
        ConfigError: there are fewer images than `num_batches * batch_size`.
    """
    was_training = model.training
    model.train()
    of_layers, of_blocks = [], []
    for pixels, labels in _batches(images, normalizer, num_batches, batch_size):
        gradients = batch_gradients(model, pixels, labels)
        of_layers.append(torch.stack([gradient.norm() for gradient in gradients.weights]))
        of_blocks.append(torch.stack([_block_values(block) for block in gradients.blocks]))
    model.train(was_training)
    grad_norms = torch.stack(of_layers).double().mean(dim=0).tolist()
    block_values = iter(torch.stack(of_blocks).double().mean(dim=0).tolist())
    rows = []
    for index, (layer, grad_norm) in enumerate(zip(weighted_layers(model), grad_norms, strict=True)):
        weight_norm = layer.module.weight.detach().norm().item()
        is_first_of_block = layer.block > 0 and layer.name.endswith("conv1")
        rows.append(
            GradflowRow(
                epoch=epoch, layer_index=layer.layer_index, layer=layer.name, stage=layer.stage, block=layer.block,
                grad_norm=grad_norm, weight_norm=weight_norm, scale_free_grad_norm=weight_norm * grad_norm,
                effective_step=None if lr is None else _ratio(lr, weight_norm**2),
                update_to_weight_ratio=_ratio(update_norms[index], weight_norm) if update_norms else None,
                **(_block_columns(*next(block_values)) if is_first_of_block else {}),
            )
        )  # fmt: skip
    return rows


def _batches(
    images: DeviceImages, normalizer: Normalizer, num_batches: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels of batches that depend only on the number of images."""
    if num_batches * batch_size > len(images):
        raise ConfigError(
            f"--batches {num_batches} of {batch_size} images need more than the {len(images)} images available",
            hint="use a smaller --batches or --batch-size",
        )
    order = draw_epoch(len(images), "none", seed=0, epoch=0, device=images.labels.device).order
    for chosen in order[: num_batches * batch_size].view(num_batches, batch_size):
        yield normalizer(images.pixels[chosen]), images.labels[chosen]


def skip_path_survival(model: CifarNet, images: Tensor, labels: Tensor) -> list[float]:
    """How much of the gradient at the end of the last block reaches the input of each block by the shortcuts alone.

    Along this path a block does nothing but Sᵀ(m ⊙ g). The result is the norm of what arrives, divided by the norm at
    the output of the last block. Shortcuts of option A can only make it smaller; projections can make it larger.

    Args:
        model: in training mode, batch normalisation uses the batch; the running statistics stay unchanged.
        images: normalised, (N, 3, H, W).
        labels: (N,) int64.

    Returns:
        One ratio per block, in forward order; none for a plain network.
    """
    logits, blocks = capture_blocks(model, images)
    (start,) = torch.autograd.grad(F.cross_entropy(logits, labels), blocks[-1].output)
    path, norms = start, []
    for block in reversed(blocks):
        if block.skip is None:
            return []
        path = (block.output > 0) * path
        if block.skip is not block.input:
            path = backpropagate(block.block, block.block.skip, block.input, path)
        norms.append(path.norm())
    return [(norm / start.norm()).item() for norm in reversed(norms)]


def _block_columns(input_norm: float, output_norm: float, skip_share: float, cosine: float) -> dict[str, float | None]:
    has_parts = math.isfinite(skip_share) and math.isfinite(cosine)
    return {
        "input_grad_norm": input_norm,
        "growth": _ratio(input_norm, output_norm),
        "skip_share": skip_share if has_parts else None,
        "branch_share": 1 - skip_share if has_parts else None,
        "skip_branch_cosine": cosine if has_parts else None,
    }


def _block_values(block: BlockGradient) -> Tensor:
    """‖∂L/∂x‖, the norm at the output, the share of the shortcut and the cosine between the parts; NaN if undefined."""
    total, skip, branch = block.total, block.skip, block.branch
    share = cosine = total.new_tensor(float("nan"))
    if skip is not None:
        share = (total * skip).sum() / total.square().sum()
        cosine = (skip * branch).sum() / (skip.norm() * branch.norm())
    return torch.stack([total.norm(), block.output.norm(), share, cosine])


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


@torch.no_grad()
def update_norms(model: CifarNet, optimizer: torch.optim.Optimizer, lr: float) -> list[float] | None:
    """L2 norm of the last update of each weighted layer; None without momentum.

    Args:
        model: the network that `optimizer` trains.
        optimizer: SGD without dampening and Nesterov momentum, so the update is lr times the momentum buffer.
        lr: learning rate of the last step.
    """
    updates = [optimizer.state[layer.module.weight].get("momentum_buffer") for layer in weighted_layers(model)]
    if any(update is None for update in updates):
        return None
    return [lr * update.norm().item() for update in updates]


def identity_residuals(model: CifarNet, images: Tensor, labels: Tensor) -> list[float]:
    """Relative residual ‖∂L/∂x − Sᵀ(m ⊙ g) − J_Fᵀ(m ⊙ g)‖ / ‖∂L/∂x‖ at every block, in float64.

    The two parts are computed apart from the backward pass that gives ∂L/∂x and g, each with its own graph.

    Args:
        model: its copy in float64 is used, in training mode.
        images: normalised, (N, 3, H, W).
        labels: (N,) int64.

    Returns:
        One residual per block, in forward order; rounding alone gives about 1e-15.
    """
    model = copy.deepcopy(model).double().train()
    images = images.double()
    gradients = batch_gradients(model, images, labels)
    _, blocks = capture_blocks(model, images)
    residuals = []
    for block, gradient in zip(blocks, gradients.blocks, strict=True):
        at_sum = (block.output > 0) * gradient.output
        rest = gradient.total - backpropagate(block.block, block.block.branch, block.input, at_sum)
        if block.skip is not None:
            rest -= backpropagate(block.block, block.block.skip, block.input, at_sum)
        residuals.append((rest.norm() / gradient.total.norm()).item())
    return residuals


def _measure(network: Network, unit: str) -> list[Row]:
    config, settings = network.config, network.settings
    steps = {"init": 0, "last": total_steps(config, len(network.train)) - 1}
    step = steps.get(network.which)
    num_batches, batch_size = int(settings["batches"]), int(settings["batch_size"])
    if (num_batches, batch_size) == (NUM_BATCHES, BATCH_SIZE):
        num_batches, batch_size = batches_of(len(network.train))
    rows = measure_gradflow(
        network.model, network.train, network.normalizer,
        lr=None if step is None else lr_at(step, config, len(network.train)),
        num_batches=num_batches, batch_size=batch_size,
    )  # fmt: skip
    survival = iter(_mean_survival(network, num_batches, batch_size) if network.config.arch == "resnet" else [])
    return [
        {name: value for name, value in asdict(row).items() if name not in _NOT_MEASURED}
        | {"skip_path_survival": None if row.input_grad_norm is None else next(survival, None)}
        for row in rows
    ]


def _mean_survival(network: Network, num_batches: int, batch_size: int) -> list[float | None]:
    """`skip_path_survival`, means over the batches; None where it is undefined."""
    was_training = network.model.training
    network.model.train()
    batches = _batches(network.train, network.normalizer, num_batches, batch_size)
    of_batches = [skip_path_survival(network.model, *batch) for batch in batches]
    network.model.train(was_training)
    means = (statistics.fmean(values) for values in zip(*of_batches, strict=True))
    return [mean if math.isfinite(mean) else None for mean in means]


_NOT_MEASURED = ("epoch", "update_to_weight_ratio")

PROBE = Probe(
    reference="Arora, Li and Lyu 2018 (arXiv 1812.03981); Yang et al. 2019 (arXiv 1902.08129)",
    units=lambda config, settings: ["gradients"],
    measure=_measure,
    settings={"batches": NUM_BATCHES, "batch_size": BATCH_SIZE},
    limits={"batches": (1, 10_000), "batch_size": (1, 1_000_000)},
)
