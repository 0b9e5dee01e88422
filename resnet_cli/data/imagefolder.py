"""Image folders: `train/<class>/*` and `test/<class>/*`, decoded once and then read from a cache."""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Sequence
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

IMAGE_SIZE = 32  # height and width in pixels, as in CIFAR
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp"})
# https://www.cs.toronto.edu/~kriz/cifar.html
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# Pillow has dozens of decoders; these are the ones that a file here may reach.
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
# Modes that Pillow converts to RGB faithfully; it clips 16-bit and float pixels instead of scaling them.
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_LAYOUT = "an image folder holds train/<class>/* and test/<class>/*"
_CACHE_VERSION = 1
_REPORT_EVERY = 256  # images


class _File(NamedTuple):
    """One image file, identified by what its folder says of it."""

    path: Path
    label: int
    size: int
    modified_ns: int
    changed_ns: int


class _Tree(NamedTuple):
    """What an image folder holds, before anything is decoded."""

    root: Path
    classes: tuple[str, ...]
    train: list[_File]
    test: list[_File]

    @property
    def files(self) -> list[_File]:
        return self.train + self.test


class _Decoded(NamedTuple):
    """All images of a tree, training images first."""

    pixels: Bytes  # (N, 32, 32, 3)
    formats: frozenset[str]


def _ignore(message: str) -> None:
    """The warning nobody reads."""


def load_imagefolder(
    data_dir: Path | None, *, progress: Progress = silent, warn: Callable[[str], None] = _ignore
) -> Source:
    """Read an image folder, from the cache where it is unchanged since it was last decoded.

    Classes are the sorted folder names under `train`; images are sorted by file name. Hidden files
    and files with other extensions are left out.

    Args:
        data_dir: folder that holds `train` and `test`; None: `$RESNET_DATA`.
        progress: told how many images are decoded.
        warn: told when the decoded images cannot be cached.

    Raises:
        ConfigError: no folder is named.
        InputError: the folder is not laid out as it should be, or an image cannot be decoded or is not 32×32.
    """
    tree = _scan(_folder(data_dir))
    cache = _cache_path(tree)
    decoded = _read_cache(cache, tree) if cache else None
    if decoded is None:
        decoded = _decode(tree, progress)
        _write_cache(cache, tree, decoded, warn)
    return _source(tree, decoded)


def verify_imagefolder(data_dir: Path | None, *, progress: Progress = silent) -> Source:
    """Decode an image folder afresh and compare it with the cache, if there is one; writes nothing.

    Raises:
        ConfigError: no folder is named.
        InputError: as `load_imagefolder`, or the cache does not hold what the images decode to.
    """
    tree = _scan(_folder(data_dir))
    decoded = _decode(tree, progress)
    cache = _cache_path(tree)
    if cache and cache.exists():
        cached = _read_cache(cache, tree)
        if cached is None or not np.array_equal(cached.pixels, decoded.pixels):
            raise InputError(f"{cache} does not hold the images of {tree.root}", hint="delete it; it is made anew")
    return _source(tree, decoded)


def _folder(data_dir: Path | None) -> Path:
    folder = data_dir or named_data_folder()
    if folder is None:
        raise ConfigError("imagefolder needs a folder", hint="use --data-dir FOLDER or set RESNET_DATA")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint=f"--data-dir names it; {_LAYOUT}")
    return folder.resolve()


def _scan(root: Path) -> _Tree:
    train, test = root / "train", root / "test"
    classes, test_classes = _class_names(train), _class_names(test)
    if classes != test_classes:
        differing = sorted(set(classes) ^ set(test_classes))
        raise InputError(
            f"{root}: train and test have different classes: {', '.join(differing[:5])}",
            hint=f"mend the tree: {_LAYOUT}",
        )
    labelled = list(enumerate(classes))
    return _Tree(
        root,
        tuple(classes),
        [file for label, name in labelled for file in _images_in(train / name, label)],
        [file for label, name in labelled for file in _images_in(test / name, label)],
    )


def _class_names(split: Path) -> list[str]:
    if not split.is_dir():
        raise InputError(f"{split} is missing", hint=_LAYOUT)
    names = sorted(entry.name for entry in _entries(split) if entry.is_dir())
    if not names:
        raise InputError(f"{split} holds no class folders", hint=_LAYOUT)
    return names


