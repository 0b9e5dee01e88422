"""Images that a Python program passes in memory: arrays or torch datasets."""

from collections.abc import Callable
from typing import Any

import numpy as np

from resnet_cli.data.dataset import Bytes, Images, Labels, Source
from resnet_cli.errors import ConfigError

NAME = "arrays"


def source_of(dataset: tuple[Any, Any]) -> Source:
    """Convert the training and the test images of a Python program.

    Args:
        dataset: training split and test split. Each is either a tuple (images, labels) or a torch `Dataset` of such
            pairs. As arrays or tensors, images are uint8 (N, H, W, 3) or (N, 3, H, W) with H = W, and labels are whole
            numbers (N,) from 0. The images of a `Dataset` may also be PIL images or floats in [0, 1]; each is read
            once, so that random transformations are not repeated in later epochs. Its attribute `classes`, if any,
            names the classes.

    Raises:
        ConfigError: the images or labels have another form.
    """
    if not isinstance(dataset, tuple) or len(dataset) != 2:
        raise ConfigError(
            f"the dataset must be a tuple of training and test images (got {type(dataset).__name__})",
            hint="for example dataset=((images, labels), (test_images, test_labels))",
        )
    train, test = (_images(split, name) for split, name in zip(dataset, ("training", "test"), strict=True))
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        sizes = " and ".join("×".join(map(str, images.pixels.shape[1:3])) for images in (train, test))
        raise ConfigError(f"training and test images have different sizes: {sizes}")
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    if num_classes > len(train):
        raise ConfigError(
            f"labels must be numbers from 0, one per class: there are {len(train)} training images, but a label is "
            f"{num_classes - 1}"
        )
    names = tuple(map(str, getattr(dataset[0], "classes", ())))
    classes = names if len(names) >= num_classes else tuple(map(str, range(num_classes)))
    return Source(name=NAME, display_name=NAME, classes=classes, train=train, test=test)


def loader(dataset: tuple[Any, Any]) -> Callable[..., Source]:
    """A replacement for `load_source` that returns these images, with the arguments and errors of `source_of`."""
    source = source_of(dataset)
    return lambda *_, **__: source


def _images(split: Any, name: str) -> Images:
    if isinstance(split, tuple) and len(split) == 2:
        pixels, labels = (np.asarray(part) for part in split)
    else:
        # iterating over a torch dataset would not stop at its end
        pairs = [split[i] for i in range(len(split))]
        pixels = np.array([_one_image(image, name) for image, _ in pairs])
        labels = np.array([int(label) for _, label in pairs], np.int64)
    return Images(_as_pixels(pixels, name), _as_labels(labels, len(pixels), name))


def _one_image(image: Any, name: str) -> Bytes:
    if hasattr(image, "convert"):  # PIL
        image = image.convert("RGB")
    array: Bytes = np.asarray(image)
    if array.dtype.kind != "f":
        return array
    if not (array.min() >= 0 and array.max() <= 1):
        raise ConfigError(
            f"the {name} images have values outside 0 … 1",
            hint="pass them without normalisation, which is applied later",
        )
    return np.rint(array * 255).astype(np.uint8)


def _as_pixels(pixels: Bytes, name: str) -> Bytes:
    """Images as (N, H, W, 3)."""
    if pixels.dtype != np.uint8:
        raise ConfigError(f"the {name} images must be uint8 (got {pixels.dtype})", hint="scale them to 0 … 255")
    if pixels.ndim == 4 and pixels.shape[3] != 3 and pixels.shape[1] == 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.shape[1] != pixels.shape[2] or pixels.size == 0:
        raise ConfigError(
            f"the {name} images must be square, (N, H, W, 3) or (N, 3, H, W) (got {pixels.shape})",
            hint="repeat the channel of grey images three times",
        )
    return np.ascontiguousarray(pixels)


def _as_labels(labels: Labels, count: int, name: str) -> Labels:
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ConfigError(
            f"the {name} labels must be {count} whole numbers from 0 (got {labels.dtype} of shape {labels.shape})"
        )
    return labels.astype(np.int64)
