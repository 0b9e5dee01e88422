"""Statistics over seeds: equal to SciPy's where SciPy has them, at their nominal level where it has not."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from resnet_cli.analysis.stats import (
    Contrast,
    Sample,
    contrast,
    detectable_effect,
    difference,
    estimate,
    fieller,
    holm,
    image_sampling_error_pp,
    mcnemar,
    power,
    seeds_needed,
    upper_sigma,
)

values = st.lists(st.floats(0, 100), min_size=2, max_size=8)
SIMULATIONS = 3000


def sample(*numbers, resolution=0.0):
    return Sample.of(enumerate(numbers), resolution=resolution)


def simulated(rng, mean, sigma, n):
    return Sample.of(enumerate(rng.normal(mean, sigma, n)))


def within_noise(share, nominal):
    """Whether a simulated rate is at most three Monte-Carlo standard errors above the nominal one."""
    return share <= nominal + 3 * math.sqrt(nominal * (1 - nominal) / SIMULATIONS)


@given(values)
def test_the_interval_of_an_estimate_equals_the_student_t_interval_of_scipy(numbers):
    got = estimate(numbers)
    assert got.mean == pytest.approx(np.mean(numbers), abs=1e-9)
    assert got.std == pytest.approx(np.std(numbers, ddof=1), abs=1e-9)
    if got.std > 1e-6:
        expected = scipy_stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), scipy_stats.sem(numbers))
        assert got.interval == pytest.approx(expected)


def test_a_single_value_has_neither_deviation_nor_interval():
    got = estimate([93.25])
    assert (got.mean, got.std, got.interval) == (93.25, None, None)


def test_an_interval_is_never_narrower_than_the_resolution_of_the_test_set():
    assert estimate([50.0, 50.0, 50.0], resolution=0.25).interval == (49.75, 50.25)
    got = difference(sample(50, 50, 50, resolution=0.25), sample(49, 49, 49, resolution=0.25))
    assert got.is_degenerate
    assert got.standard_error == 0.25
    low, high = got.interval
    assert high - low > 0.5


def test_a_sample_is_sorted_by_seed_without_missing_values_and_with_repetitions_averaged():
    got = Sample.of([(2, 5.0), (1, None), (0, 4.0), (2, 6.0), (3, math.nan)])
    assert (got.seeds, got.values) == ((0, 2), (4.0, 5.5))


@given(values, values)
def test_a_difference_is_welchs_also_for_equal_seeds(first, second):
    got = difference(sample(*first), sample(*second))
    assert got.n == min(len(first), len(second))
    if np.std(first) > 1e-6 and np.std(second) > 1e-6:
        expected = scipy_stats.ttest_ind(first, second, equal_var=False)
        interval = expected.confidence_interval(0.95)
        assert got.interval == pytest.approx((interval.low, interval.high))
        one_sided = scipy_stats.ttest_ind(first, second, equal_var=False, alternative="greater")
        assert got.p_above(0) == pytest.approx(one_sided.pvalue, abs=1e-9)
        assert got.p_below(0) == pytest.approx(1 - one_sided.pvalue, abs=1e-9)


def test_a_network_with_one_seed_gives_a_difference_without_interval_or_evidence():
    got = difference(sample(93.25), sample(86.0, 87.0))
    assert (got.mean, got.n, got.interval) == (6.75, 1, None)
    assert (got.p_above(0), got.p_below(0), got.p_within(100)) == (1.0, 1.0, 1.0)


def test_repetitions_of_seeds_do_not_narrow_an_interval():
    once = difference(sample(1.0, 2.0, 4.0), sample(0.0, 0.5, 1.0))
    twice = difference(Sample.of([(s, v) for s, v in enumerate((1.0, 2.0, 4.0)) for _ in range(2)]), sample(0, 0.5, 1))
    assert once == twice


def test_an_equivalence_test_needs_both_one_sided_tests():
    narrow = difference(sample(1.0, 1.01, 0.99), sample(1.0, 1.02, 0.98))
    assert narrow.p_within(0.2) < 0.001
    assert difference(sample(1.0, 1.5, 0.5), sample(1.0, 1.5, 0.5)).p_within(0.2) > 0.3  # no difference is not equal
    assert difference(sample(2.0, 2.01, 1.99), sample(1.0, 1.02, 0.98)).p_within(0.2) > 0.99


@pytest.mark.parametrize("n", [3, 5, 10])
def test_null_contrasts_are_rejected_at_their_nominal_level_with_unequal_variances(n):
    rng = np.random.default_rng(n)
    gaps = amplifications = 0
    for _ in range(SIMULATIONS):
        a, b, c, d = (simulated(rng, 0, sigma, n) for sigma in (1, 1, 3, 0.3))
        gaps += difference(a, c).p_above(0) < 0.05
        amplifications += contrast([(1, a), (-1, c), (-1, b), (1, d)]).p_above(0) < 0.05
    assert within_noise(gaps / SIMULATIONS, 0.05)
    assert within_noise(amplifications / SIMULATIONS, 0.05)
    assert min(gaps, amplifications) > 0.03 * SIMULATIONS  # a test that never rejects would hold its level too


@pytest.mark.parametrize(("n", "shallow_gap"), [(3, 0.3), (10, 2.0)])
def test_fiellers_set_covers_the_ratio_at_its_nominal_level(n, shallow_gap):
    rng = np.random.default_rng(n)
    missed, ratio = 0, 6 / shallow_gap
    for _ in range(SIMULATIONS):
        a, b, c, d = (simulated(rng, *of, n) for of in ((6, 1), (0, 1), (shallow_gap, 1), (0, 0.5)))
        found = fieller(difference(a, b), difference(c, d))
        missed += {
            "interval": lambda found=found: not found.low <= ratio <= found.high,
            "two rays": lambda found=found: found.low < ratio < found.high,
            "everything": lambda: False,
        }[found.kind]()
    assert within_noise(missed / SIMULATIONS, 0.05)


def test_fiellers_set_is_an_interval_two_rays_or_everything():
    clear = difference(sample(6, 6.1, 5.9), sample(0, 0.1, -0.1))
    weak = difference(sample(1, -1, 0.3), sample(0, 1, -1))
    small = difference(sample(1.0, 1.1, 0.9), sample(0, 0.1, -0.1))
    assert fieller(clear, small).kind == "interval"
    rays = fieller(clear, weak)
    assert rays.kind == "two rays"
    assert rays.low < 0 < rays.high
    assert fieller(weak, weak).kind == "everything"
    exact = Contrast(mean=3.0, n=3, standard_error=0.0, freedom=2.0)
    certain = fieller(exact, msgspec.structs.replace(exact, mean=2.0))
    assert (certain.kind, certain.low, certain.high) == ("interval", pytest.approx(1.5), pytest.approx(1.5))
    one = difference(sample(1.0), sample(0.0))
    assert (fieller(one, one).value, fieller(one, one).kind) == (1.0, "none")


def test_mcnemars_test_is_an_exact_sign_test_of_the_images_on_which_two_runs_differ():
    first = np.array([True] * 9 + [False] * 2 + [True] * 50)
    second = np.array([False] * 9 + [True] * 2 + [True] * 50)
    assert mcnemar(first, second) == pytest.approx(scipy_stats.binomtest(2, 11).pvalue)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0


def test_holm_adjusts_as_worked_out_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"only": 0.7}) == {"only": 0.7}


def test_the_sampling_error_of_test_images_is_paired():
    rng = np.random.default_rng(0)
    first, second = rng.random(1000) < 0.9, rng.random(1000) < 0.8
    b, c = (first & ~second).sum(), (~first & second).sum()
    expected = 100 * math.sqrt((b + c - (b - c) ** 2 / 1000) / 1000**2)
    assert image_sampling_error_pp(first[None], second[None]) == pytest.approx(expected)
    assert image_sampling_error_pp(first[None], first[None]) == 0.0


def test_the_upper_limit_of_sigma_covers_80_per_cent_of_samples():
    assert upper_sigma(1.0, 3) == pytest.approx(2.1169, abs=1e-3)
    deviations = np.random.default_rng(0).normal(size=(4000, 5)).std(axis=1, ddof=1)
    assert np.mean([upper_sigma(std, 5) >= 1 for std in deviations]) == pytest.approx(0.8, abs=0.02)


def test_detectable_effects_are_those_of_the_noncentral_t_distribution():
    effects = [detectable_effect(1.0, n, alpha=0.05) for n in (3, 5, 10)]
    assert effects == pytest.approx([2.48, 1.72, 1.16], abs=0.01)
    expected = scipy_stats.nct.sf(scipy_stats.t.ppf(0.95, 8), 8, 1.0 / math.sqrt(2 / 5))
    assert power(1.0, 1.0, 5, alpha=0.05) == pytest.approx(expected)


def test_the_number_of_seeds_needed_is_the_smallest_that_reaches_the_power():
    n = seeds_needed(1.0, 1.0, alpha=0.05)
    assert power(1.0, 1.0, n, alpha=0.05) >= 0.8 > power(1.0, 1.0, n - 1, alpha=0.05)
    assert seeds_needed(2.0, 1.0, alpha=0.05, num_means=4) > seeds_needed(2.0, 1.0, alpha=0.05)
    assert seeds_needed(0.0, 1.0, alpha=0.05) is None
    assert seeds_needed(1e-6, 1.0, alpha=0.05) is None
