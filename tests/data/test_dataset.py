"""Image data in memory: subsets and splits are stratified and repeatable, statistics cover all pixels."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits as sklearn_digits

from resnet_cli.data.dataset import (
    Images,
    Source,
    channel_statistics,
    fingerprint_of,
    prepare,
    stratified_indices,
)
from resnet_cli.data.digits import load_digits
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.rundir.records import MAX_CLASSES, MAX_NAME_LENGTH


def images(sizes, *, seed=0, size=4):
    """Random images, `sizes[c]` of class c, in mixed order; the first byte of each image is its number."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    pixels = rng.integers(0, 256, (len(labels), size, size, 3)).astype(np.uint8)
    pixels[:, 0, 0, 0] = np.arange(len(labels))
    return Images(pixels, labels)


@pytest.fixture
def source():
    """Sixty training and thirty test images of three classes, in the proportion 3 : 2 : 1."""
    return Source(
        name="imagefolder", display_name="toys", classes=("a", "b", "c"), location="/toys",
        train=images([30, 20, 10]), test=images([15, 10, 5], seed=1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def numbers(part):
    """The numbers of the images in `part`."""
    return part.pixels[:, 0, 0, 0].tolist()


def counts(part):
    return np.bincount(part.labels).tolist()


def test_taken_images_keep_their_labels_and_the_order_of_the_indices():
    everything = images([3, 3])
    taken = everything.take(np.array([4, 0]))
    assert numbers(taken) == [4, 0]
    assert taken.labels.tolist() == everything.labels[[4, 0]].tolist()
    assert taken.pixels.flags["C_CONTIGUOUS"]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_a_stratified_choice_has_the_right_size_and_every_class_within_one_of_its_share(sizes, data):
    labels = images(sizes, size=1).labels
    count = data.draw(st.integers(0, len(labels)))
    indices = stratified_indices(labels, count, seed=data.draw(st.integers(0, 2**63 - 1)))
    assert len(indices) == len(set(indices.tolist())) == count
    assert indices.tolist() == sorted(indices.tolist())
    for label, size in enumerate(sizes):
        assert abs((labels[indices] == label).sum() - size * count / len(labels)) < 1


def test_names_that_are_not_unicode_are_prepared_as_escapes(source):
    names = {"display_name": "d\udcff", "classes": ("a", "b\udc80", "\udcff" * 255), "location": "/\udcff"}
    data = prepare(msgspec.structs.replace(source, **names))
    assert (data.display_name, data.location) == ("d\\udcff", "/\\udcff")
    assert data.classes[:2] == ("a", "b\\udc80")
    assert len(data.classes[2]) == MAX_NAME_LENGTH


def test_more_classes_than_a_record_can_contain_are_refused_before_training(source):
    many = tuple(map(str, range(MAX_CLASSES + 1)))
    with pytest.raises(InputError, match="/toys has 10,001 classes; expected at most 10,000"):
        prepare(msgspec.structs.replace(source, classes=many))


def test_memory_layout_and_integer_type_do_not_change_a_fingerprint():
    everything = images([3, 4])
    view = Images(np.asfortranarray(everything.pixels), everything.labels.astype(np.int32))
    assert fingerprint_of(view) == fingerprint_of(images([3, 4]))


@pytest.mark.parametrize(
    "change",
    [
        lambda part: Images(part.pixels ^ np.uint8(1), part.labels),
        lambda part: Images(part.pixels, 1 - part.labels),
        lambda part: part.take(np.arange(len(part))[::-1]),
        lambda part: part.take(np.arange(len(part) - 1)),
        lambda part: Images(part.pixels.reshape(7, 2, 8, 3), part.labels),
    ],
    ids=["pixel", "label", "order", "count", "shape"],
)
def test_any_change_gives_another_fingerprint(change):
    everything = images([3, 4])
    assert fingerprint_of(change(everything)) != fingerprint_of(everything)


def test_swapping_training_and_test_images_gives_another_fingerprint():
    one, other = images([3, 4]), images([3, 4], seed=1)
    assert fingerprint_of(one, other) != fingerprint_of(other, one)


@pytest.mark.parametrize("seed", range(3))
def test_channel_statistics_cover_all_pixels_to_four_decimals(seed):
    part = images([5, 6], seed=seed, size=9)
    scaled = part.pixels.reshape(-1, 3).astype(np.float64) / 255
    mean, std = channel_statistics(part)
    np.testing.assert_allclose(mean, scaled.mean(axis=0), atol=5.1e-5)
    np.testing.assert_allclose(std, scaled.std(axis=0), atol=5.1e-5)
    assert mean == tuple(round(value, 4) for value in mean)
    assert all(type(value) is float for value in (*mean, *std))


def test_the_channel_deviation_is_not_the_mean_of_per_image_deviations():
    # black and white images: no deviation within an image, all of it between them
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels[1] = 255
    assert channel_statistics(Images(pixels, np.arange(2))) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_constant_channel_has_deviation_one_so_that_it_can_be_divided_by():
    pixels = np.full((2, 4, 4, 3), 51, np.uint8)
    assert channel_statistics(Images(pixels, np.arange(2))) == ((0.2, 0.2, 0.2), (1.0, 1.0, 1.0))


def test_without_limits_all_images_are_kept_in_their_order(source):
    data = prepare(source)
    assert (numbers(data.train), numbers(data.test), data.val) == (numbers(source.train), numbers(source.test), None)
    for name in ("name", "display_name", "classes", "location"):
        assert getattr(data, name) == getattr(source, name)
    assert data.image_size == 4
    assert data.fingerprint == fingerprint_of(source.train, source.test)


def test_limits_keep_the_proportion_of_the_classes(source):
    data = prepare(source, limit_train=12, limit_test=6)
    assert (counts(data.train), counts(data.test)) == ([6, 4, 2], [3, 2, 1])
    assert numbers(data.train) == sorted(numbers(data.train))


def test_the_validation_split_depends_on_the_seed_but_the_subset_does_not(source):
    one, other = (prepare(source, limit_train=30, val_size=6, seed=seed) for seed in (0, 1))
    assert one.fingerprint == other.fingerprint
    assert sorted(numbers(one.train) + numbers(one.val)) == sorted(numbers(other.train) + numbers(other.val))
    assert numbers(one.val) != numbers(other.val)
    assert numbers(one.val) == numbers(prepare(source, limit_train=30, val_size=6, seed=0).val)


def test_the_validation_split_is_stratified_and_removed_from_the_training_images(source):
    data = prepare(source, val_size=12)
    assert (counts(data.train), counts(data.val)) == ([24, 16, 8], [6, 4, 2])
    assert sorted(numbers(data.train) + numbers(data.val)) == list(range(60))


def test_training_and_test_subsets_are_chosen_independently(source):
    twins = Source(name="x", display_name="x", classes=source.classes, train=source.train, test=source.train)
    data = prepare(twins, limit_train=12, limit_test=12)
    assert numbers(data.train) != numbers(data.test)


def test_missing_statistics_are_computed_from_the_kept_training_images_with_validation(source):
    data = prepare(source, limit_train=30, val_size=6)
    kept = prepare(source, limit_train=30).train
    assert (data.mean, data.std) == channel_statistics(kept) != channel_statistics(source.train)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"limit_train": 2}, "--limit-train must be between 3 (one per class) and 60 (got 2)"),
        ({"limit_train": 61}, "--limit-train must be between 3 (one per class) and 60 (got 61)"),
        ({"limit_test": 31}, "--limit-test must be between 3 (one per class) and 30 (got 31)"),
        ({"val_size": 2}, "--val-size must be between 3 and 57 (got 2)"),
        ({"val_size": 58}, "--val-size must be between 3 and 57 (got 58)"),
        ({"limit_train": 20, "val_size": 18}, "--val-size must be between 3 and 17 (got 18)"),
    ],
)
def test_the_error_for_a_subset_larger_than_the_data_names_its_option_and_range(source, sizes, message):
    with pytest.raises(ConfigError) as caught:
        prepare(source, **sizes)
    assert caught.value.as_options() == message


