"""Similarity of representations: debiased linear CKA between blocks and networks, and linear probes per block.

A network's representations are the output of its first convolution (after batch normalisation and ReLU; block_index 0)
and of each of its blocks, in eval mode. At initialisation the running statistics estimate nothing yet, so one batch of
training images replaces them.

CKA is computed on whole feature maps of test images. Linear probes are trained on training images and tested on test
images, on features averaged over positions and reduced to the same number of principal components in every layer.

Columns: quantity (`cka` or `linear probe`); block_index, stage and block (0 for the first convolution); other (the
block_index that CKA compares with) and cka; accuracy_pct, with low_pct and high_pct, the 95 % Wilson interval for the
sampling of test images; num_images (test images).
"""

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_cli.analysis.metrics import wilson_proportion
from resnet_cli.config import RunConfig
from resnet_cli.data.batches import DeviceImages
from resnet_cli.errors import UsageError
from resnet_cli.model import CifarNet
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.batchnorm import reestimated_statistics, shuffled
from resnet_cli.probes.blocks import capture_blocks

_SETTINGS: Settings = {"features": 16}  # channels of the first stage, the narrowest
_LIMITS = {"features": (1, 16)}
_COLUMNS = (
    "quantity", "block_index", "stage", "block", "other", "cka", "accuracy_pct", "low_pct", "high_pct", "num_images",
)  # fmt: skip
_CKA, _LINEAR_PROBE = "cka", "linear probe"
_MIN_CKA_IMAGES = 4  # n (n − 3) divides the estimate


@torch.no_grad()
def block_outputs(model: CifarNet, images: Tensor) -> list[Tensor]:
    """The output of the first convolution after BN and ReLU, then that of every block; each (N, C, H, W)."""
    _, captured = capture_blocks(model, images)
    return [captured[0].input, *(block.output for block in captured)]


def centred_grams(features: list[Tensor]) -> NDArray[np.float64]:
    """U-centred Gram matrices of linear kernels, in which inner products are unbiased estimates of HSIC.

    For K = X Xᵀ with its diagonal set to 0, entry (i, j), i ≠ j, is K_ij − Σ_l K_il/(n−2) − Σ_k K_kj/(n−2) +
    Σ_kl K_kl/((n−1)(n−2)); the diagonal stays 0. Source: Székely and Rizzo 2014 (arXiv 1310.2926), definition 2.

    Args:
        features: tensors (n, …), one per representation, of the same n ≥ 4 images in the same order.

    Returns:
        (representations, n²).
    """
    rows = []
    for feature in features:
        flat = feature.flatten(1).cpu().double()
        flat = flat - flat.mean(dim=0)  # cancels below; here it saves digits
        gram = (flat @ flat.T).fill_diagonal_(0.0)
        n, sums = len(gram), gram.sum(dim=0)
        centred = gram - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
        rows.append(centred.fill_diagonal_(0.0).flatten())
    return torch.stack(rows).numpy()


