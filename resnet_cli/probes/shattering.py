"""Shattered gradients: how fast input gradients decorrelate along a line, and how minibatch gradients agree.

Autocorrelation. Two training images of different classes are joined by a line of equally spaced points in the space of
normalised images. At each point x the gradient of one logit, that of the first image's class, is taken with respect to
x, and its autocorrelation is computed over the lag between points. White noise, whose values are independent, and brown
noise, a random walk, pass through the same code. Batch normalisation uses the statistics of one fixed batch of
training images. In training mode the points of a line would change each other's statistics, so that their gradients
would depend on which points share a batch; the running statistics of a new network estimate nothing yet. With
constants, the network is a function of one image, normalised as in training.

Cosines. The gradients of disjoint minibatches with respect to the weights, in training mode. Their cosine grows with
the batch size and falls with the loss, so both are reported, and networks with different losses are not comparable.

Columns: quantity (`autocorrelation` or `cosine`); series (`network`, `white` or `brown`), line (or draw, from 1), lag
(in points), distance (lag as a share of the line) and autocorrelation; layer (`all`: the weights of all layers as one
vector), stage, block, cosine and cosine_std (mean and standard deviation over pairs of minibatches), loss (nats, mean
over the minibatches), batch_size and num_batches.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet_cli.config import RunConfig
from resnet_cli.data.batches import DeviceImages
from resnet_cli.errors import UsageError
from resnet_cli.model import CifarNet, weighted_layers
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.batchnorm import reestimated_statistics, shuffled
from resnet_cli.util.seeding import derive_seed

_SETTINGS: Settings = {"lines": 6, "points": 128, "minibatches": 4}
_LIMITS = {"lines": (1, 10_000), "points": (4, 10_000), "minibatches": (2, 1000)}
_COLUMNS = (
    "quantity", "series", "line", "lag", "distance", "autocorrelation",
    "layer", "stage", "block", "cosine", "cosine_std", "loss", "batch_size", "num_batches",
)  # fmt: skip
_COSINES, _NOISE = "cosines", "noise"


def input_gradients(model: nn.Module, images: Tensor, output: int, *, batch_size: int) -> NDArray[np.float32]:
    """Gradient of one logit with respect to each image.

    Args:
        model: in eval mode, so that each image has its own gradient.
        images: normalised, (N, 3, H, W).
        output: index of the logit.
        batch_size: number of images per backward pass.

    Returns:
        (N, 3·H·W) on the CPU.
    """
    gradients = []
    for part in torch.split(images, batch_size):
        leaf = part.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model(leaf)[:, output].sum(), leaf)
        gradients.append(gradient.flatten(1).float().cpu())
    return torch.cat(gradients).numpy()


def autocorrelation(series: NDArray[Any]) -> NDArray[np.float64]:
    """Autocorrelation of a vector-valued series, summed over its components.

    R(k) = Σ_t ⟨s_t − s̄, s_{t+k} − s̄⟩ / Σ_t ‖s_t − s̄‖², the usual biased estimate: R(0) = 1, and the sum runs over
    T − k terms.

    Args:
        series: (T, D).

    Returns:
        (T // 2,), for the lags 0 … T // 2 − 1; NaN if the series is constant.
    """
    centred = series.astype(np.float64) - series.mean(axis=0, dtype=np.float64)
    products = centred @ centred.T  # (T, T)
    sums = np.array([np.trace(products, offset=lag) for lag in range(len(series) // 2)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / sums[0]  # type: ignore[no-any-return]


def white_noise(num_points: int, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Independent Gaussian vectors: gradients that are shattered completely; (num_points, size)."""
    return rng.standard_normal((num_points, size))


def brown_noise(num_points: int, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random walk, whose autocorrelation decays slowly as that of shallow networks does; (num_points, size)."""
    return np.cumsum(rng.standard_normal((num_points, size)), axis=0)


class BatchGradients(NamedTuple):
    """Weight gradients of several minibatches."""

    layers: list[Tensor]  # per weighted layer (minibatches, P_layer) float32 on the CPU
    losses: list[float]  # mean cross-entropy of each minibatch


def batch_gradients(model: CifarNet, batches: list[tuple[Tensor, Tensor]]) -> BatchGradients:
    """Gradient of the mean cross-entropy of each minibatch with respect to the weights of each weighted layer.

    Batch normalisation uses the minibatch, as in training, and its running statistics stay unchanged.

    Args:
        model: left unchanged.
        batches: normalised images (B, 3, H, W) and labels (B,).
    """
    twin = copy.deepcopy(model).train()
    weights = [layer.module.weight for layer in weighted_layers(twin)]
    rows, losses = [], []
    for images, labels in batches:
        loss = F.cross_entropy(twin(images), labels)
        rows.append([gradient.flatten().cpu() for gradient in torch.autograd.grad(loss, weights)])
        losses.append(loss.item())
    return BatchGradients([torch.stack(layer) for layer in zip(*rows, strict=True)], losses)


def pairwise_cosines(vectors: Tensor) -> Tensor:
    """Cosine of every pair of different rows of (n, P); (n (n − 1) / 2,)."""
    unit = F.normalize(vectors.double(), dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[first, second]


def _units(config: RunConfig, settings: Settings) -> list[str]:
    return [*(f"line {number}" for number in range(1, int(settings["lines"]) + 1)), _NOISE, _COSINES]


def _measure(network: Network, unit: str) -> list[Row]:
    if unit == _COSINES:
        return _cosine_rows(network)
    if unit == _NOISE:
        return _noise_rows(network)
    return _line_rows(network, int(unit.split()[1]))


def _line_rows(network: Network, number: int) -> list[Row]:
    images = _minibatches(network)[0]
    first, second = _endpoints(images.labels.cpu().numpy(), _generator(network, "line", number))
    ends = network.normalizer(images.pixels[[first, second]])  # (2, 3, H, W)
    t = torch.linspace(0, 1, int(network.settings["points"]), device=ends.device)[:, None, None, None]
    with reestimated_statistics(network.model, images, network.normalizer, len(images)):
        gradients = input_gradients(
            network.model, torch.lerp(ends[:1], ends[1:], t), int(images.labels[first]), batch_size=network.batch_size
        )
    return _autocorrelation_rows("network", number, gradients)


def _endpoints(labels: NDArray[Any], rng: np.random.Generator) -> tuple[int, int]:
    """Indices of a random image and of a random image of another class (or of the same, if there is only one)."""
    first, *others = rng.permutation(len(labels)).tolist()
    return first, next((other for other in others if labels[other] != labels[first]), others[0])


def _noise_rows(network: Network) -> list[Row]:
    size = network.train.pixels[0].numel()
    return [
        row
        for number in range(1, int(network.settings["lines"]) + 1)
        for series, draw in (("white", white_noise), ("brown", brown_noise))
        for row in _autocorrelation_rows(
            series, number, draw(int(network.settings["points"]), size, _generator(network, series, number))
        )
    ]


def _generator(network: Network, purpose: str, number: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(network.seed, "shattering", purpose, number))


def _autocorrelation_rows(series: str, line: int, vectors: NDArray[Any]) -> list[Row]:
    return [
        _row(quantity="autocorrelation", series=series, line=line, lag=lag, distance=lag / (len(vectors) - 1),
             autocorrelation=value)
        for lag, value in enumerate(autocorrelation(vectors).tolist())
    ]  # fmt: skip


def _cosine_rows(network: Network) -> list[Row]:
    minibatches = _minibatches(network)
    gradients = batch_gradients(
        network.model, [(network.normalizer(images.pixels), images.labels) for images in minibatches]
    )
    shared = {
        "quantity": "cosine", "loss": float(np.mean(gradients.losses)),
        "batch_size": len(minibatches[0]), "num_batches": len(minibatches),
    }  # fmt: skip
    named = [
        ({"layer": layer.name, "stage": layer.stage, "block": layer.block}, vectors)
        for layer, vectors in zip(weighted_layers(network.model), gradients.layers, strict=True)
    ]
    named.insert(0, ({"layer": "all"}, torch.cat(gradients.layers, dim=1)))
    rows = []
    for layer, vectors in named:
        cosines = pairwise_cosines(vectors)
        spread = cosines.std().item() if len(cosines) > 1 else None
        rows.append(_row(**shared, **layer, cosine=cosines.mean().item(), cosine_std=spread))
    return rows


def _minibatches(network: Network) -> list[DeviceImages]:
    """Disjoint minibatches of training images, of the batch size or as large as the number of images permits."""
    images = choose_images(network.train, network.images)
    count = int(network.settings["minibatches"])
    size = min(network.batch_size, len(images) // count)
    if size < 2:  # batch normalisation needs a variance
        raise UsageError(
            f"shattering cannot divide {len(images)} training images into {count} minibatches of at least 2",
            hint="use a smaller --set minibatches=N, or more --images",
        )
    order = shuffled(len(images)).to(images.labels.device)[: count * size]
    return [DeviceImages(images.pixels[chosen], images.labels[chosen]) for chosen in torch.split(order, size)]


def _row(**values: Any) -> Row:
    return dict.fromkeys(_COLUMNS) | values


PROBE = Probe(
    reference="Balduzzi et al. 2017 (arXiv 1702.08591)",
    units=_units,
    measure=_measure,
    which="init",
    images=512,
    settings=_SETTINGS,
    limits=_LIMITS,
)
