"""CKA agrees with its definition and its invariances; linear probes see only what a block's features contain."""

import itertools

import numpy as np
import pytest
import torch

from resnet_cli.errors import UsageError
from resnet_cli.probes.similarity import PROBE, centred_grams, debiased_cka, linear_probe

pytestmark = pytest.mark.usefixtures("one_thread")


def cka(*features):
    return debiased_cka([centred_grams([torch.as_tensor(feature) for feature in features])])


def unbiased_hsic(first, second):
    """Equation 5 of Song et al. 2012 as sums over distinct indices: slow and obvious."""
    n = len(first)
    k, m = first @ first.T, second @ second.T
    pairs = sum(k[i, j] * m[i, j] for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    triples = sum(k[i, j] * m[i, q] for i, j, q in itertools.permutations(range(n), 3)) / (n * (n - 1) * (n - 2))
    quads = sum(k[i, j] * m[q, r] for i, j, q, r in itertools.permutations(range(n), 4))
    return pairs - 2 * triples + quads / (n * (n - 1) * (n - 2) * (n - 3))


def test_debiased_cka_is_the_ratio_of_unbiased_estimates_of_hsic():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(7, 3)), rng.normal(size=(7, 5)) + 2
    expected = unbiased_hsic(first, second) / np.sqrt(unbiased_hsic(first, first) * unbiased_hsic(second, second))
    assert cka(first, second)[0, 1] == pytest.approx(expected, rel=1e-9)


def test_hsic_is_averaged_over_minibatches_before_the_ratio():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(13, 3))
    second = first @ rng.normal(size=(3, 4)) + rng.normal(size=(13, 4))
    parts = [slice(0, 7), slice(7, 13)]
    hsic = {
        (i, j): np.mean([unbiased_hsic(x[part], y[part]) for part in parts])
        for (i, x), (j, y) in itertools.product(enumerate((first, second)), repeat=2)
    }
    grams = [centred_grams([torch.as_tensor(first[part]), torch.as_tensor(second[part])]) for part in parts]
    assert debiased_cka(iter(grams))[0, 1] == pytest.approx(hsic[0, 1] / np.sqrt(hsic[0, 0] * hsic[1, 1]), rel=1e-9)


def test_cka_is_invariant_to_rotation_scale_and_shift_of_the_features():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    np.testing.assert_allclose(cka(features, 3 * features @ rotation + 5), np.ones((2, 2)), rtol=1e-9)


def test_independent_features_have_a_cka_of_zero_however_many_there_are():
    rng = np.random.default_rng(0)
    many = [cka(rng.normal(size=(40, 200)), rng.normal(size=(40, 200)))[0, 1] for _ in range(20)]
    assert np.mean(many) == pytest.approx(0, abs=3 * np.std(many) / np.sqrt(20))
    # the usual estimate is far from it
    first, second = (x - x.mean(axis=0) for x in (rng.normal(size=(40, 200)), rng.normal(size=(40, 200))))
    biased = np.square(second.T @ first).sum() / np.sqrt(
        np.square(first.T @ first).sum() * np.square(second.T @ second).sum()
    )
    assert biased > 0.7


def test_a_constant_representation_has_no_cka():
    rng = np.random.default_rng(0)
    assert np.isnan(cka(rng.normal(size=(8, 2)), np.ones((8, 2)))[0, 1])


def test_a_linear_probe_separates_classes_that_a_plane_separates_and_no_others():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    noise = rng.normal(size=(400, 30))
    informative = noise.copy()
    informative[:, 0] += 20 * labels
    good, bad = (linear_probe(x[:200], labels[:200], x[200:], labels[200:], 16) for x in (informative, noise))
    assert good.accuracy_pct == 100
    assert good.low_pct < 99
    assert bad.low_pct < 50 < bad.high_pct


def test_a_linear_probe_sees_the_requested_number_of_features():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    features = rng.normal(size=(400, 3)) * (3, 2, 1)
    features[:, 2] += 2 * labels  # only the third component carries the class
    two, three = (linear_probe(features[:200], labels[:200], features[200:], labels[200:], n) for n in (2, 3))
    assert two.accuracy_pct < 60
    assert three.accuracy_pct > 75


def test_features_that_are_not_finite_have_no_accuracy():
    features, labels = np.full((20, 4), np.nan), np.arange(20) % 2
    assert np.isnan(linear_probe(features, labels, features, labels, 2)).all()


def test_cka_needs_four_images_but_not_four_per_batch(network_of):
    network = network_of("plain", settings=PROBE.settings, images=20)
    assert PROBE.measure(network._replace(batch_size=2), "cka")[0]["cka"] == pytest.approx(1)
    few = type(network.test)(network.test.pixels[:3], network.test.labels[:3])
    with pytest.raises(UsageError, match="at least 4 test images, not 3"):
        PROBE.measure(network._replace(test=few), "cka")


@pytest.mark.parametrize("which", ["init", "last"])
def test_the_probe_measures_every_pair_of_blocks_and_leaves_the_network_unchanged(network_of, which):
    network = network_of("resnet", settings=PROBE.settings, which=which)
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    rows = [row for unit in PROBE.units(network.config, PROBE.settings) for row in PROBE.measure(network, unit)]
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    assert len({tuple(row) for row in rows}) == 1
    matrix = {(row["block_index"], row["other"]): row["cka"] for row in rows if row["quantity"] == "cka"}
    assert sorted(matrix) == [(i, j) for i in range(4) for j in range(4)]
    assert all(matrix[i, i] == pytest.approx(1) and matrix[i, j] == matrix[j, i] for i, j in matrix)
    probes = [row for row in rows if row["quantity"] == "linear probe"]
    assert [(row["stage"], row["block"]) for row in probes] == [(0, 0), (1, 1), (2, 1), (3, 1)]
    assert all(0 < row["low_pct"] < row["accuracy_pct"] < row["high_pct"] < 100 for row in probes)


def test_running_statistics_count_except_at_initialisation(network_of):
    def last_cka(which):
        network = network_of("plain", settings=PROBE.settings, which=which)
        yield PROBE.measure(network, "cka")[3]["cka"]
        with torch.no_grad():
            for buffer in network.model.buffers():
                buffer.mul_(2)
        yield PROBE.measure(network, "cka")[3]["cka"]

    before, after = last_cka("init")
    assert after == before
    before, after = last_cka("last")
    assert abs(after - before) > 0.01


def test_networks_are_compared_on_the_same_images(network_of):
    network = network_of("resnet", settings=PROBE.settings, images=40)
    rows = PROBE.combine([network, network._replace(label="twin"), network_of(
        "plain", settings=PROBE.settings, images=40, label="other"
    )])  # fmt: skip
    own = {(row["block_index"], row["other"]): row["cka"] for row in PROBE.measure(network, "cka")}
    twins = {
        (row["block_index"], row["other"]): row["cka"]
        for row in rows
        if (row["label"], row["other_label"]) == ("resnet-8", "twin")
    }
    assert twins == pytest.approx(own)
    assert len(rows) == 3 * 4 * 4
