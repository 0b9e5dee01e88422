"""Whole-batch augmentation does what the textbook does image by image."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image

from resnet_cli.data.batches import CROP_PADDING, DeviceImages, Normalizer, crop_and_flip, draw_epoch
from resnet_cli.data.dataset import Images, Source, prepare

CPU = torch.device("cpu")


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def one_by_one(pixels, shift, flip):
    """The slow, obvious version: torchvision on PIL images."""
    results = []
    for image, (top, left), mirrored in zip(pixels.numpy(), shift.tolist(), flip.tolist(), strict=True):
        padded = TF.pad(Image.fromarray(image), CROP_PADDING, fill=0)
        cropped = TF.crop(padded, top, left, *image.shape[:2])
        results.append(np.asarray(TF.hflip(cropped) if mirrored else cropped))
    return torch.from_numpy(np.stack(results))


def test_crop_and_flip_of_a_batch_equal_torchvision_on_each_image(pixels):
    draws = draw_epoch(len(pixels), "crop-flip", seed=1, epoch=1, device=CPU)
    assert draws.flip.any()
    assert not draws.flip.all()
    assert torch.equal(crop_and_flip(pixels, draws.shift, draws.flip), one_by_one(pixels, draws.shift, draws.flip))


def test_every_offset_of_a_crop_selects_the_right_pixels(pixels):
    shift = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    image = pixels[:1].expand(81, -1, -1, -1)
    flip = torch.arange(81) % 2 == 0
    assert torch.equal(crop_and_flip(image, shift, flip), one_by_one(image, shift, flip))


def test_normalised_input_equals_torchvision(pixels):
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    ours = Normalizer(torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1))(pixels)
    theirs = torch.stack([TF.normalize(TF.to_tensor(image), mean, std) for image in pixels.numpy()])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_pixel_mean_normalisation_subtracts_the_mean_image_of_the_training_split(pixels):
    images = Images(pixels.numpy(), np.arange(40) % 2)
    source = Source(name="x", display_name="x", classes=("a", "b"), train=images, test=images)
    dataset = prepare(source, val_size=10, seed=3)
    assert len(dataset.train) == 30
    ours = Normalizer.for_dataset(dataset, "pixel-mean", CPU)(torch.from_numpy(dataset.train.pixels))
    torch.testing.assert_close(ours.mean(dim=0), torch.zeros(3, 32, 32), rtol=0, atol=1e-6)
    first = dataset.train.pixels[0].astype(float) / 255 - dataset.train.pixels.mean(axis=0) / 255
    torch.testing.assert_close(ours[0], torch.from_numpy(first).permute(2, 0, 1).float(), rtol=0, atol=1e-6)


def test_an_epoch_visits_every_image_once():
    draws = draw_epoch(1000, "crop-flip", seed=0, epoch=1, device=CPU)
    assert sorted(draws.order.tolist()) == list(range(1000))


def test_an_epoch_is_drawn_from_seed_and_epoch_alone():
    torch.manual_seed(5)
    first = draw_epoch(100, "crop-flip", seed=0, epoch=7, device=CPU)
    torch.rand(3)
    again = draw_epoch(100, "crop-flip", seed=0, epoch=7, device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (
        draw_epoch(100, "crop-flip", seed=0, epoch=8, device=CPU),
        draw_epoch(100, "crop-flip", seed=1, epoch=7, device=CPU),
    ):
        assert not torch.equal(first.order, other.order)
        assert not torch.equal(first.shift, other.shift)
        assert not torch.equal(first.flip, other.flip)


def test_disabling_a_transformation_changes_neither_the_order_nor_the_other_one():
    full, crop, none = (
        draw_epoch(200, augment, seed=0, epoch=1, device=CPU) for augment in ("crop-flip", "crop", "none")
    )
    assert torch.equal(full.order, none.order)
    assert torch.equal(full.shift, crop.shift)
    assert not crop.flip.any()
    assert none.shift.eq(CROP_PADDING).all()


def test_without_augmentation_images_come_back_as_they_are(pixels):
    draws = draw_epoch(len(pixels), "none", seed=0, epoch=1, device=CPU)
    assert torch.equal(crop_and_flip(pixels, draws.shift, draws.flip), pixels)


def test_crops_and_flips_are_uniform():
    draws = draw_epoch(20_000, "crop-flip", seed=0, epoch=1, device=CPU)
    counts = torch.bincount(draws.shift[:, 0] * 9 + draws.shift[:, 1], minlength=81)
    expected = 20_000 / 81
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 130  # 99.97th percentile of chi-square with 80 degrees of freedom
    assert abs(draws.flip.float().mean().item() - 0.5) < 4 * 0.5 / 20_000**0.5


def test_images_on_the_device_stay_bytes(pixels):
    images = DeviceImages.on(CPU, Images(pixels.numpy(), np.arange(40)))
    assert images.pixels.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    assert len(images) == 40
