"""Image folders are read in a fixed order, decoded faithfully, and decoded once."""

import io
import os
import re
import stat
import time

import numpy as np
import pytest
from PIL import Image

from resnet_cli.data import imagefolder
from resnet_cli.data.dataset import fingerprint_of
from resnet_cli.data.imagefolder import CIFAR10_CLASSES, load_imagefolder, verify_imagefolder
from resnet_cli.errors import ConfigError, InputError


def image(seed=0, mode="RGB", size=(32, 32)):
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).convert(mode)


def decoded(path):
    """The slow, obvious version: Pillow, one image."""
    return np.asarray(Image.open(path).convert("RGB"))


class Watch:
    """Counts the images that are decoded."""

    def __init__(self, monkeypatch):
        self.count = 0
        original = imagefolder._decode_one

        def counted(path, target):
            self.count += 1
            return original(path, target)

        monkeypatch.setattr(imagefolder, "_decode_one", counted)


@pytest.fixture
def watch(monkeypatch):
    return Watch(monkeypatch)


@pytest.fixture
def caches(tmp_path):
    """The files in the cache."""
    return lambda: list((tmp_path / "user-cache").rglob("*.npz"))


def test_images_come_by_class_then_by_name_with_their_labels(tree):
    source = load_imagefolder(tree)
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 1]
    assert source.test.labels.tolist() == [0, 1]
    for pixels, name in zip(source.train.pixels, ["cat/a", "cat/b", "dog/c"], strict=True):
        assert np.array_equal(pixels, decoded(tree / f"train/{name}.png"))
    for pixels, name in zip(source.test.pixels, ["cat/d", "dog/e"], strict=True):
        assert np.array_equal(pixels, decoded(tree / f"test/{name}.png"))
    assert (source.train.pixels.dtype, source.train.labels.dtype) == (np.uint8, np.int64)


def test_the_source_says_where_it_comes_from_and_leaves_statistics_to_be_computed(tree):
    source = load_imagefolder(tree)
    assert (source.name, source.display_name, source.location) == ("imagefolder", "tree", str(tree))
    assert (source.mean, source.std) == (None, None)


def test_the_folder_is_found_through_the_environment(tree, monkeypatch):
    monkeypatch.setenv("RESNET_DATA", str(tree))
    assert load_imagefolder(None).location == str(tree)


def test_a_folder_that_is_not_named_is_asked_for():
    with pytest.raises(ConfigError, match="imagefolder needs a folder; use --data-dir FOLDER or set RESNET_DATA"):
        load_imagefolder(None)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.bmp", "a.ppm", "a.webp"])
def test_every_known_format_is_decoded_as_pillow_does(name, make_tree):
    root = make_tree({f"train/cat/{name}": 1, f"test/cat/{name}": 2})
    source = load_imagefolder(root)
    assert np.array_equal(source.train.pixels[0], decoded(root / "train/cat" / name))
    assert np.array_equal(source.test.pixels[0], decoded(root / "test/cat" / name))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_images_that_are_not_rgb_are_converted(mode, make_tree):
    root = make_tree({"train/cat/a.png": image(1, "RGB").convert(mode), "test/cat/a.png": 2})
    assert np.array_equal(load_imagefolder(root).train.pixels[0], decoded(root / "train/cat/a.png"))


def test_sixteen_bit_images_are_refused_since_they_would_be_clipped(make_tree):
    deep = Image.fromarray(np.full((32, 32), 40_000, np.uint16))
    root = make_tree({"train/cat/a.png": deep, "test/cat/a.png": 2})
    with pytest.raises(InputError, match=r"train/cat/a\.png has pixels of mode I;16, not 8 bits a channel"):
        load_imagefolder(root)


def test_hidden_and_foreign_files_are_left_out(tree):
    image(9).save(tree / "train/cat/.hidden.png")
    (tree / "train/cat/notes.txt").write_text("notes")
    (tree / "train/.cache").mkdir()
    (tree / "train/cat/folder.png").mkdir()
    (tree / "val").mkdir()
    assert load_imagefolder(tree).train.labels.tolist() == [0, 0, 1]


def test_links_to_images_are_followed(tree, tmp_path):
    image(9).save(tmp_path / "elsewhere.png")
    (tree / "train/dog/z.png").symlink_to(tmp_path / "elsewhere.png")
    assert np.array_equal(load_imagefolder(tree).train.pixels[3], decoded(tmp_path / "elsewhere.png"))