@pytest.mark.parametrize("sizes", [{"limit_train": 3}, {"limit_train": 60}, {"val_size": 3}, {"val_size": 57}])
def test_the_smallest_and_the_largest_size_of_a_subset_are_accepted(source, sizes):
    data = prepare(source, **sizes)
    assert sizes.get("limit_train", 60) == len(data.train) + (len(data.val) if data.val else 0)
    assert sizes.get("val_size", 0) == (len(data.val) if data.val else 0)


def test_the_digits_are_those_of_scikit_learn_with_every_pixel_doubled(digits):
    bunch = sklearn_digits()
    originals = {
        np.kron(np.floor(image * 255 / 16 + 0.5), np.ones((2, 2))).astype(np.uint8).tobytes(): label
        for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    for part in (digits.train, digits.test):
        assert part.pixels.dtype == np.uint8
        assert part.pixels.shape[1:] == (16, 16, 3)
        assert (part.pixels == part.pixels[..., :1]).all()
        grey = np.ascontiguousarray(part.pixels[..., 0])
        assert [originals[image.tobytes()] for image in grey] == part.labels.tolist()
    assert (digits.name, digits.display_name, digits.location) == ("digits", "digits (16×16)", None)
    assert digits.classes == tuple("0123456789")


def test_the_digits_are_read_from_a_scikit_learn_that_has_their_file_elsewhere(digits, monkeypatch):
    monkeypatch.setattr("resnet_cli.data.digits._FILE", "elsewhere.csv.gz")
    found = load_digits()
    assert fingerprint_of(found.train, found.test) == fingerprint_of(digits.train, digits.test)


def test_one_fifth_of_the_digits_is_for_testing_stratified_and_without_overlap(digits):
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert set(counts(digits.test)) <= {34, 35, 36, 37, 38}
    train, test = ({image.tobytes() for image in part.pixels} for part in (digits.train, digits.test))
    assert len(train) + len(test) == 1797
    assert not train & test


def test_the_split_of_the_digits_is_that_of_every_earlier_version(digits):
    # tables never mix datasets: another split would be another dataset
    assert prepare(digits).fingerprint == "b008b9b015fca5e3ac39e30086785e6a23ffdf3071047da60b8357ec956256fc"
