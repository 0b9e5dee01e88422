"""Loss landscape: filter-normalised slices and planes, and the extreme eigenvalues of the Hessian.

All networks are measured on the same training images, in the same random directions, over the same range and in eval
mode: batch normalisation keeps its statistics, biases and parameters. Directions cover the weights of convolutions and
linear layers, and every filter of a direction has the norm of the network's own filter.

The curvature is that of the same loss with respect to the same weights. D H D, with D the diagonal matrix of filter
norms, measures it in units of the filters. The plain Hessian H does not: batch normalisation makes the loss independent
of the norm of a layer's weights once the statistics have followed, so H shrinks as 1/‖W‖² and a network with large
weights looks flat.

Columns: part (`slice`, `plane` or `eigenvalue`); direction (of a slice, from 1), alpha and beta (distance along the
first and the second direction of the plane; slices have alpha alone), loss (nats), error_pct; matrix (`DHD` or `H`),
end (`largest` or `smallest`), eigenvalue and residual (some eigenvalue is at most that far away); num_images.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.func import functional_call

from resnet_cli.config import RunConfig
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.scoring import score
from resnet_cli.util.seeding import derive_seed

Weights = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]
"""Normalised images (B, 3, H, W) and labels (B,) int64."""

_SETTINGS: Settings = {
    "directions": 2, "points": 21, "plane_points": 9, "range": 1.0, "hessian_images": 64, "lanczos_steps": 16,
}  # fmt: skip
_LIMITS = {
    "directions": (1, 1000), "points": (2, 10_001), "plane_points": (2, 1001), "range": (1e-6, 100),
    "hessian_images": (1, 10**9), "lanczos_steps": (2, 1000),
}  # fmt: skip
_COLUMNS = (
    "part", "direction", "alpha", "beta", "loss", "error_pct", "matrix", "end", "eigenvalue", "residual", "num_images",
)  # fmt: skip


def filter_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions and linear layers by name: all parameters except biases and batch normalisation."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.ndim > 1}


def filter_norms(weight: Tensor) -> Tensor:
    """L2 norm of each filter of a convolution, or of each row of a linear layer, shaped to multiply `weight`."""
    norms: Tensor = torch.linalg.vector_norm(weight.detach(), dim=tuple(range(1, weight.ndim)), keepdim=True)
    return norms


def draw_direction(model: nn.Module, number: int, *, seed: int) -> Weights:
    """Draw a random direction in which every filter has the norm of the network's own filter.

    The Gaussian numbers of a layer depend only on the seed, the number of the direction and the layer's name, so a
    plain network and its residual twin get the same ones before normalisation. Biases and the parameters of batch
    normalisation are not part of a direction. Source: Li et al. 2018 (arXiv 1712.09913), section 4.

    Args:
        model: network whose filters set the scale.
        number: from 1; different numbers give independent directions.
        seed: seed of the probe.

    Returns:
        One tensor per name in `filter_weights`, on the device and in the dtype of the weights.
    """
    direction = {}
    for name, weight in filter_weights(model).items():
        generator = torch.Generator().manual_seed(derive_seed(seed, "landscape", number, name))
        draw = torch.randn(weight.shape, generator=generator).to(weight)
        direction[name] = draw * (filter_norms(weight) / filter_norms(draw))
    return direction


def moved(model: nn.Module, steps: Sequence[tuple[float, Weights]]) -> Callable[[Tensor], Tensor]:
    """Build the forward pass of `model` with each factor times its direction added to its weights.

    Args:
        model: in eval mode, so that batch normalisation keeps its running statistics; left unchanged.
        steps: pairs of a factor and a direction of `draw_direction`.
    """
    weights = {name: weight.detach() for name, weight in filter_weights(model).items()}
    for factor, direction in steps:
        weights = {name: weight + factor * direction[name] for name, weight in weights.items()}
    return functools.partial(functional_call, model, weights)


def hessian_product(
    model: nn.Module, batches: Sequence[Batch], scale: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """Build the function v ↦ H v, or v ↦ D H D v, for the Hessian H of the mean cross-entropy.

    H is taken with respect to `filter_weights`, at fixed running statistics when the model is in eval mode.

    Args:
        model: network in the mode to differentiate in.
        batches: images and labels to average over.
        scale: (P,), the diagonal of D; None: the identity.

    Returns:
        A function of a vector (P,), P being the number of weights, on their device and in their dtype.
    """
    weights = list(filter_weights(model).values())
    sizes = [weight.numel() for weight in weights]
    count = sum(len(labels) for _, labels in batches)

    @functools.lru_cache(maxsize=1)  # a single batch keeps its graph; those of several might not fit into memory
    def gradient(number: int) -> tuple[Tensor, ...]:
        images, labels = batches[number]
        loss = F.cross_entropy(model(images), labels, reduction="sum") / count
        return torch.autograd.grad(loss, weights, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        scaled = vector if scale is None else scale * vector
        parts = [part.view_as(weight) for part, weight in zip(torch.split(scaled, sizes), weights, strict=True)]
        total = torch.zeros_like(vector)
        for number in range(len(batches)):
            columns = torch.autograd.grad(gradient(number), weights, grad_outputs=parts, retain_graph=True)
            total += torch.cat([column.flatten() for column in columns])
        return total if scale is None else scale * total

    return product


def weight_scales(model: nn.Module) -> Tensor:
    """The diagonal of D: for each weight the norm of its filter; (P,)."""
    return torch.cat([filter_norms(weight).expand_as(weight).flatten() for weight in filter_weights(model).values()])


class Eigenvalue(NamedTuple):
    """A Ritz value, and the norm of its residual: some eigenvalue is at most that far away."""

    value: float
    residual: float


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], start: Tensor, *, steps: int
) -> tuple[Eigenvalue, Eigenvalue]:
    """Approximate the largest and the smallest eigenvalue of a symmetric matrix by Lanczos' method.

    The number of products is fixed, unlike in ARPACK, so that the cost is known beforehand. The basis is
    reorthogonalised in full. The values lie within the spectrum, so their magnitudes are lower bounds for a
    positive largest and a negative smallest eigenvalue. Source: Parlett 1998, The Symmetric Eigenvalue Problem,
    chapter 13.

    Args:
        product: multiplies the matrix by a vector.
        start: (P,), the first vector before normalisation.
        steps: number of products.

    Returns:
        The largest and the smallest eigenvalue; NaN if a product was not finite.
    """
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, len(start))):
        vector = product(basis[-1])
        diagonal.append(float(vector @ basis[-1]))
        for _ in range(2):  # once loses orthogonality to rounding
            stacked = torch.stack(basis)
            vector = vector - stacked.T @ (stacked @ vector)
        beside.append(float(vector.norm()))
        if beside[-1] <= 1e-6 * max(map(abs, diagonal)):
            break  # the basis spans an invariant subspace
        basis.append(vector / beside[-1])
    if not np.isfinite([*diagonal, *beside]).all():
        return Eigenvalue(np.nan, np.nan), Eigenvalue(np.nan, np.nan)
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside[:-1]))
    residuals = beside[-1] * np.abs(vectors[-1])
    return Eigenvalue(float(values[-1]), float(residuals[-1])), Eigenvalue(float(values[0]), float(residuals[0]))


def _units(config: RunConfig, settings: Settings) -> list[str]:
    slices = [f"slice {number}" for number in range(1, int(settings["directions"]) + 1)]
    rows = [f"plane {number}" for number in range(1, int(settings["plane_points"]) + 1)]
    return [*slices, *rows, "eigenvalues DHD", "eigenvalues H"]


def _measure(network: Network, unit: str) -> list[Row]:
    part, which = unit.split()
    if part == "eigenvalues":
        return _eigenvalues(network, which)
    if part == "slice":
        alphas = _grid(network.settings, "points")
        direction = draw_direction(network.model, int(which), seed=network.seed)
        return [_point(network, alpha, [(alpha, direction)], direction=int(which)) for alpha in alphas]
    first, second = (draw_direction(network.model, number, seed=network.seed) for number in (1, 2))
    grid = _grid(network.settings, "plane_points")
    beta = grid[int(which) - 1]
    return [_point(network, alpha, [(alpha, first), (beta, second)], beta=beta) for alpha in grid]


def _grid(settings: Settings, points: str) -> list[float]:
    limit = float(settings["range"])
    return [round(value, 12) for value in np.linspace(-limit, limit, int(settings[points])).tolist()]


def _point(network: Network, alpha: float, steps: Sequence[tuple[float, Weights]], **where: float) -> Row:
    images = choose_images(network.train, network.images)
    point = score(moved(network.model, steps), images, network.normalizer, network.batch_size)
    part = "plane" if "beta" in where else "slice"
    return _row(part=part, alpha=alpha, **where, **point._asdict())


def _eigenvalues(network: Network, matrix: str) -> list[Row]:
    images = choose_images(network.train, int(network.settings["hessian_images"]))
    batches = [
        (network.normalizer(pixels), labels)
        for pixels, labels in zip(*(torch.split(part, network.batch_size) for part in images), strict=True)
    ]
    scales = weight_scales(network.model)
    generator = torch.Generator().manual_seed(derive_seed(network.seed, "landscape", "lanczos"))
    start = torch.randn(scales.shape, generator=generator).to(scales)
    product = hessian_product(network.model, batches, scales if matrix == "DHD" else None)
    ends = extreme_eigenvalues(product, start, steps=int(network.settings["lanczos_steps"]))
    return [
        _row(part="eigenvalue", matrix=matrix, end=end, num_images=len(images), eigenvalue=found.value,
             residual=found.residual)
        for end, found in zip(("largest", "smallest"), ends, strict=True)
    ]  # fmt: skip


def _row(**values: Any) -> Row:
    return dict.fromkeys(_COLUMNS) | values


PROBE = Probe(
    reference="Li et al. 2018 (arXiv 1712.09913)",
    units=_units,
    measure=_measure,
    images=128,
    settings=_SETTINGS,
    limits=_LIMITS,
)