@pytest.mark.parametrize(
    ("suffixes", "name"),
    [
        ((".jpg", ".jpg"), "CIFAR-10 (JPEG)"), ((".png", ".png"), "CIFAR-10 (PNG)"),
        ((".jpg", ".png"), "CIFAR-10 (images)"), ((".bmp", ".bmp"), "CIFAR-10 (images)"),
    ],
)  # fmt: skip
def test_cifar10_as_images_is_shown_with_its_format(suffixes, name, make_tree):
    root = make_tree({
        f"{split}/{cls}/0{suffix}": i
        for split, suffix in zip(["train", "test"], suffixes, strict=True) for i, cls in enumerate(CIFAR10_CLASSES)
    })  # fmt: skip
    assert load_imagefolder(root).display_name == name
    assert load_imagefolder(root).display_name == name, "also from the cache"


def test_the_second_load_decodes_nothing_and_gives_the_same(tree, watch):
    first = load_imagefolder(tree)
    assert watch.count == 5
    second = load_imagefolder(tree)
    assert watch.count == 5
    assert fingerprint_of(second.train, second.test) == fingerprint_of(first.train, first.test)


@pytest.mark.parametrize("change", ["added", "removed", "renamed class", "moved to test"])
def test_a_changed_tree_is_decoded_again(change, tree, watch):
    before = load_imagefolder(tree)
    if change == "added":
        image(9).save(tree / "train/cat/z.png")
    elif change == "removed":
        (tree / "train/cat/a.png").unlink()
    elif change == "renamed class":
        for split in ("train", "test"):
            (tree / split / "cat").rename(tree / split / "zebra")
    else:
        (tree / "train/cat/a.png").rename(tree / "test/cat/a.png")
    after = load_imagefolder(tree)
    assert watch.count > 5
    assert fingerprint_of(after.train, after.test) != fingerprint_of(before.train, before.test)


def test_another_image_of_the_same_length_and_time_is_noticed(make_tree):
    root = make_tree({"train/cat/a.bmp": 1, "test/cat/b.bmp": 2})
    load_imagefolder(root)
    path = root / "train/cat/a.bmp"
    before = path.stat()
    time.sleep(0.02)  # longer than the tick of a file system's clock
    image(9).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert np.array_equal(load_imagefolder(root).train.pixels[0], decoded(path))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied", "other arrays", "other shape", "pickled"])
def test_a_damaged_cache_is_ignored_and_made_anew(damage, tree, watch, caches):
    first = load_imagefolder(tree)
    (cache,) = caches()
    whole = cache.read_bytes()
    if damage == "flipped":
        place = whole.index(first.train.pixels[0].tobytes()) + 100
        cache.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    elif damage in {"truncated", "emptied"}:
        cache.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    elif damage == "other arrays":
        np.savez(cache, other=np.zeros(1))
    elif damage == "other shape":
        np.savez(cache, pixels=np.zeros((1, 32, 32, 3), np.uint8), formats=np.array(["PNG"]), fingerprint=np.array("x"))
    else:
        np.savez(cache, pixels=np.array([{}], object), formats=np.array(["PNG"]), fingerprint=np.array("x"))
    second = load_imagefolder(tree)
    assert watch.count == 10
    assert fingerprint_of(second.train, second.test) == fingerprint_of(first.train, first.test)
    load_imagefolder(tree)
    assert watch.count == 10, "the cache is whole again"


def test_a_cache_that_holds_other_valid_images_is_found_out(tree, watch, caches):
    load_imagefolder(tree)
    (cache,) = caches()
    with np.load(cache) as arrays:
        values = dict(arrays)
    np.savez(cache, **(values | {"pixels": values["pixels"] ^ 1}))
    load_imagefolder(tree)
    assert watch.count == 10


def test_a_cache_that_cannot_be_written_is_warned_about(tree, tmp_path, watch):
    (tmp_path / "user-cache").write_text("a file where the folder should be")
    warnings = []
    load_imagefolder(tree, warn=warnings.append)
    assert len(warnings) == 1
    assert "user-cache" in warnings[0]
    assert "decoded again next time" in warnings[0]
    assert len(load_imagefolder(tree).train) == 3
    assert watch.count == 10


def test_an_account_without_a_cache_folder_is_warned(tree, monkeypatch):
    def no_folder():
        raise ConfigError("this account has no home folder")

    monkeypatch.setattr(imagefolder, "cache_folder", no_folder)
    warnings = []
    load_imagefolder(tree, warn=warnings.append)
    assert "no cache folder" in warnings[0]
    assert len(verify_imagefolder(tree).train) == 3


def test_verifying_decodes_again_and_writes_nothing(tree, watch, caches):
    assert len(verify_imagefolder(tree).train) == 3
    assert caches() == []
    load_imagefolder(tree)
    verify_imagefolder(tree)
    assert watch.count == 15


