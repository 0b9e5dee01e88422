"""CIFAR-10 and CIFAR-100 in their published Python form: found or downloaded, verified, then parsed."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from resnet_cli.data.archives import read_members
from resnet_cli.data.dataset import Images, Source
from resnet_cli.data.download import download, file_problem
from resnet_cli.data.locations import data_folder
from resnet_cli.data.pickles import read_pickle
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.util.progress import Progress, silent

IMAGE_BYTES = 3 * 32 * 32
# A batch holds, besides the pixels, a file name and one or two labels an image.
_MAX_BYTES_BESIDES_PIXELS = 64
_MAX_BYTES_BESIDES_IMAGES = 2**16


class Member(msgspec.Struct, frozen=True):
    """One file of the dataset."""

    name: str
    md5: str
    num_images: int = 0
    """0: the file that names the classes."""

    @property
    def max_bytes(self) -> int:
        """More than the file can have."""
        return self.num_images * (IMAGE_BYTES + _MAX_BYTES_BESIDES_PIXELS) + _MAX_BYTES_BESIDES_IMAGES


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What is published about one of the two datasets."""

    name: str
    """As on the command line."""
    display_name: str
    archive: str
    """File name of the archive."""
    size: int
    """Length of the archive in bytes."""
    sha256: str
    folder: str
    """Folder inside the archive."""
    train: tuple[Member, ...]
    test: Member
    meta: Member
    label_key: bytes
    names_key: bytes
    num_classes: int
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    torchvision_class: str
    """The class in `torchvision.datasets` that knows the address."""
    mirror_variable: str
    """Environment variable that may name another address; the checksums hold for it too."""

    @property
    def members(self) -> tuple[Member, ...]:
        """All files: training batches in order, test batch, class names."""
        return (*self.train, self.test, self.meta)


# MD5 of the members: torchvision.datasets.CIFAR10.train_list, .test_list and .meta, and the same of CIFAR100.
# SHA-256 of the archives: `file_hash` in keras.datasets.cifar10 and .cifar100. Their sizes: what cs.toronto.edu sends,
# as logs of torchvision's and Keras's downloads show.
CIFAR10 = Spec(
    name="cifar10",
    display_name="CIFAR-10",
    archive="cifar-10-python.tar.gz",
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    folder="cifar-10-batches-py",
    train=(
        Member("data_batch_1", "c99cafc152244af753f735de768cd75f", 10_000),
        Member("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", 10_000),
        Member("data_batch_3", "54ebc095f3ab1f0389bbae665268c751", 10_000),
        Member("data_batch_4", "634d18415352ddfa80567beed471001a", 10_000),
        Member("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", 10_000),
    ),
    test=Member("test_batch", "40351d587109b95175f43aff81a1287e", 10_000),
    meta=Member("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    label_key=b"labels",
    names_key=b"label_names",
    num_classes=10,
    # standard deviation of all pixels; the widespread 0.2023… is a mean of per-image deviations
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    torchvision_class="CIFAR10",
    mirror_variable="RESNET_CIFAR10_URL",
)
CIFAR100 = Spec(
    name="cifar100",
    display_name="CIFAR-100",
    archive="cifar-100-python.tar.gz",
    size=169_001_437,
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    folder="cifar-100-python",
    train=(Member("train", "16019d7e3df5f24257cddd939b257f8d", 50_000),),
    test=Member("test", "f0ef6b0ae62326f3e7ffdfab6717acfc", 10_000),
    meta=Member("meta", "7973b15100ade9c7d40fb424638fde48"),
    label_key=b"fine_labels",
    names_key=b"fine_label_names",
    num_classes=100,
    torchvision_class="CIFAR100",
    mirror_variable="RESNET_CIFAR100_URL",
)
SPECS = {spec.name: spec for spec in (CIFAR10, CIFAR100)}


def load_cifar(name: str, data_dir: Path | None, *, offline: bool = False, progress: Progress = silent) -> Source:
    """Read CIFAR-10 or CIFAR-100, after verifying every byte of it.

    What lies in the data folder is used first: the archive, else the unpacked folder (`cifar-10-batches-py`,
    `cifar-100-python`; `data_dir` may also be that folder itself). Where there is neither, the archive is downloaded
    from the address that torchvision knows, or from the one in `$RESNET_CIFAR10_URL` or `$RESNET_CIFAR100_URL`.

    Args:
        name: `cifar10` or `cifar100`.
        data_dir: the data folder; None: `$RESNET_DATA`, else the user's cache folder.
        offline: never download.
        progress: told the bytes that are downloaded, then the files that are read.

    Returns:
        the images in published order, labels `labels` (CIFAR-10) or `fine_labels` (CIFAR-100).

    Raises:
        ConfigError: there is no such dataset.
        InputError: the dataset is missing, damaged, or cannot be downloaded.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
        https://www.cs.toronto.edu/~kriz/cifar.html describes the files.
    """
    if name not in SPECS:
        raise ConfigError(f"dataset {name!r} is not one of {', '.join(SPECS)}")
    spec = SPECS[name]
    folder = data_folder(data_dir)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder", hint="--data-dir names the folder that the archive lies in")
        archive, unpacked = folder / spec.archive, _unpacked(spec, folder)
        if unpacked and not (archive.is_file() and _is_intact(spec, archive)):
            return _source(spec, _from_folder(spec, unpacked), unpacked, progress)
        if not archive.exists():
            if offline:
                hint = f"resnet data fetch {spec.name}" + (f" --data-dir {data_dir}" if data_dir else "")
                raise InputError(f"{spec.display_name} is not in {folder}", hint=hint)
            _fetch(spec, folder, progress)
        return _source(spec, _from_archive(spec, archive), folder, progress)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: {error.strerror or error}", hint="make it readable or use --data-dir"
        ) from error


