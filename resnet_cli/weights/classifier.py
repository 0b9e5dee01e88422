"""A trained network as one module that takes images as they are stored."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from resnet_cli.config import Arch
from resnet_cli.data import open_data
from resnet_cli.data.batches import mean_image
from resnet_cli.errors import InputError
from resnet_cli.model import CifarNet
from resnet_cli.rundir import RunDir
from resnet_cli.weights.file import Triple, check_normalization, read_weights
from resnet_cli.weights.run import Which, load_run_weights


class Classifier(nn.Module):
    """A network with the normalisation of its inputs.

    Args:
        network: the trained network.
        mean: (3, 1, 1) or (3, H, W) float32, of pixels in [0, 1].
        std: (3, 1, 1) float32.
        classes: their names in the order of the outputs; empty if unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: CifarNet, mean: Tensor, std: Tensor, classes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network = network
        self.classes = classes
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W), uint8 or floats in [0, 1], to logits (N, classes).

        Raises:
            ValueError: the images have another shape or type.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (N, 3, H, W), not {tuple(images.shape)}")
        if images.dtype == torch.uint8:
            images = images.to(self.std.dtype) / 255
        elif not images.is_floating_point():
            raise ValueError(f"images must be uint8 or floats in [0, 1], not {images.dtype}")
        return self.network((images - self.mean) / self.std)  # type: ignore[no-any-return]


def load_model(
    path: str | os.PathLike[str],
    which: Which = "best",
    *,
    arch: Arch | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> Classifier:
    """Load the network of a run directory or of a weight file, on the CPU in eval mode.

    Args:
        path: a run directory, or a weight file that `read_weights` supports.
        which: `last` or `best` weights of a run; the weights of a file are loaded as they are.
        arch: `plain` or `resnet`, for a weight file that does not determine it.
        mean: per-channel mean of pixels in [0, 1] (None: recorded with the weights).
        std: per-channel standard deviation, with `mean`.
        data_dir: folder of the dataset, needed only for the mean image of a run with `normalization="pixel-mean"`
            (None: the folder that the run records, else the default).

    Raises:
        InputError: the run, the weights or the dataset cannot be read, or the normalisation is not known.
        UsageError: `arch` contradicts the file, or is needed; or `mean` and `std` are not valid.
    """
    check_normalization(mean, std)
    path = Path(path)
    run = RunDir(path) if path.is_dir() else None
    weights = load_run_weights(run, which) if run else read_weights(path)
    network = weights.build(weights.resolve(arch=arch))
    record = run.read_record() if run else None
    classes = record.dataset.classes if record else weights.classes
    constants = (mean, std) if mean and std else weights.normalization
    if constants:
        rgb_mean, rgb_std = (torch.tensor(values).view(3, 1, 1) for values in constants)
        return Classifier(network, rgb_mean, rgb_std, classes).eval()
    if weights.mean_image is not None:
        return Classifier(network, weights.mean_image, torch.ones(3, 1, 1), classes).eval()
    if record:
        folder = Path(data_dir) if data_dir else None
        images = open_data(record.config, data_dir=folder, recorded=record.dataset, run=path).train
        return Classifier(network, mean_image(images).contiguous(), torch.ones(3, 1, 1), classes).eval()
    raise InputError(
        f"{path} does not contain the normalisation of its inputs",
        hint="load its run directory, or pass --mean and --std" if weights.config else "pass --mean and --std",
    )
