"""Image folders: `train/<class>/*` and `test/<class>/*`, decoded once and then read from a cache."""

import errno
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import PIL
from PIL import Image

from resnet_cli.data.dataset import ALL, Bytes, Images, Limits, Source, fingerprint_of, subset_indices
from resnet_cli.data.locations import cache_folder, named_data_folder
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.util.files import write_atomic
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.text import one_line

IMAGE_SIZE = 32  # height and width in pixels, as in CIFAR
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp"})
# https://www.cs.toronto.edu/~kriz/cifar.html
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Pillow has dozens of decoders; only these are enabled.
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
# Modes that Pillow converts to RGB faithfully; it clips 16-bit and float pixels instead of scaling them.
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}  # names of formats in display names
_LAYOUT = "an image folder contains train/<class>/* and test/<class>/*"
_CACHE_VERSION = 2
_REPORT_EVERY = 256  # images


class _File(NamedTuple):
    """An image file, identified by its path, size and times."""

    path: Path
    label: int
    size: int
    modified_ns: int
    changed_ns: int


class _Tree(NamedTuple):
    """The classes and files of an image folder, before anything is decoded."""

    root: Path
    classes: tuple[str, ...]
    files: list[_File]
    """Training images first."""
    num_train: int

    def split(self, pixels: Bytes) -> tuple[Images, Images]:
        """Training and test images, given the pixels of all files."""
        labels = np.array([file.label for file in self.files], np.int64)
        train, test = slice(self.num_train), slice(self.num_train, None)
        return Images(pixels[train], labels[train]), Images(pixels[test], labels[test])

    def subset(self, limits: Limits) -> "_Tree":
        """The tree with the images that `prepare` keeps with these limits; raises `ConfigError` if they do not fit."""
        train, test = self.files[: self.num_train], self.files[self.num_train :]
        limits.check(len(train), len(test), len(self.classes))
        train, test = _limited(train, limits.train, "train"), _limited(test, limits.test, "test")
        return self._replace(files=train + test, num_train=len(train))

    @property
    def display_name(self) -> str:
        """Name of the folder; for the classes of CIFAR-10, that dataset and the format of its images."""
        if self.classes != CIFAR10_CLASSES:
            return self.root.name
        formats = {_FORMAT_OF.get(file.path.suffix.lower(), "images") for file in self.files}
        return f"CIFAR-10 ({formats.pop() if len(formats) == 1 else 'images'})"


def _limited(files: list[_File], limit: int | None, split: Literal["train", "test"]) -> list[_File]:
    labels = np.array([file.label for file in files], np.int64)
    indices = subset_indices(labels, limit, split)
    return files if indices is None else [files[i] for i in indices]


def load_imagefolder(
    data_dir: Path | None,
    *,
    limits: Limits = ALL,
    verify: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] | None = None,
) -> Source:
    """Read an image folder, from the cache if nothing changed since it was last decoded.

    Classes are the sorted folder names under `train`; images are sorted by file name. Hidden files
    and files with other extensions are ignored.

    The arguments are those of `load_source`; `data_dir` contains `train` and `test`, None: `$RESNET_DATA`.

    Raises:
        ConfigError: no folder is given, or a limit does not fit the data.
        InputError: the folder has another layout, an image cannot be decoded or is not 32×32, or the cache differs.
    """
    whole = _scan(_folder(data_dir))
    tree = whole.subset(limits)
    cache = _cache_path(tree)
    pixels = cached = _read_cache(cache, tree) if cache else None
    if pixels is None or verify:
        pixels = _decode(tree, progress)
        if not verify:
            _write_cache(cache, tree, pixels, warn)
        elif cache and cache.exists() and (cached is None or not np.array_equal(cached, pixels)):
            raise InputError(f"{cache} does not match the images in {tree.root}", hint="delete it; it will be rebuilt")
    train, test = tree.split(pixels)
    return Source(
        name="imagefolder", display_name=whole.display_name, classes=tree.classes, train=train, test=test,
        location=str(tree.root),
    )  # fmt: skip


def _folder(data_dir: Path | None) -> Path:
    folder = data_dir or named_data_folder()
    if folder is None:
        raise ConfigError("imagefolder needs a folder", hint="use --data-dir FOLDER or set RESNET_DATA")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint=f"point --data-dir at an image folder; {_LAYOUT}")
    return folder.resolve()


def _scan(root: Path) -> _Tree:
    try:
        train, test = (_class_names(root / split) for split in ("train", "test"))
        if train != test:
            differing = ", ".join(sorted(set(train) ^ set(test))[:5])
            raise InputError(f"{root}: train and test have different classes: {differing}", hint=_LAYOUT)
        splits = [
            [file for label, name in enumerate(train) for file in _images_in(root / split / name, label)]
            for split in ("train", "test")
        ]
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}", hint="make it readable or remove it") from error
    return _Tree(root, tuple(train), splits[0] + splits[1], len(splits[0]))


def _class_names(split: Path) -> list[str]:
    if not split.is_dir():
        raise InputError(f"{split} is missing", hint=_LAYOUT)
    names = sorted(entry.name for entry in _visible(split) if entry.is_dir())
    if not names:
        raise InputError(f"{split} has no class folders", hint=_LAYOUT)
    return names


