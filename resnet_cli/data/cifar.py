"""CIFAR-10 and CIFAR-100 in their published Python format: found or downloaded, verified, then parsed."""

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from resnet_cli.data.dataset import Images, Source
from resnet_cli.data.download import download, file_problem
from resnet_cli.data.locations import data_folder
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.text import one_line

_MAX_MEMBER_BYTES = 2**28  # CIFAR-100's training file has 155,249,918 bytes
# Names in the published files, which contain arrays pickled by NumPy 1.
_ALLOWED_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Published facts about one of the two datasets."""

    name: str
    """Name on the command line."""
    display_name: str
    size: int
    """Length of the archive in bytes."""
    sha256: str
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @property
    def files(self) -> Any:
        """The class in `torchvision.datasets`: names and MD5 of the files, address of the archive."""
        import torchvision  # late: it imports torch, which takes seconds

        return getattr(torchvision.datasets, self.name.upper())

    @property
    def md5(self) -> dict[str, str]:
        """MD5 of each file by its name: training batches in order, test batch, class names."""
        meta = self.files.meta
        return dict([*self.files.train_list, *self.files.test_list, (meta["filename"], meta["md5"])])


# SHA-256: `file_hash` in keras.datasets.cifar10 and .cifar100. Sizes: download logs of torchvision and Keras.
CIFAR10 = Spec(
    name="cifar10",
    display_name="CIFAR-10",
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    # std over all pixels; the often used 0.2023… is a mean of per-image deviations
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = Spec(
    name="cifar100",
    display_name="CIFAR-100",
    size=169_001_437,
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
)
SPECS = {spec.name: spec for spec in (CIFAR10, CIFAR100)}


def load_cifar(name: str, data_dir: Path | None, *, offline: bool = False, progress: Progress = silent) -> Source:
    """Read CIFAR-10 or CIFAR-100; no byte is parsed before its checksum is verified.

    The data folder is searched for the archive, then for the unpacked folder (`cifar-10-batches-py`,
    `cifar-100-python`; `data_dir` may also be that folder itself). If neither exists, the archive is downloaded from
    the address in `$RESNET_CIFAR10_URL` or `$RESNET_CIFAR100_URL`, else from the address that torchvision uses.

    The arguments are those of `load_source`.

    Returns:
        The images in published order; labels are `labels` (CIFAR-10) or `fine_labels` (CIFAR-100).

    Raises:
        ConfigError: the name is unknown.
        InputError: the dataset is missing, damaged, or cannot be downloaded.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
        https://www.cs.toronto.edu/~kriz/cifar.html describes the files.
    """
    if name not in SPECS:
        raise ConfigError(f"unknown dataset {name!r}", hint=f"choose {' or '.join(SPECS)}")
    spec = SPECS[name]
    folder = data_folder(data_dir)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder", hint="point --data-dir at the folder of the archive")
        archive, unpacked = folder / spec.files.filename, _unpacked(spec, folder)
        if unpacked and not (archive.is_file() and _is_intact(spec, archive)):
            return _source(spec, _read_folder(spec, unpacked), unpacked, progress)
        if not archive.exists():
            if offline:
                hint = f"run: resnet data fetch {name}" + (f" --data-dir {data_dir}" if data_dir else "")
                raise InputError(f"{spec.display_name} not found in {folder}", hint=hint)
            hint = f"download {archive.name} to {folder}, or point --data-dir at its folder"
            url = os.environ.get(f"RESNET_{name.upper()}_URL") or spec.files.url
            download(url, archive, size=spec.size, sha256=spec.sha256, hint=hint, progress=progress)
        if not archive.is_file():  # opening a pipe would block
            raise InputError(f"{archive} is not a file", hint="remove it or use --data-dir")
        return _source(spec, _read_archive(spec, archive), folder, progress)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: {error.strerror or error}", hint="make it readable or use --data-dir"
        ) from error


def _unpacked(spec: Spec, folder: Path) -> Path | None:
    """The unpacked dataset: a folder in `folder`, or `folder` itself; None if there is neither.

    A folder of another name counts only if it has every file, since any folder may contain a file named `test`.
    """
    for place in (folder / spec.files.base_folder, folder):
        names = [spec.files.test_list[0][0]] if place.name == spec.files.base_folder else spec.md5
        if all((place / name).is_file() for name in names):
            return place
    return None


def _is_intact(spec: Spec, archive: Path) -> bool:
    with open(archive, "rb") as file:
        return file_problem(file, size=spec.size, sha256=spec.sha256) is None


def _read_archive(spec: Spec, archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member, in the order of the archive, which needs only one pass."""
    names = {f"{spec.files.base_folder}/{name}": name for name in spec.md5}
    with open(archive, "rb") as file:
        # the same open file is verified and parsed, so that it cannot be replaced in between
        if problem := file_problem(file, size=spec.size, sha256=spec.sha256):
            hint = f"delete it and run: resnet data fetch {spec.name} --data-dir {archive.parent}"
            raise InputError(f"{archive} is damaged: {problem}", hint=hint)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r|gz") as members:
            for member in members:
                if member.name in names and (content := members.extractfile(member)):
                    yield names[member.name], content.read()


def _read_folder(spec: Spec, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file."""
    hint = f"unpack {spec.files.filename} again, or use another --data-dir"
    for name, expected in spec.md5.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing", hint=hint)
        with open(path, "rb") as file:
            data = file.read(_MAX_MEMBER_BYTES)
        actual = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if actual != expected:
            raise InputError(f"{path} is damaged: MD5 is {actual}, not {expected}", hint=hint)
        yield name, data


class _Unpickler(pickle.Unpickler):
    """Resolves only the names of arrays: a second line of defence, since checksums guarantee the content."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_NAMES:
            raise ValueError(f"it refers to {module}.{name}")
        return _ALLOWED_NAMES[module, name]


def _parse(data: bytes, where: str) -> dict[bytes, Any]:
    try:
        return cast("dict[bytes, Any]", _Unpickler(io.BytesIO(data), encoding="bytes").load())
    except Exception as error:  # unpickling raises almost anything
        raise InputError(f"{where} is not a CIFAR file: {one_line(error)}") from error


def _source(spec: Spec, contents: Iterator[tuple[str, bytes]], location: Path, progress: Progress) -> Source:
    """Parse verified files, in any order, and combine them into a source."""
    label, total, known = f"reading {spec.display_name}", len(spec.md5), spec.files
    parsed: dict[str, dict[bytes, Any]] = {}
    for name, data in contents:
        progress(label, len(parsed), total, "files")
        parsed[name] = _parse(data, f"{location}: {name}")
    progress(label, total, total, "files")
    classes = parsed[known.meta["filename"]][known.meta["key"].encode()]
    return Source(
        name=spec.name,
        display_name=spec.display_name,
        classes=tuple(name.decode("ascii") for name in classes),
        train=_images([parsed[name] for name, _ in known.train_list]),
        test=_images([parsed[name] for name, _ in known.test_list]),
        location=str(location.resolve()),
        mean=spec.mean,
        std=spec.std,
    )


def _images(batches: list[dict[bytes, Any]]) -> Images:
    # each row of b"data" is the red, the green and the blue plane of an image
    planes = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch.get(b"fine_labels") or batch[b"labels"]]
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64))
