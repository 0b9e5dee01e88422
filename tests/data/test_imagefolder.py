"""Image folders are read in a fixed order, decoded faithfully, and decoded once."""

import io
import os
import random
import re
import stat
import time

import numpy as np
import pytest
from PIL import Image

from resnet_cli.data import imagefolder
from resnet_cli.data.dataset import Images, Limits, fingerprint_of, prepare
from resnet_cli.data.imagefolder import CIFAR10_CLASSES, load_imagefolder
from resnet_cli.errors import ConfigError, InputError


def image(seed=0, mode="RGB", size=(32, 32)):
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).convert(mode)


def decoded(path):
    """The slow, obvious version: Pillow, one image."""
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def decodes(monkeypatch):
    """The paths that were decoded."""
    paths = []
    original = imagefolder._decode_one
    monkeypatch.setattr(imagefolder, "_decode_one", lambda path: paths.append(path) or original(path))
    return paths


@pytest.fixture
def load_twice(tree, decodes, tmp_path):
    """Loads the tree, hands the cache file to `damage`, loads again; returns both fingerprints."""

    def load(damage=lambda cache: None):
        first = load_imagefolder(tree)
        (cache,) = (tmp_path / "user-cache").rglob("*.npz")
        damage(cache)
        second = load_imagefolder(tree)
        return fingerprint_of(first.train, first.test), fingerprint_of(second.train, second.test)

    return load


def test_images_are_sorted_by_class_and_name_and_labelled(tree):
    source = load_imagefolder(tree)
    assert (source.name, source.display_name, source.location) == ("imagefolder", "tree", str(tree))
    assert (source.classes, source.mean, source.std) == (("cat", "dog"), None, None)
    assert source.train.labels.tolist() == [0, 0, 1]
    assert source.test.labels.tolist() == [0, 1]
    for pixels, name in zip(source.train.pixels, ["cat/a", "cat/b", "dog/c"], strict=True):
        assert np.array_equal(pixels, decoded(tree / f"train/{name}.png"))
    for pixels, name in zip(source.test.pixels, ["cat/d", "dog/e"], strict=True):
        assert np.array_equal(pixels, decoded(tree / f"test/{name}.png"))
    assert (source.train.pixels.dtype, source.train.labels.dtype) == (np.uint8, np.int64)


FORMATS = ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.bmp", "a.ppm", "a.webp"]
MODES = ["L", "LA", "P", "RGBA", "1"]


@pytest.mark.parametrize(("name", "mode"), [*((name, "RGB") for name in FORMATS), *(("a.png", mode) for mode in MODES)])
def test_every_format_and_mode_is_decoded_as_pillow_does(name, mode, make_tree):
    root = make_tree({f"train/cat/{name}": image(1, mode), "test/cat/t.png": 2})
    assert np.array_equal(load_imagefolder(root).train.pixels[0], decoded(root / "train/cat" / name))


def test_hidden_files_and_other_file_types_are_ignored_and_links_are_followed(tree, tmp_path):
    image(9).save(tree / "train/cat/.hidden.png")
    (tree / "train/cat/notes.txt").write_text("notes")
    (tree / "train/.cache").mkdir()
    (tree / "train/cat/folder.png").mkdir()
    (tree / "val").mkdir()
    image(9).save(tmp_path / "elsewhere.png")
    (tree / "train/dog/z.png").symlink_to(tmp_path / "elsewhere.png")
    train = load_imagefolder(tree).train
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(train.pixels[3], decoded(tmp_path / "elsewhere.png"))


@pytest.mark.parametrize(
    ("suffixes", "name"),
    [
        ((".jpg", ".jpg"), "CIFAR-10 (JPEG)"), ((".png", ".png"), "CIFAR-10 (PNG)"),
        ((".jpg", ".png"), "CIFAR-10 (images)"), ((".bmp", ".bmp"), "CIFAR-10 (images)"),
    ],
)  # fmt: skip
def test_cifar10_as_images_is_named_with_its_format(suffixes, name, make_tree):
    root = make_tree({
        f"{split}/{cls}/0{suffix}": i
        for split, suffix in zip(["train", "test"], suffixes, strict=True) for i, cls in enumerate(CIFAR10_CLASSES)
    })  # fmt: skip
    assert load_imagefolder(root).display_name == name
    assert load_imagefolder(root).display_name == name, "also from the cache"


def test_loading_an_image_folder_again_decodes_nothing_and_gives_the_same_images(load_twice, decodes):
    first, second = load_twice()
    assert first == second
    assert len(decodes) == 5