def _fetch(spec: Spec, folder: Path, progress: Progress) -> None:
    hint = f"put {spec.archive} into {folder} by hand, or use --data-dir where it lies"
    download(_address(spec), folder / spec.archive, size=spec.size, sha256=spec.sha256, hint=hint, progress=progress)


def _address(spec: Spec) -> str:
    if mirror := os.environ.get(spec.mirror_variable):
        return mirror
    import torchvision  # late: it imports torch, which only a download is worth

    return str(getattr(torchvision.datasets, spec.torchvision_class).url)


def _unpacked(spec: Spec, folder: Path) -> Path | None:
    """The unpacked dataset in `folder`, which may itself be it; None where there is none."""
    return next((place for place in (folder / spec.folder, folder) if (place / spec.test.name).is_file()), None)


def _is_intact(spec: Spec, archive: Path) -> bool:
    with open(archive, "rb") as file:
        return file_problem(file, size=spec.size, sha256=spec.sha256) is None


def _from_archive(spec: Spec, archive: Path) -> Iterator[tuple[str, bytes]]:
    limits = {f"{spec.folder}/{member.name}": member.max_bytes for member in spec.members}
    with open(archive, "rb") as file:
        # the file that is parsed is the open one whose checksum is right, whatever its name comes to mean
        if problem := file_problem(file, size=spec.size, sha256=spec.sha256):
            hint = f"delete it, then resnet data fetch {spec.name}"
            raise InputError(f"{archive} is damaged: {problem}", hint=hint)
        file.seek(0)
        for name, data in read_members(file, str(archive), limits):
            yield name.removeprefix(f"{spec.folder}/"), data


def _from_folder(spec: Spec, folder: Path) -> Iterator[tuple[str, bytes]]:
    for member in spec.members:
        path = folder / member.name
        hint = f"delete {folder}, then resnet data fetch {spec.name}"
        if not path.is_file():
            raise InputError(f"{path} is missing", hint=hint)
        with open(path, "rb") as file:
            data = file.read(member.max_bytes + 1)
        actual = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if actual != member.md5:
            raise InputError(f"{path} is damaged: MD5 is {actual}, not {member.md5}", hint=hint)
        yield member.name, data


def _source(spec: Spec, contents: Iterable[tuple[str, bytes]], location: Path, progress: Progress) -> Source:
    """Put verified files together; they may come in any order."""
    batches = (*spec.train, spec.test)
    num_train, num_images = sum(b.num_images for b in spec.train), sum(b.num_images for b in batches)
    starts = dict(zip((b.name for b in batches), np.cumsum([0, *(b.num_images for b in batches)]), strict=False))
    pixels = np.empty((num_images, 32, 32, 3), np.uint8)
    labels = np.empty(num_images, np.int64)
    members = {member.name: member for member in spec.members}
    classes: tuple[str, ...] = ()
    for done, (name, data) in enumerate(contents):
        progress(f"reading {spec.display_name}", done, len(members), "files")
        values, where = read_pickle(data, f"{location}: {name}"), f"{location}: {name}"
        if name == spec.meta.name:
            classes = _classes(spec, values, where)
            continue
        part = slice(starts[name], starts[name] + members[name].num_images)
        planes = _pixels(values, members[name], where).reshape(-1, 3, 32, 32)  # red, green, blue
        pixels[part] = planes.transpose(0, 2, 3, 1)
        labels[part] = _labels(spec, values, members[name], where)
    progress(f"reading {spec.display_name}", len(members), len(members), "files")
    return Source(
        name=spec.name, display_name=spec.display_name, classes=classes, location=str(location.resolve()),
        train=Images(pixels[:num_train], labels[:num_train]), test=Images(pixels[num_train:], labels[num_train:]),
        mean=spec.mean, std=spec.std,
    )  # fmt: skip


def _pixels(values: dict[bytes, Any], member: Member, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = values.get(b"data")
    if not isinstance(data, np.ndarray) or data.shape != (member.num_images, IMAGE_BYTES):
        raise InputError(f"{where} does not hold {member.num_images:,} images of {IMAGE_BYTES} bytes")
    return data


def _labels(spec: Spec, values: dict[bytes, Any], member: Member, where: str) -> list[int]:
    labels = values.get(spec.label_key)
    if not isinstance(labels, list) or len(labels) != member.num_images:
        raise InputError(f"{where} does not hold {member.num_images:,} labels")
    if wrong := [label for label in labels if type(label) is not int or not 0 <= label < spec.num_classes]:
        shown = wrong[0] if type(wrong[0]) is int else f"of type {type(wrong[0]).__name__}"
        raise InputError(f"{where} has a label {shown}, not 0 … {spec.num_classes - 1}")
    return labels


def _classes(spec: Spec, values: dict[bytes, Any], where: str) -> tuple[str, ...]:
    names = values.get(spec.names_key)
    if isinstance(names, list) and len(names) == spec.num_classes and all(type(name) is bytes for name in names):
        return tuple(name.decode("ascii", "backslashreplace") for name in names)
    raise InputError(f"{where} does not name {spec.num_classes} classes")
