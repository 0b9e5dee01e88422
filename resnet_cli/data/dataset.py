"""Image data as bytes in memory: subsets, validation split, fingerprint, statistics (no torch)."""

import hashlib
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from resnet_cli.errors import ConfigError, InputError
from resnet_cli.rundir.records import MAX_CLASSES, MAX_NAME_LENGTH
from resnet_cli.util.seeding import derive_seed
from resnet_cli.util.text import shorten

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]


class Images(msgspec.Struct, frozen=True, eq=False):
    """Labelled images in a fixed order."""

    pixels: Bytes  # (N, H, W, 3)
    labels: Labels  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels | None) -> "Images":
        """The images at `indices`, in that order; None: all, without a copy."""
        if indices is None:
            return self
        return Images(np.ascontiguousarray(self.pixels[indices]), self.labels[indices])


class Source(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A dataset as it was published, before subsets and splits."""

    name: str
    """Name on the command line: `cifar10`, `cifar100`, `imagefolder` or `digits`."""
    display_name: str
    """Name in tables."""
    classes: tuple[str, ...]
    train: Images
    test: Images
    location: str | None = None
    """Folder that the images were read from; None for embedded data."""
    mean: tuple[float, float, float] | None = None
    """Published per-channel mean of pixels scaled to 0 … 1; None: computed from the training images."""
    std: tuple[float, float, float] | None = None


class Limits(NamedTuple):
    """Sizes of the parts of a dataset that a run uses."""

    train: int | None = None
    """Number of training images to keep (None: all)."""
    test: int | None = None
    val: int = 0
    """Number of the kept training images to hold out for validation."""

    def check(self, num_train: int, num_test: int, num_classes: int) -> None:
        """Raise `ConfigError` if a limit does not fit a dataset of these sizes."""
        for option, limit, count in (("--limit-train", self.train, num_train), ("--limit-test", self.test, num_test)):
            if limit not in (None, count) and not num_classes <= limit <= count:
                raise ConfigError(f"{option} must be between {num_classes} (one per class) and {count} (got {limit})")
        largest = (num_train if self.train is None else self.train) - num_classes
        if self.val and not num_classes <= self.val <= largest:
            raise ConfigError(f"--val-size must be between {num_classes} and {largest} (got {self.val})")


ALL = Limits()


class Dataset(Source, frozen=True, kw_only=True, eq=False):
    """Images of one run: a source with its subsets and validation split applied."""

    val: Images | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fingerprint: str
    """SHA-256 (hex) over training (with validation) and test images, after subsetting, before the split."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.train.pixels.shape[1])


def prepare(
    source: Source, *, limit_train: int | None = None, limit_test: int | None = None, val_size: int = 0, seed: int = 0
) -> Dataset:
    """Apply subsets and the validation split to a source.

    Args:
        source: the published data.
        limit_train: number of training images to keep; the subset is stratified and the same for every seed.
        limit_test: number of test images to keep, chosen in the same way.
        val_size: number of the kept training images to hold out, stratified; the split depends on `seed`.
        seed: seed of the run.

    Raises:
        ConfigError: a size does not fit the data.
        InputError: the data have too many classes for the record of a run.
    """
    source = _with_unicode_names(source)
    Limits(limit_train, limit_test, val_size).check(len(source.train), len(source.test), len(source.classes))
    train = source.train.take(subset_indices(source.train.labels, limit_train, "train"))
    test = source.test.take(subset_indices(source.test.labels, limit_test, "test"))
    fingerprint = fingerprint_of(train, test)
    mean, std = (source.mean, source.std) if source.mean and source.std else channel_statistics(train)
    val = None
    if val_size:
        chosen = stratified_indices(train.labels, val_size, derive_seed(seed, "val-split"))
        rest = np.setdiff1d(np.arange(len(train)), chosen)
        train, val = train.take(rest), train.take(chosen)
    changes = {"train": train, "val": val, "test": test, "mean": mean, "std": std, "fingerprint": fingerprint}
    return Dataset(**msgspec.structs.asdict(source) | changes)


def stratified_indices(labels: Labels, count: int, seed: int) -> Labels:
    """`count` sorted indices, the classes in proportion (largest remainder), chosen at random by `seed`."""
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    take = np.floor(exact).astype(np.int64)
    take[np.argsort(take - exact, kind="stable")[: count - int(take.sum())]] += 1
    random = np.random.Generator(np.random.PCG64(seed))
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:number]
        for label, number in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def fingerprint_of(*parts: Images) -> str:
    """SHA-256 (hex) over shapes, pixels and labels, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.pixels.shape).encode())
        digest.update(np.ascontiguousarray(part.pixels).data)
        digest.update(np.ascontiguousarray(part.labels, dtype="<i8").data)
    return digest.hexdigest()


def channel_statistics(images: Images) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel over all pixels (scaled to 0 … 1), to four decimals.

    The deviation is taken over all pixels; some codebases use the mean of per-image deviations instead.
    """
    counts = np.stack([np.bincount(images.pixels[..., c].ravel(), minlength=256) for c in range(3)])  # (3, 256)
    values = np.arange(256) / 255.0
    total = counts.sum(axis=1)
    mean = counts @ values / total
    std = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0.0))
    std = np.where(std < 5e-5, 1.0, std)  # a constant channel stays finite
    r, g, b = (round(float(m), 4) for m in mean)
    sr, sg, sb = (round(float(s), 4) for s in std)
    return (r, g, b), (sr, sg, sb)


def _with_unicode_names(source: Source) -> Source:
    """The source with the bytes of its names that are not UTF-8 as escapes, since run files cannot contain them."""
    if len(source.classes) > MAX_CLASSES:
        raise InputError(f"{source.location} has {len(source.classes):,} classes; expected at most {MAX_CLASSES:,}")

    def escaped(name: str) -> str:
        return name.encode(errors="backslashreplace").decode()

    return msgspec.structs.replace(
        source,
        display_name=shorten(escaped(source.display_name), MAX_NAME_LENGTH),
        classes=tuple(shorten(escaped(name), MAX_NAME_LENGTH) for name in source.classes),
        location=escaped(source.location) if source.location else source.location,
    )


def subset_indices(labels: Labels, limit: int | None, split: Literal["train", "test"]) -> Labels | None:
    """Sorted indices of the stratified subset of `limit` images of a split; None for all images."""
    if limit is None or limit == len(labels):
        return None
    # a fixed seed: the subset belongs to the dataset, not to the run
    return stratified_indices(labels, limit, derive_seed(0, "subset", f"--limit-{split}"))