def remove(tree):
    (tree / "train/cat/a.png").unlink()


def rename_class(tree):
    for split in ("train", "test"):
        (tree / split / "cat").rename(tree / split / "zebra")


CHANGES = {
    "added": lambda tree: image(9).save(tree / "train/cat/z.png"),
    "removed": remove,
    "class renamed": rename_class,
    "moved to test": lambda tree: (tree / "train/cat/a.png").rename(tree / "test/cat/a.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_image_folder_is_decoded_again(change, tree, load_twice, decodes):
    first, second = load_twice(lambda _: change(tree))
    assert first != second
    assert len(decodes) > 5


def test_an_image_replaced_by_one_of_the_same_length_and_time_is_detected(make_tree):
    root = make_tree({"train/cat/a.bmp": 1, "test/cat/b.bmp": 2})
    load_imagefolder(root)
    path = root / "train/cat/a.bmp"
    before = path.stat()
    time.sleep(0.02)  # longer than the tick of a file system's clock
    image(9).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert np.array_equal(load_imagefolder(root).train.pixels[0], decoded(path))


def arrays_replaced(**arrays):
    def damage(cache):
        with np.load(cache) as before:
            values = dict(before)
        np.savez(cache, **(values | {name: change(values[name]) for name, change in arrays.items()}))

    return damage


DAMAGES = {
    "truncated": lambda cache: cache.write_bytes(cache.read_bytes()[:5000]),
    "emptied": lambda cache: cache.write_bytes(b""),
    "other arrays": lambda cache: np.savez(cache, other=np.zeros(1)),
    "other shape": arrays_replaced(pixels=lambda pixels: pixels[:1]),
    "other pixels": arrays_replaced(pixels=lambda pixels: pixels ^ 1),
    "pickled objects": arrays_replaced(pixels=lambda _: np.array([{}], object)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_cache_is_ignored_and_rebuilt(damage, load_twice, decodes, tree):
    first, second = load_twice(damage)
    assert first == second
    assert len(decodes) == 10
    load_imagefolder(tree)
    assert len(decodes) == 10, "the cache is whole again"


def test_a_flipped_bit_in_the_structure_of_a_cache_changes_no_image(load_twice):
    rng = random.Random(0)  # noqa: S311 (damage, not a secret)
    expected, _ = load_twice()

    def flip(cache):
        damaged = bytearray(cache.read_bytes())
        damaged[rng.choice([*range(300), *range(-1000, 0)])] ^= 1 << rng.randrange(8)
        cache.write_bytes(damaged)

    for _ in range(100):
        assert load_twice(flip) == (expected, expected)


def test_a_limited_image_folder_decodes_only_the_subset_that_is_used(make_tree, decodes):
    root = make_tree({f"{split}/{cls}/{i}.png": i for split in ("train", "test") for cls in "abc" for i in range(6)})
    whole = prepare(load_imagefolder(root), limit_train=6, limit_test=3)
    decodes.clear()
    source = load_imagefolder(root, limits=Limits(6, 3))
    assert len(decodes) == 9
    assert prepare(source, limit_train=6, limit_test=3).fingerprint == whole.fingerprint
    assert load_imagefolder(root, limits=Limits(6, 3)).train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(decodes) == 9, "the subset has its own cache"
    assert len(load_imagefolder(root, limits=Limits(9)).train) == 9
    assert (len(load_imagefolder(root).train), len(load_imagefolder(root, limits=Limits(None, 18)).test)) == (18, 18)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(train=2), r"limit.train must be between 3 \(one per class\) and 18 \(got 2\)"),
        (Limits(train=19), r"limit.train must be between 3 \(one per class\) and 18 \(got 19\)"),
        (Limits(test=2), r"limit.test must be between 3 \(one per class\) and 18 \(got 2\)"),
        (Limits(train=12, val=10), r"val.size must be between 3 and 9 \(got 10\)"),
    ],
)
def test_a_limit_that_does_not_fit_an_image_folder_is_refused_before_decoding(limits, message, make_tree, decodes):
    root = make_tree({f"{split}/{cls}/{i}.png": i for split in ("train", "test") for cls in "abc" for i in range(6)})
    with pytest.raises(ConfigError, match=message):
        load_imagefolder(root, limits=limits)
    assert not decodes


def test_the_cache_is_private_to_the_user(tree, tmp_path):
    before = os.umask(0o002)
    try:
        load_imagefolder(tree)
    finally:
        os.umask(before)
    (cache,) = (tmp_path / "user-cache").rglob("*.npz")
    assert stat.S_IMODE(cache.parent.stat().st_mode) == 0o700


def of_another_tree(cache):
    """Under the name of this cache, the intact cache of other images with equal labels."""
    with np.load(cache) as before:
        pixels = before["pixels"] ^ 1
    fingerprint = fingerprint_of(Images(pixels[:3], np.array([0, 0, 1])), Images(pixels[3:], np.array([0, 1])))
    np.savez(cache, pixels=pixels, fingerprint=fingerprint, tree="0" * 64)


def in_a_folder_that_others_can_write_to(cache):
    arrays_replaced()(cache)
    cache.parent.chmod(0o777)


def replaced_by_a_link(cache):
    cache.rename(cache.with_suffix(".moved"))
    cache.symlink_to(cache.with_suffix(".moved"))


def replaced_by_a_pipe(cache):
    cache.unlink()
    os.mkfifo(cache)


@pytest.mark.parametrize(
    "damage", [of_another_tree, in_a_folder_that_others_can_write_to, replaced_by_a_link, replaced_by_a_pipe]
)
def test_a_cache_that_another_user_can_have_placed_is_ignored_and_rebuilt(damage, load_twice, decodes, tree):
    first, second = load_twice(damage)
    assert first == second
    assert len(decodes) == 10
    load_imagefolder(tree)
    assert len(decodes) == 10, "the cache is whole again"


def test_a_cache_of_another_user_is_not_trusted(tree, decodes, monkeypatch):
    warnings = []
    load_imagefolder(tree)
    monkeypatch.setattr(imagefolder.os, "getuid", lambda: os.geteuid() + 1)
    load_imagefolder(tree, warn=warnings.append)
    assert len(decodes) == 10
    assert re.fullmatch(r".*: not a private folder of this user: the images will be decoded again.*", warnings[0])


def test_a_cache_that_cannot_be_written_gives_a_warning(tree, tmp_path, decodes):
    (tmp_path / "user-cache").write_text("a file where the folder should be")
    warnings = []
    load_imagefolder(tree, warn=warnings.append)
    (warning,) = warnings
    assert re.fullmatch(r".*user-cache.*: the images will be decoded again next time", warning)
    assert len(load_imagefolder(tree).train) == 3
    assert len(decodes) == 10


def test_an_account_without_a_cache_folder_gets_a_warning(tree, monkeypatch):
    def no_folder():
        raise ConfigError("this account has no home folder")

    monkeypatch.setattr(imagefolder, "cache_folder", no_folder)
    warnings = []
    load_imagefolder(tree, warn=warnings.append)
    assert warnings == ["no cache folder (set XDG_CACHE_HOME): the images will be decoded again next time"]
    assert len(load_imagefolder(tree, verify=True).train) == 3


def test_verifying_an_image_folder_decodes_it_again_and_writes_nothing(tree, decodes, tmp_path):
    assert len(load_imagefolder(tree, verify=True).train) == 3
    assert not (tmp_path / "user-cache").exists()
    load_imagefolder(tree)
    load_imagefolder(tree, verify=True)
    assert len(decodes) == 15


def test_progress_counts_the_decoded_images(tree):
    seen = []
    load_imagefolder(tree, progress=lambda *args: seen.append(args))
    assert seen == [("decoding images", 0, 5, "images"), ("decoding images", 5, 5, "images")]


def another_format(path):
    image(1).save(path.with_suffix(".gif"))
    path.with_suffix(".gif").rename(path)


UNUSABLE = {
    "another size": (
        lambda path: image(1, size=(64, 48)).save(path),
        r"is 64×48 pixels, not 32×32; resize the images first",
    ),
    "sixteen bits, which Pillow would clip": (
        lambda path: Image.fromarray(np.full((32, 32), 40_000, np.uint16)).save(path),
        r"has pixels of mode I;16, not 8 bits per channel; convert the images first",
    ),
    "text": (
        lambda path: path.write_text("not an image"),
        r"cannot be decoded: not an image of a supported format; replace or remove it",
    ),
    "a format that is not on the list": (another_format, r"cannot be decoded: not an image of a supported format"),
    "a broken link": (
        lambda path: path.symlink_to("nowhere"),
        r"No such file or directory; make it readable or remove it",
    ),
    "a pipe, without waiting for it": (os.mkfifo, r"is not a regular file; remove it"),
}


@pytest.mark.parametrize(("make", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_the_error_for_an_unusable_image_file_names_it_with_the_reason(make, message, tree):
    make(tree / "train/cat/x.png")
    with pytest.raises(InputError, match=rf"train/cat/x\.png:? {message}"):
        load_imagefolder(tree)


def test_the_error_for_an_image_deleted_during_reading_names_it(tree, monkeypatch):
    scan = imagefolder._scan

    def scan_then_remove(root):
        found = scan(root)
        remove(root)
        return found

    monkeypatch.setattr(imagefolder, "_scan", scan_then_remove)
    with pytest.raises(InputError, match=r"cat/a\.png cannot be decoded: No such file or directory"):
        load_imagefolder(tree)


def test_an_image_that_claims_gigabytes_is_refused_from_its_header(tree, recwarn):
    data = io.BytesIO()
    Image.new("1", (15_000, 9_000)).save(data, "PNG")  # enough for Pillow to warn
    (tree / "train/cat/bomb.png").write_bytes(data.getvalue())
    with pytest.raises(InputError, match=r"bomb\.png is 15000×9000 pixels"):
        load_imagefolder(tree)
    data = bytearray(data.getvalue())
    data[16:24] = b"\x00\x01\x00\x00\x00\x01\x00\x00"  # 65,536 squared: Pillow itself refuses
    (tree / "train/cat/bomb.png").write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.png cannot be decoded: "):
        load_imagefolder(tree)
    assert not recwarn.list


def outcome(root):
    """The first training image, or the error message."""
    try:
        return load_imagefolder(root).train.pixels[0], None
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_every_truncation_of_an_image_is_refused_in_one_line(name, make_tree):
    root = make_tree({f"train/cat/{name}": 1, "test/cat/t.png": 2})
    path = root / "train/cat" / name
    whole, intact = path.read_bytes(), decoded(path)
    for length in [*range(0, 60, 7), *range(60, len(whole), len(whole) // 25), len(whole) - 1]:
        path.write_bytes(whole[:length])
        pixels, error = outcome(root)
        if error:
            assert re.match(rf"{path} cannot be decoded: [^\n]+; replace or remove it$", error)
        else:
            assert np.array_equal(pixels, intact), "only bytes after the image may be missing"
            assert length > 0.9 * len(whole)


def test_every_damaged_byte_of_a_png_is_refused_or_changes_no_pixel(make_tree):
    root = make_tree({"train/cat/a.png": 1, "test/cat/t.png": 2})
    path = root / "train/cat/a.png"
    whole, intact = path.read_bytes(), decoded(path)
    refused = 0
    for position in [*range(60), *range(60, len(whole), 101), *range(len(whole) - 20, len(whole))]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x20]) + whole[position + 1 :])
        pixels, error = outcome(root)
        refused += bool(error)
        assert re.match(rf"{path} [^\n]+$", error) if error else np.array_equal(pixels, intact)
    assert refused > 90


LAYOUTS = {
    "no such folder": ([], "missing", r"missing is not a folder; .*train/<class>/\*"),
    "no train": (["test/cat/a.png"], ".", r"train is missing; an image folder contains train/<class>/\*"),
    "no test": (["train/cat/a.png"], ".", r"test is missing; an image folder contains"),
    "no classes": (["train/a.png", "test/a.png"], ".", "train has no class folders"),
    "no images": (["train/cat/a.png", "test/cat/.a.png"], ".", r"test/cat has no images; supported extensions: \.bmp "),
    "more classes to train on": (
        ["train/cat/a.png", "train/dog/a.png", "test/cat/a.png"], ".", "train and test have different classes: dog",
    ),
    "more classes to test on": (
        ["train/cat/a.png", "test/cat/a.png", "test/eel/a.png"], ".", "train and test have different classes: eel",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "folder", "message"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_error_for_a_wrong_image_folder_shows_the_expected_layout(files, folder, message, make_tree, tmp_path):
    make_tree(dict.fromkeys(files, 1))
    (tmp_path / "tree").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message):
        load_imagefolder(tmp_path / "tree" / folder)


def test_the_error_for_an_unreadable_image_folder_names_it(tree, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(imagefolder.os, "scandir", denied)
    with pytest.raises(InputError, match="train: Permission denied; make it readable or remove it"):
        load_imagefolder(tree)


def test_the_real_cifar10_images_are_complete():
    root = os.environ.get("RESNET_TEST_IMAGES")
    if not root:
        pytest.skip("set RESNET_TEST_IMAGES to a folder with CIFAR-10 as images")
    source = load_imagefolder(imagefolder.Path(root))
    assert source.classes == CIFAR10_CLASSES
    assert np.bincount(source.train.labels).tolist() == [5000] * 10
    assert np.bincount(source.test.labels).tolist() == [1000] * 10