def test_verifying_finds_a_cache_that_holds_something_else(tree, caches):
    load_imagefolder(tree)
    (cache,) = caches()
    cache.write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"{cache} does not hold the images of {tree}; delete it"):
        verify_imagefolder(tree)


def test_progress_counts_the_images(tree):
    seen = []
    load_imagefolder(tree, progress=lambda *args: seen.append(args))
    assert seen == [("decoding images", 0, 5, "images"), ("decoding images", 5, 5, "images")]


def test_an_image_of_another_size_is_named_with_its_size(tree):
    image(1, size=(64, 48)).save(tree / "test/dog/big.png")
    with pytest.raises(InputError, match=r"test/dog/big\.png is 64×48 pixels, not 32×32; resize the images first"):
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
    """The first training image, or what the error says."""
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
            assert re.match(rf"{path} cannot be decoded: [^\n]+; mend or remove it$", error)
        else:
            assert np.array_equal(pixels, intact), "only what follows the image may be missing"
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


def test_a_file_that_is_no_image_is_named(tree):
    (tree / "train/cat/x.png").write_text("not an image")
    with pytest.raises(InputError, match=r"cat/x\.png cannot be decoded: not an image of a known format; mend or"):
        load_imagefolder(tree)


def test_a_format_that_is_not_on_the_list_is_not_decoded(tree):
    image(1).save(tree / "train/cat/x.gif")
    (tree / "train/cat/x.gif").rename(tree / "train/cat/x.png")
    with pytest.raises(InputError, match=r"cat/x\.png cannot be decoded: not an image of a known format"):
        load_imagefolder(tree)


def test_an_image_that_vanishes_is_named(tree, monkeypatch):
    scan = imagefolder._scan

    def scan_then_remove(root):
        found = scan(root)
        (root / "train/cat/a.png").unlink()
        return found

    monkeypatch.setattr(imagefolder, "_scan", scan_then_remove)
    with pytest.raises(InputError, match=r"cat/a\.png cannot be decoded: No such file or directory"):
        load_imagefolder(tree)


def test_a_broken_link_is_named(tree):
    (tree / "train/cat/x.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"cat/x\.png: No such file or directory; mend or remove it"):
        load_imagefolder(tree)


def test_a_pipe_is_refused_without_waiting_for_it(tree):
    os.mkfifo(tree / "train/cat/x.png")
    assert stat.S_ISFIFO((tree / "train/cat/x.png").stat().st_mode)
    with pytest.raises(InputError, match=r"cat/x\.png is not a regular file; remove it"):
        load_imagefolder(tree)


LAYOUTS = {
    "no such folder": ([], "missing", r"missing is not a folder; .*train/<class>/\*"),
    "no train": (["test/cat/a.png"], ".", r"train is missing; an image folder holds train/<class>/\*"),
    "no test": (["train/cat/a.png"], ".", r"test is missing; an image folder holds"),
    "no classes": (["train/a.png", "test/a.png"], ".", "train holds no class folders"),
    "more classes to train on": (
        ["train/cat/a.png", "train/dog/a.png", "test/cat/a.png"], ".", "train and test have different classes: dog",
    ),
    "more classes to test on": (
        ["train/cat/a.png", "test/cat/a.png", "test/eel/a.png"], ".", "train and test have different classes: eel",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "folder", "message"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_another_layout_is_explained(files, folder, message, make_tree, tmp_path):
    make_tree(dict.fromkeys(files, 1))
    (tmp_path / "tree").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message):
        load_imagefolder(tmp_path / "tree" / folder)


def test_a_class_without_images_is_named(tree):
    (tree / "test/dog/e.png").rename(tree / "test/dog/e.tiff")
    with pytest.raises(InputError, match=r"test/dog holds no images; known extensions: \.bmp \.jpeg \.jpg"):
        load_imagefolder(tree)


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(imagefolder.os, "scandir", denied)
    with pytest.raises(InputError, match="train: Permission denied; make it readable"):
        load_imagefolder(tree)


def test_the_real_cifar10_images_are_all_there():
    root = os.environ.get("RESNET_TEST_IMAGES")
    if not root:
        pytest.skip("RESNET_TEST_IMAGES names no folder with CIFAR-10 as images")
    source = load_imagefolder(imagefolder.Path(root))
    assert source.classes == CIFAR10_CLASSES
    assert np.bincount(source.train.labels).tolist() == [5000] * 10
    assert np.bincount(source.test.labels).tolist() == [1000] * 10
