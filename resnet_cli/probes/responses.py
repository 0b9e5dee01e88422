"""Size of each 3×3 layer's output, and of each residual branch relative to its shortcut.

The output of a layer is taken after batch normalisation and before ReLU and addition. The network runs in training mode
(batch normalisation uses the statistics of the batch) and sees training images without augmentation. Each channel of
that output then has mean β and standard deviation γ, so over all elements the deviation is √(mean γ² + var β), and 1 at
initialisation: it shows what γ and β learned, not what the layer computes. A smaller value than this closed form means
that channels are constant over the batch.

‖F(x)‖ / ‖S(x)‖ of a residual block falls with depth already at initialisation, because ‖x‖ grows from block to block.
What training did is its growth, the trained ratio divided by the initial one. Downsampling blocks are marked, since
their shortcut drops pixels.

Columns, one row per 3×3 layer in forward order: layer_index (from 1), layer, stage, block, downsampling (whether the
block changes the shape), deviation (over images, channels and positions), closed_form, rank (1: largest deviation), and
in the rows of the second layer of residual blocks, otherwise empty: branch_to_skip (‖F(x)‖ / ‖S(x)‖, L2 norms over all
images) and branch_to_skip_growth (divided by its value at initialisation).
"""

import copy
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from resnet_cli.config import RunConfig
from resnet_cli.model import CifarNet, weighted_layers
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.batchnorm import shuffled
from resnet_cli.probes.blocks import frozen_statistics


class Moments:
    """Mean and spread over all elements of several tensors."""

    def __init__(self) -> None:
        self._count, self._sum, self._sum_of_squares = 0, 0.0, 0.0

    def add(self, values: Tensor) -> None:
        """Add all elements. They are read now, since the network may overwrite `values` later."""
        variance, mean = (moment.item() for moment in torch.var_mean(values.detach(), correction=0))
        self._count += values.numel()
        self._sum += values.numel() * mean
        self._sum_of_squares += values.numel() * (variance + mean**2)

    @property
    def deviation(self) -> float:
        """Standard deviation over all elements (divisor n)."""
        variance = self._sum_of_squares / self._count - (self._sum / self._count) ** 2
        return math.sqrt(max(variance, 0.0))

    @property
    def norm(self) -> float:
        """L2 norm of all elements."""
        return math.sqrt(self._sum_of_squares)


def measure_responses(model: CifarNet, initial: CifarNet, batches: Sequence[Tensor]) -> list[Row]:
    """Rows of the probe for one network.

    Args:
        model: network to measure; unchanged.
        initial: the same network at initialisation.
        batches: normalised images, (N, 3, H, W) each.
    """
    outputs, skips = _run(model, batches)
    initial_outputs, initial_skips = _run(initial, batches)
    deviations = {name: moments.deviation for name, moments in outputs.items()}
    sorted_names = sorted(deviations, key=lambda name: -deviations[name])
    norms = _norms(model)
    downsampling = {block.name: block.new_channels > 0 for block in model.blocks()}
    rows = []
    for layer in weighted_layers(model)[:-1]:  # without the linear layer
        name = layer.name
        ratio = _ratio(outputs[name], skips.get(name))
        initial_ratio = _ratio(initial_outputs[name], initial_skips.get(name))
        rows.append({
            "layer_index": layer.layer_index, "layer": name, "stage": layer.stage, "block": layer.block,
            "downsampling": downsampling.get(name.rpartition(".")[0], False),
            "deviation": deviations[name], "closed_form": _closed_form(norms[name]),
            "rank": sorted_names.index(name) + 1,
            "branch_to_skip": ratio,
            "branch_to_skip_growth": ratio / initial_ratio if ratio is not None and initial_ratio else None,
        })  # fmt: skip
    return rows


def _ratio(branch: Moments, skip: Moments | None) -> float | None:
    """‖F(x)‖ / ‖S(x)‖; None without a shortcut, and where its output is zero."""
    return branch.norm / skip.norm if skip and skip.norm else None


def _norms(model: CifarNet) -> dict[str, nn.BatchNorm2d]:
    """Batch normalisation of each 3×3 layer, by the name of the layer."""
    modules = dict(model.named_modules())
    names = [layer.name for layer in weighted_layers(model)[:-1]]
    return {name: cast(nn.BatchNorm2d, modules[name.replace("conv", "bn")]) for name in names}


@torch.no_grad()
def _run(model: CifarNet, batches: Sequence[Tensor]) -> tuple[dict[str, Moments], dict[str, Moments]]:
    """Moments of the normalised output of each 3×3 layer, and of S(x) by the second layer of each residual block."""
    model = copy.deepcopy(model).train()
    outputs: dict[str, Moments] = defaultdict(Moments)
    skips: dict[str, Moments] = defaultdict(Moments)
    for name, norm in _norms(model).items():
        norm.register_forward_hook(lambda _, __, output, name=name: outputs[name].add(output))
    for block in model.blocks():
        if block.shortcut != "none":
            name = f"{block.name}.conv2"
            block.register_forward_pre_hook(lambda block, x, name=name: skips[name].add(block.skip(x[0])))
    with frozen_statistics(model):
        for images in batches:
            model(images)
    return outputs, skips


def _closed_form(norm: nn.BatchNorm2d) -> float:
    gamma, beta = norm.weight.detach().double().cpu(), norm.bias.detach().double().cpu()
    return math.sqrt(gamma.square().mean().item() + beta.var(correction=0).item())


def _units(config: RunConfig, settings: Settings) -> list[str]:
    return ["responses"]


def _measure(network: Network, unit: str) -> list[Row]:
    pixels = choose_images(network.train, network.images).pixels
    order = shuffled(len(pixels)).to(pixels.device)
    batches = [network.normalizer(pixels[chosen]) for chosen in torch.split(order, network.batch_size)]
    return measure_responses(network.model, network.initial(), batches)


PROBE = Probe(
    reference="He et al. 2015 (arXiv 1512.03385), figure 7",
    units=_units,
    measure=_measure,
    images=500,
)
