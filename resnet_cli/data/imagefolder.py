"""Image folders: `train/<class>/*` and `test/<class>/*`, decoded once and then read from a cache."""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image

from resnet_cli.data.dataset import Bytes, Images, Source, fingerprint_of
from resnet_cli.data.locations import cache_folder, named_data_folder
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.util.files import write_atomic
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.text import one_line

IMAGE_SIZE = 32  # height and width in pixels, as in CIFAR
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp"})
# https://www.cs.toronto.edu/~kriz/cifar.html
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Pillow has dozens of decoders; a file here can reach only these.
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
# Modes that Pillow converts to RGB faithfully; it clips 16-bit and float pixels instead of scaling them.
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_LAYOUT = "an image folder contains train/<class>/* and test/<class>/*"
_CACHE_VERSION = 1
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


class _Decoded(NamedTuple):
    """All images of a tree."""

    pixels: Bytes  # (N, 32, 32, 3)
    formats: frozenset[str]


def load_imagefolder(
    data_dir: Path | None, *, progress: Progress = silent, warn: Callable[[str], None] | None = None
) -> Source:
    """Read an image folder, from the cache if nothing changed since it was last decoded.

    Classes are the sorted folder names under `train`; images are sorted by file name. Hidden files
    and files with other extensions are ignored.

    Args:
        data_dir: folder that contains `train` and `test`; None: `$RESNET_DATA`.
        progress: receives the number of decoded images.
        warn: receives a message when the decoded images cannot be cached.

    Raises:
        ConfigError: no folder is given.
        InputError: the folder has another layout, or an image cannot be decoded or is not 32×32.
    """
    tree = _scan(_folder(data_dir))
    cache = _cache_path(tree)
    decoded = _read_cache(cache, tree) if cache else None
    if decoded is None:
        decoded = _decode(tree, progress)
        problem = _write_cache(cache, tree, decoded)
        if problem and warn:
            warn(f"{problem}: the images will be decoded again next time")
    return _source(tree, decoded)


def verify_imagefolder(data_dir: Path | None, *, progress: Progress = silent) -> Source:
    """Decode an image folder again and compare it with the cache, if there is one; writes nothing.

    Raises:
        ConfigError: no folder is given.
        InputError: as `load_imagefolder`, or the cache differs from the decoded images.
    """
    tree = _scan(_folder(data_dir))
    decoded = _decode(tree, progress)
    cache = _cache_path(tree)
    if cache and cache.exists():
        cached = _read_cache(cache, tree)
        if cached is None or not np.array_equal(cached.pixels, decoded.pixels):
            raise InputError(f"{cache} does not match the images in {tree.root}", hint="delete it; it will be rebuilt")
    return _source(tree, decoded)


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


def _decode(tree: _Tree, progress: Progress) -> _Decoded:
    count = len(tree.files)
    pixels = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    formats: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an image is either correct or refused in one line
        # one thread: at this size Pillow holds the interpreter lock most of the time
        for i, file in enumerate(tree.files):
            if i % _REPORT_EVERY == 0:
                progress("decoding images", i, count, "images")
            formats.add(_decode_one(file.path, pixels[i]))
    progress("decoding images", count, count, "images")
    return _Decoded(pixels, frozenset(formats))


def _decode_one(path: Path, target: Bytes) -> str:
    """Decode `path` into `target` (32, 32, 3) and return its format."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # the header is checked before any pixel is decoded, so that no image can claim gigabytes
            size, mode, image_format = image.size, image.mode, image.format
            if size == (IMAGE_SIZE, IMAGE_SIZE) and mode in _MODES:
                target[:] = np.asarray(image.convert("RGB"))
        if image_format == "PNG":  # only `verify` compares its checksums
            with Image.open(path, formats=_FORMATS) as image:
                image.verify()
    except Exception as error:  # decoders of damaged images raise almost anything
        is_unknown = isinstance(error, PIL.UnidentifiedImageError)
        reason = "not an image of a supported format" if is_unknown else one_line(error)
        raise InputError(f"{path} cannot be decoded: {reason}", hint="replace or remove it") from error
    if size != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"{path} is {size[0]}×{size[1]} pixels, not {IMAGE_SIZE}×{IMAGE_SIZE}", hint="resize the images first"
        )
    if mode not in _MODES:
        raise InputError(f"{path} has pixels of mode {mode}, not 8 bits per channel", hint="convert the images first")
    return image_format or "unknown"


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


def _read_cache(cache: Path, tree: _Tree) -> _Decoded | None:
    """The decoded images in `cache`; None if it is missing or damaged, since it can be rebuilt."""
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            decoded = _Decoded(arrays["pixels"], frozenset(str(name) for name in arrays["formats"]))
            fingerprint = str(arrays["fingerprint"])
    except Exception:  # np.load of a damaged archive raises almost anything
        return None
    if decoded.pixels.shape != (len(tree.files), IMAGE_SIZE, IMAGE_SIZE, 3) or decoded.pixels.dtype != np.uint8:
        return None
    return decoded if fingerprint_of(*tree.split(decoded.pixels)) == fingerprint else None


def _write_cache(cache: Path | None, tree: _Tree, decoded: _Decoded) -> str | None:
    """Write the cache; return the problem if that fails."""
    if cache is None:
        return "no cache folder (set XDG_CACHE_HOME)"
    fingerprint = fingerprint_of(*tree.split(decoded.pixels))
    buffer = io.BytesIO()
    np.savez(buffer, pixels=decoded.pixels, formats=sorted(decoded.formats), fingerprint=fingerprint)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache, buffer.getvalue())
    except OSError as error:
        return f"{cache.parent}: {error.strerror}"
    return None


def _source(tree: _Tree, decoded: _Decoded) -> Source:
    train, test = tree.split(decoded.pixels)
    display_name = tree.root.name
    if tree.classes == CIFAR10_CLASSES:
        only = "".join(decoded.formats) if len(decoded.formats) == 1 else None
        display_name = f"CIFAR-10 ({only if only in ('JPEG', 'PNG') else 'images'})"
    return Source(
        name="imagefolder",
        display_name=display_name,
        classes=tree.classes,
        train=train,
        test=test,
        location=str(tree.root),
    )