def debiased_cka(batches: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Debiased linear CKA between every two representations.

    The unbiased estimate of HSIC is averaged over minibatches of images before the ratio is taken, so that Gram
    matrices stay small; a single batch gives the usual estimate. Independent features give 0 on average, where the
    biased estimate grows with the number of features. Values slightly above 1 or below 0 are sampling noise.
    Sources: Kornblith et al. 2019 (arXiv 1905.00414); Song et al. 2012, equation 5; Nguyen et al. 2021
    (arXiv 2010.15327), equations 2 and 3.

    Args:
        batches: result of `centred_grams` for each minibatch.

    Returns:
        (representations, representations), symmetric; NaN where a representation is constant.
    """
    hsic = np.sum([_hsic(grams) for grams in batches], axis=0)
    scale = np.sqrt(np.diag(hsic))
    with np.errstate(invalid="ignore", divide="ignore"):
        cka: NDArray[np.float64] = hsic / np.outer(scale, scale)
    return cka


def _hsic(grams: NDArray[np.float64]) -> NDArray[np.float64]:
    n = math.isqrt(grams.shape[1])
    estimates: NDArray[np.float64] = grams @ grams.T / (n * (n - 3))
    return estimates


class Accuracy(NamedTuple):
    """Test accuracy of a linear probe in per cent, with the 95 % Wilson interval of its images."""

    accuracy_pct: float
    low_pct: float
    high_pct: float


def linear_probe(
    train: NDArray[Any], train_labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any],
    num_features: int,
) -> Accuracy:  # fmt: skip
    """Fit a multinomial logistic regression to pooled features of one layer and test it.

    Principal components of the training features, scaled to unit variance, reduce every layer to the same number of
    features: otherwise layers with 64 channels would score higher than those with 16 for that reason alone.
    Source: Alain and Bengio 2016 (arXiv 1610.01644), with a common dimension added.

    Args:
        train: (N, C) pooled features.
        train_labels: (N,).
        test: (M, C).
        test_labels: (M,).
        num_features: number of principal components; fewer if there are fewer channels or images.

    Returns:
        The accuracy; NaN if a feature is not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        return Accuracy(math.nan, math.nan, math.nan)
    pca = PCA(min(num_features, *train.shape), whiten=True, svd_solver="full")
    probe = make_pipeline(pca, LogisticRegression(max_iter=1000))
    probe.fit(train.astype(np.float64), train_labels)
    correct = int((probe.predict(test.astype(np.float64)) == test_labels).sum())
    return Accuracy(*(100 * share for share in wilson_proportion(correct, len(test_labels))))


def _units(config: RunConfig, settings: Settings) -> list[str]:
    return [_CKA, _LINEAR_PROBE]


def _measure(network: Network, unit: str) -> list[Row]:
    return _cka_rows(network) if unit == _CKA else _linear_probe_rows(network)


def _cka_rows(network: Network) -> list[Row]:
    positions, num_images = _positions(network.model), len(choose_images(network.test, network.images))
    matrix = debiased_cka(_grams(network))
    return [
        _row(quantity=_CKA, **position, other=other, cka=value, num_images=num_images)
        for position, values in zip(positions, matrix.tolist(), strict=True)
        for other, value in enumerate(values)
    ]


def _linear_probe_rows(network: Network) -> list[Row]:
    train, test = (choose_images(images, network.images) for images in (network.train, network.test))
    with _meaningful_statistics(network):
        features = [_pooled_features(network, images) for images in (train, test)]
    labels = [images.labels.cpu().numpy() for images in (train, test)]
    rows = []
    for position, of_train, of_test in zip(_positions(network.model), *features, strict=True):
        accuracy = linear_probe(of_train, labels[0], of_test, labels[1], int(network.settings["features"]))
        rows.append(_row(quantity=_LINEAR_PROBE, **position, **accuracy._asdict(), num_images=len(test)))
    return rows


def _combine(networks: list[Network]) -> list[Row]:
    """CKA between the blocks of every two networks, on the same images in the same batches."""
    positions = [
        (number, position["block_index"])
        for number, network in enumerate(networks)
        for position in _positions(network.model)
    ]
    grams = (np.concatenate(of_batch) for of_batch in zip(*map(_grams, networks), strict=True))
    matrix = debiased_cka(grams)
    return [
        {
            "label": networks[number].label, "block_index": index,
            "other_label": networks[other_number].label, "other": other, "cka": float(matrix[i, j]),
        }
        for i, (number, index) in enumerate(positions)
        for j, (other_number, other) in enumerate(positions)
        if number < other_number
    ]  # fmt: skip


def _grams(network: Network) -> Iterator[NDArray[np.float64]]:
    images = choose_images(network.test, network.images)
    if len(images) < _MIN_CKA_IMAGES:
        raise UsageError(f"similarity needs at least {_MIN_CKA_IMAGES} test images, not {len(images)}")
    size = max(network.batch_size, _MIN_CKA_IMAGES)
    with _meaningful_statistics(network):
        for chosen in torch.split(shuffled(len(images)).to(images.labels.device), size):
            if len(chosen) >= _MIN_CKA_IMAGES:
                yield centred_grams(block_outputs(network.model, network.normalizer(images.pixels[chosen])))


def _pooled_features(network: Network, images: DeviceImages) -> list[NDArray[np.float32]]:
    """Mean over positions of each representation, (N, C)."""
    batches = [
        [
            output.mean(dim=(2, 3)).float().cpu().numpy()
            for output in block_outputs(network.model, network.normalizer(pixels))
        ]
        for pixels in torch.split(images.pixels, network.batch_size)
    ]
    return [np.concatenate(of_layer) for of_layer in zip(*batches, strict=True)]


@contextlib.contextmanager
def _meaningful_statistics(network: Network) -> Iterator[None]:
    if network.which != "init":
        yield
        return
    batch = choose_images(network.train, network.batch_size)
    with reestimated_statistics(network.model, batch, network.normalizer, network.batch_size):
        yield


def _positions(model: CifarNet) -> list[dict[str, int]]:
    blocks = [(0, 0), *((block.stage, block.index) for block in model.blocks())]
    return [{"block_index": index, "stage": stage, "block": block} for index, (stage, block) in enumerate(blocks)]


def _row(**values: Any) -> Row:
    return dict.fromkeys(_COLUMNS) | values


PROBE = Probe(
    reference="Kornblith et al. 2019 (arXiv 1905.00414); Alain and Bengio 2016 (arXiv 1610.01644)",
    units=_units,
    measure=_measure,
    combine=_combine,
    images=1000,
    settings=_SETTINGS,
    limits=_LIMITS,
)
