"""Images that a Python program passes in memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from resnet_cli.data.arrays import source_of
from resnet_cli.data.dataset import fingerprint_of
from resnet_cli.errors import ConfigError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
TEST = (PIXELS[:2], LABELS[:2])


class Pairs(Dataset):
    """A torch dataset that does not raise IndexError at its end, as some do not."""

    classes = ("cat", "dog", "eel")

    def __init__(self, convert):
        self.convert = convert

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, i):
        return self.convert(PIXELS[i % len(PIXELS)]), LABELS[i % len(PIXELS)]


def fingerprint(train):
    source = source_of((train, TEST))
    return fingerprint_of(source.train, source.test)


EQUAL = {
    "channels first": (PIXELS.transpose(0, 3, 1, 2), LABELS),
    "tensors": (torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
    "tensors, channels first": (torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.from_numpy(LABELS).int()),
    "lists": (PIXELS.astype(object).astype(np.uint8), LABELS.tolist()),
    "a torch dataset of arrays": Pairs(lambda pixels: pixels),
    "a torch dataset of PIL images": Pairs(Image.fromarray),
    "a torch dataset of floats": Pairs(lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1).float() / 255),
    "a torch dataset of tensors": TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
}


@pytest.mark.parametrize("train", EQUAL.values(), ids=EQUAL.keys())
def test_every_form_of_the_same_images_is_the_same_dataset(train):
    assert fingerprint(train) == fingerprint((PIXELS, LABELS))


def test_the_classes_are_those_of_the_torch_dataset_or_numbers():
    assert source_of((Pairs(Image.fromarray), TEST)).classes == ("cat", "dog", "eel")
    assert source_of(((PIXELS, LABELS), TEST)).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (PIXELS, r"must be a tuple of training and test images \(got ndarray\); for example dataset="),
        (((PIXELS.astype(float), LABELS), TEST), r"the training images must be uint8 \(got float64\); scale them"),
        (((PIXELS, LABELS), (PIXELS[..., 0], LABELS)), r"test images must be square, .* \(got \(6, 8, 8\)\); repeat"),
        (((PIXELS[:, :4], LABELS), TEST), r"training images must be square"),
        (((PIXELS[:0], LABELS[:0]), TEST), r"training images must be square, .*\(got \(0, 8, 8, 3\)\)"),
        (((PIXELS, LABELS), (PIXELS[:, :4, :4], LABELS)), r"images have different sizes: 8×8 and 4×4"),
        (((PIXELS, LABELS[:5]), TEST), r"labels must be 6 whole numbers from 0 \(got int64 of shape \(5,\)\)"),
        (((PIXELS, LABELS / 2), TEST), r"labels must be 6 whole numbers from 0 \(got float64"),
        (((PIXELS, LABELS - 1), TEST), r"labels must be 6 whole numbers from 0"),
        (((PIXELS, LABELS * 10**9), TEST), r"there are 6 training images, but a label is 2000000000"),
        ((Pairs(lambda pixels: pixels / 99.0), TEST), r"training images have values outside 0 … 1; pass them without"),
    ],
)  # fmt: skip
def test_images_of_another_form_are_refused_in_one_line(dataset, message):
    with pytest.raises(ConfigError, match=message) as caught:
        source_of(dataset)
    assert "\n" not in str(caught.value)