def _images_in(folder: Path, label: int) -> list[_File]:
    files = []
    for entry in _entries(folder):
        path = folder / entry.name
        if path.suffix.lower() not in EXTENSIONS or entry.is_dir():
            continue
        try:
            status = entry.stat()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint="mend or remove it") from error
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise InputError(f"{path} is not a regular file", hint="remove it")
        files.append(_File(path, label, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    if not files:
        raise InputError(f"{folder} holds no images", hint=f"known extensions: {' '.join(sorted(EXTENSIONS))}")
    return sorted(files)


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", hint="make it readable") from error


def _decode(tree: _Tree, progress: Progress) -> _Decoded:
    files = tree.files
    pixels = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    formats: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an image is either right or refused in one line
        # one thread: at this size Pillow holds the interpreter lock for most of the time
        for i, file in enumerate(files):
            if i % _REPORT_EVERY == 0:
                progress("decoding images", i, len(files), "images")
            formats.add(_decode_one(file.path, pixels[i]))
    progress("decoding images", len(files), len(files), "images")
    return _Decoded(pixels, frozenset(formats))


def _decode_one(path: Path, target: Bytes) -> str:
    """Decode `path` into `target` (32, 32, 3) and return its format."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # the header decides before a pixel is decoded, so that no image can claim gigabytes
            size, mode, image_format = image.size, image.mode, image.format
            if size == (IMAGE_SIZE, IMAGE_SIZE) and mode in _MODES:
                target[:] = np.asarray(image.convert("RGB"))
        if image_format == "PNG":  # its checksums are looked at by `verify` only
            with Image.open(path, formats=_FORMATS) as image:
                image.verify()
    except Exception as error:  # decoders of damaged images raise almost anything
        raise InputError(f"{path} cannot be decoded: {_reason(error, path)}", hint="mend or remove it") from error
    if size != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"{path} is {size[0]}×{size[1]} pixels, not {IMAGE_SIZE}×{IMAGE_SIZE}", hint="resize the images first"
        )
    if mode not in _MODES:
        raise InputError(f"{path} has pixels of mode {mode}, not 8 bits a channel", hint="convert the images first")
    return image_format or "unknown"


def _reason(error: Exception, path: Path) -> str:
    """What `error` says, on one line, without the path that the message names already."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).replace(str(path), "").split()) or type(error).__name__


def _cache_path(tree: _Tree) -> Path | None:
    """Where the decoded images of `tree` are kept; None on an account without a cache folder.

    The name depends on each file's path, size and times, and on the decoder, which may round differently. The
    change time (which no program can set) tells apart trees whose files were packed with equal sizes and times.
    """
    digest = hashlib.sha256(f"{_CACHE_VERSION} {PIL.__version__} {len(tree.train)}\n".encode())
    for path, label, *facts in sorted(tree.files):
        digest.update(f"{os.fsencode(path.relative_to(tree.root))!r} {label} {facts}\n".encode())
    try:
        return cache_folder() / "imagefolder" / f"{digest.hexdigest()}.npz"
    except ConfigError:
        return None


def _read_cache(cache: Path, tree: _Tree) -> _Decoded | None:
    """The decoded images in `cache`; None where it is missing or damaged, since it can be made anew."""
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            decoded = _Decoded(arrays["pixels"], frozenset(str(name) for name in arrays["formats"]))
            fingerprint = str(arrays["fingerprint"])
    except Exception:  # a damaged archive raises almost anything: of zipfile, zlib, the parser of headers
        return None
    shape = (len(tree.files), IMAGE_SIZE, IMAGE_SIZE, 3)
    if decoded.pixels.shape != shape or decoded.pixels.dtype != np.uint8:
        return None
    return decoded if fingerprint_of(*_split(tree, decoded)) == fingerprint else None


def _write_cache(cache: Path | None, tree: _Tree, decoded: _Decoded, warn: Callable[[str], None]) -> None:
    if cache is None:
        warn("no cache folder: the images are decoded again next time; set XDG_CACHE_HOME to keep them")
        return
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=decoded.pixels,
        formats=np.array(sorted(decoded.formats)),
        fingerprint=np.array(fingerprint_of(*_split(tree, decoded))),
    )
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache, buffer.getvalue())
    except OSError as error:
        warn(f"{cache.parent}: {error.strerror}: the images are decoded again next time")


def _split(tree: _Tree, decoded: _Decoded) -> tuple[Images, Images]:
    count = len(tree.train)
    return (
        Images(decoded.pixels[:count], _labels(tree.train)),
        Images(decoded.pixels[count:], _labels(tree.test)),
    )


def _labels(files: Sequence[_File]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([file.label for file in files], np.int64)


def _source(tree: _Tree, decoded: _Decoded) -> Source:
    train, test = _split(tree, decoded)
    return Source(
        name="imagefolder",
        display_name=_display_name(tree, decoded.formats),
        classes=tree.classes,
        train=train,
        test=test,
        location=str(tree.root),
    )


def _display_name(tree: _Tree, formats: frozenset[str]) -> str:
    if tree.classes != CIFAR10_CLASSES:
        return tree.root.name
    only = next(iter(formats)) if len(formats) == 1 else None
    return f"CIFAR-10 ({only if only in {'JPEG', 'PNG'} else 'images'})"