def _images_in(folder: Path, label: int) -> list[_File]:
    files = []
    for entry in _visible(folder):
        path = folder / entry.name
        if path.suffix.lower() not in EXTENSIONS or entry.is_dir():
            continue
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
            raise InputError(f"{path} is not a regular file", hint="remove it")
        files.append(_File(path, label, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    if not files:
        raise InputError(f"{folder} has no images", hint=f"supported extensions: {' '.join(sorted(EXTENSIONS))}")
    return sorted(files)


def _visible(folder: Path) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _decode(tree: _Tree, progress: Progress) -> Bytes:
    """The pixels of all images: (N, 32, 32, 3)."""
    count = len(tree.files)
    pixels = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an image is either correct or refused in one line
        # one thread: at this size Pillow holds the interpreter lock most of the time
        for i, file in enumerate(tree.files):
            if i % _REPORT_EVERY == 0:
                progress("decoding images", i, count, "images")
            pixels[i] = _decode_one(file.path)
    progress("decoding images", count, count, "images")
    return pixels


def _decode_one(path: Path) -> Bytes:
    """The pixels of an image: (32, 32, 3)."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # the header is checked before any pixel is decoded, so that no image can claim gigabytes
            if image.size != (IMAGE_SIZE, IMAGE_SIZE):
                width, height = image.size
                problem = f"{path} is {width}×{height} pixels, not {IMAGE_SIZE}×{IMAGE_SIZE}"
                raise InputError(problem, hint="resize the images first")
            if image.mode not in _MODES:
                problem = f"{path} has pixels of mode {image.mode}, not 8 bits per channel"
                raise InputError(problem, hint="convert the images first")
            pixels = np.asarray(image.convert("RGB"))
        if image.format == "PNG":  # only `verify` compares its checksums
            with Image.open(path, formats=_FORMATS) as image:
                image.verify()
    except InputError:
        raise
    except Exception as error:  # decoders of damaged images raise almost anything
        is_unknown = isinstance(error, PIL.UnidentifiedImageError)
        reason = "not an image of a supported format" if is_unknown else one_line(error)
        raise InputError(f"{path} cannot be decoded: {reason}", hint="replace or remove it") from error
    return pixels


def _cache_path(tree: _Tree) -> Path | None:
    """Cache file for the decoded images of `tree`; None if the account has no cache folder.

    The name depends on each file's path, size and times, and on the version of the decoder, which may round
    differently. The change time, which no program can set, distinguishes trees unpacked with equal sizes and times.
    """
    digest = hashlib.sha256(f"{_CACHE_VERSION} {PIL.__version__} {tree.num_train}\n".encode())
    for path, label, *facts in sorted(tree.files):
        digest.update(f"{os.fsencode(path.relative_to(tree.root))!r} {label} {facts}\n".encode())
    try:
        return cache_folder() / "imagefolder" / f"{digest.hexdigest()}.npz"
    except ConfigError:
        return None


def _read_cache(cache: Path, tree: _Tree) -> Bytes | None:
    """The decoded images in `cache`; None if it is missing, damaged or another user's, since it can be rebuilt."""
    try:
        with _open_own(cache) as file, np.load(file, allow_pickle=False) as arrays:
            pixels, fingerprint, of_tree = arrays["pixels"], str(arrays["fingerprint"]), str(arrays["tree"])
    except Exception:  # np.load of a damaged archive raises almost anything
        return None
    if pixels.shape != (len(tree.files), IMAGE_SIZE, IMAGE_SIZE, 3) or pixels.dtype != np.uint8:
        return None
    return pixels if (fingerprint_of(*tree.split(pixels)), cache.stem) == (fingerprint, of_tree) else None


def _open_own(cache: Path) -> BinaryIO:
    """Open a regular file that nobody but this user can have written; raises `PermissionError` for any other file."""
    # without waiting for the writer of a pipe
    descriptor = os.open(cache, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and _is_private(cache.parent):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise PermissionError(cache)


def _is_private(folder: Path) -> bool:
    """Whether `folder` is a folder, not a link, that only this user can write to."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _write_cache(cache: Path | None, tree: _Tree, pixels: Bytes, warn: Callable[[str], None] | None) -> None:
    problem = "no cache folder (set XDG_CACHE_HOME)"
    if cache:
        try:
            _make_private(cache.parent)
            buffer = io.BytesIO()
            np.savez(buffer, pixels=pixels, fingerprint=fingerprint_of(*tree.split(pixels)), tree=cache.stem)
            write_atomic(cache, buffer.getvalue())
            return
        except OSError as error:
            problem = f"{cache.parent}: {error.strerror}"
    if warn:
        warn(f"{problem}: the images will be decoded again next time")


def _make_private(folder: Path) -> None:
    """Create `folder` for this user alone; raises `OSError` if it belongs to another user or is a link."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not folder.is_symlink() and folder.lstat().st_uid == os.getuid():
        folder.chmod(0o700)
    if not _is_private(folder):
        raise PermissionError(errno.EPERM, "not a private folder of this user", str(folder))
