"""Images on the device as bytes, and whole-batch augmentation with explicit random numbers."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.config import Augment, Normalization
from resnet_cli.data.dataset import Dataset, Images
from resnet_cli.util.seeding import derive_seed

CROP_PADDING = 4  # pixels on each side, He et al. 2015, section 4.2


class DeviceImages(NamedTuple):
    """Labelled images on a device."""

    pixels: Tensor  # (N, H, W, 3) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return self.labels.shape[0]

    @classmethod
    def on(cls, device: torch.device, images: Images) -> "DeviceImages":
        """Copy `images` to `device` (no copy on the CPU)."""
        return cls(torch.from_numpy(images.pixels).to(device), torch.from_numpy(images.labels).to(device))


class EpochDraws(NamedTuple):
    """Order and augmentation of one epoch, drawn in advance for all its images."""

    order: Tensor  # (N,) int64, indices into the training images
    shift: Tensor  # (N, 2) int64, vertical and horizontal offset of the crop in the padded image
    flip: Tensor  # (N,) bool


def draw_epoch(num_images: int, augment: Augment, *, seed: int, epoch: int, device: torch.device) -> EpochDraws:
    """Draw an epoch from (seed, purpose, epoch) alone: equal on every device and independent of earlier draws.

    Args:
        num_images: size of the training set.
        augment: `none`, `crop` or `crop-flip`; a disabled transformation is drawn as the identity.
        seed: seed of the run.
        epoch: number of the epoch, from 1.
        device: device that the drawn tensors are copied to.
    """

    def generator(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))

    order = torch.randperm(num_images, generator=generator("shuffle"))
    if augment == "none":
        shift = torch.full((num_images, 2), CROP_PADDING)
    else:
        shift = torch.randint(0, 2 * CROP_PADDING + 1, (num_images, 2), generator=generator("crop"))
    if augment == "crop-flip":
        flip = torch.rand(num_images, generator=generator("flip")) < 0.5
    else:
        flip = torch.zeros(num_images, dtype=torch.bool)
    return EpochDraws(order.to(device), shift.to(device), flip.to(device))


def crop_and_flip(pixels: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Zero-pad by 4, crop at `shift` back to the original size, then flip where `flip`.

    Args:
        pixels: (B, H, W, 3) uint8.
        shift: (B, 2) int64 in 0 … 8; 4 is the centre.
        flip: (B,) bool.

    Returns:
        (B, H, W, 3) uint8.
    """
    count, height, width, _ = pixels.shape
    padded = F.pad(pixels, (0, 0, CROP_PADDING, CROP_PADDING, CROP_PADDING, CROP_PADDING))
    image = torch.arange(count, device=pixels.device)
    column = torch.arange(width, device=pixels.device)
    rows = shift[:, :1] + torch.arange(height, device=pixels.device)  # (B, H)
    columns = shift[:, 1:] + torch.where(flip[:, None], width - 1 - column, column)  # (B, W)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def mean_image(images: Images) -> Tensor:
    """Mean over all images, of pixels scaled to 0 … 1: (3, H, W) float32."""
    mean = torch.from_numpy(images.pixels.mean(axis=0, dtype="float64") / 255.0)  # (H, W, 3)
    return mean.permute(2, 0, 1).float()


class Normalizer:
    """Normalisation of bytes to network input: (x / 255 − mean) / std.

    Args:
        mean: (3, 1, 1) or (3, H, W) float32, of pixels scaled to 0 … 1.
        std: (3, 1, 1) float32.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        # one multiplication and one addition per element
        self._scale = 1.0 / (255.0 * std)
        self._shift = -mean / std

    @classmethod
    def for_dataset(
        cls, dataset: Dataset, normalization: Normalization, device: torch.device, mean: Tensor | None = None
    ) -> "Normalizer":
        """Use the dataset's constants (`channel`), or a mean image and std 1 (`pixel-mean`).

        The mean image is `mean`, (3, H, W), or that of the training split (None).
        """
        if normalization == "pixel-mean":
            image = mean_image(dataset.train) if mean is None else mean
            return cls(image.to(device), torch.ones(3, 1, 1, device=device))
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (dataset.mean, dataset.std))
        return cls(mean, std)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map (B, H, W, 3) uint8 to (B, 3, H, W) float32, channels last in memory."""
        return pixels.permute(0, 3, 1, 2).float() * self._scale + self._shift
