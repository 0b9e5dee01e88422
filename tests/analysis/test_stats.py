"""Statistics over seeds, compared with scipy and with manual calculations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from resnet_cli.analysis.stats import Sample, amplification, difference, estimate, sampling_standard_error_pp

values = st.lists(st.floats(0, 100), min_size=2, max_size=8)


def _sample(*numbers, first_seed=0):
    return Sample.of(list(enumerate(numbers, start=first_seed)))


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


def test_a_sample_is_sorted_by_seed_and_omits_missing_values():
    sample = Sample.of([(2, 5.0), (1, None), (0, 4.0)])
    assert (sample.seeds, sample.values) == ((0, 2), (4.0, 5.0))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=8))
def test_networks_with_the_same_seeds_are_compared_by_a_paired_t_interval(pairs):
    first, second = zip(*pairs, strict=True)
    got = difference(_sample(*first), _sample(*second))
    assert (got.method, got.n) == ("paired", len(pairs))
    deltas = np.subtract(first, second)
    assert got.mean == pytest.approx(deltas.mean(), abs=1e-9)
    assert got.std == pytest.approx(deltas.std(ddof=1), abs=1e-9)
    if got.std > 1e-6:
        expected = scipy_stats.ttest_rel(first, second).confidence_interval(0.95)
        assert got.interval == pytest.approx((expected.low, expected.high))


@given(values, values)
def test_networks_with_different_seeds_are_compared_by_welchs_t_interval(first, second):
    got = difference(_sample(*first), _sample(*second, first_seed=100))
    assert (got.method, got.n, got.std) == ("Welch", min(len(first), len(second)), None)
    if np.std(first) > 1e-6 and np.std(second) > 1e-6:
        expected = scipy_stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert got.interval == pytest.approx((expected.low, expected.high))


def test_only_shared_seeds_are_paired():
    got = difference(_sample(93.0, 94.0, 95.0, 10.0), _sample(90.0, 92.0, 91.0))
    assert (got.method, got.n) == ("paired", 3)
    assert got.mean == pytest.approx(3.0)


def test_few_shared_seeds_are_not_paired_at_the_cost_of_the_others():
    first = _sample(*range(10))
    second = _sample(*range(10), first_seed=8)  # shares seeds 8 and 9
    assert difference(first, second).method == "Welch"


def test_seeds_are_paired_if_half_of_the_smaller_sample_is_shared():
    got = difference(_sample(*range(10)), _sample(5.0, 6.0, 7.0, 8.0, first_seed=8))
    assert (got.method, got.n) == ("paired", 2)


def test_repeated_seeds_are_not_paired():
    repeated = Sample.of([(0, 1.0), (0, 2.0), (1, 3.0)])
    assert not repeated.has_distinct_seeds
    assert difference(repeated, _sample(1.0, 2.0)).method == "Welch"
    assert difference(_sample(1.0, 2.0), repeated).method == "Welch"


def test_a_single_run_gives_a_difference_without_interval():
    got = difference(_sample(93.0, 94.0), _sample(90.0))
    assert (got.mean, got.method, got.interval, got.n) == (3.5, "single", None, 1)


def test_constant_values_have_an_interval_of_zero_width():
    got = difference(_sample(2.0, 2.0), _sample(1.0, 1.0, first_seed=5))
    assert (got.method, got.interval) == ("Welch", (1.0, 1.0))


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(91.95, 90.84, 0.40), (86.71, 90.84, 0.45), (93.25, 91.95, 0.37)]
)
def test_the_sampling_errors_of_the_report_are_reproduced(first, second, expected):
    assert round(sampling_standard_error_pp(first, second, 10_000), 2) == expected


def test_the_sampling_error_matches_simulated_binomial_draws():
    rng = np.random.default_rng(0)
    draws = rng.binomial(400, 0.9, 100_000) - rng.binomial(400, 0.8, 100_000)
    assert sampling_standard_error_pp(90, 80, 400) == pytest.approx(100 / 400 * draws.std(), rel=0.02)


def test_amplification_of_single_runs_is_a_ratio_without_interval():
    got = amplification((_sample(93.25), _sample(86.71)), (_sample(91.95), _sample(90.84)))
    assert got.value == pytest.approx(6.54 / 1.11)
    assert (got.n, got.interval, got.is_unbounded) == (1, None, False)


def test_amplification_with_one_deep_run_has_the_n_of_the_smallest_sample_and_no_interval():
    shallow = _sample(92.0, 91.9, 92.1), _sample(90.8, 90.9, 90.7)
    got = amplification((_sample(93.25), _sample(86.71)), shallow)
    assert (got.n, got.interval, got.is_unbounded) == (1, None, False)
    assert amplification((_sample(93.0, 93.1, 93.2), _sample(86.0, 86.1, 86.2)), shallow).n == 3
    assert amplification(shallow, (_sample(93.0, 93.1), _sample(86.0, 86.2))).n == 2


def test_amplification_interval_is_the_joint_bootstrap_over_shared_seeds():
    deep = _sample(93.2, 93.4, 93.1, 93.3), _sample(86.5, 87.0, 86.2, 86.9)
    shallow = _sample(92.0, 91.9, 92.1, 91.8), _sample(90.8, 90.9, 90.7, 90.9)
    got = amplification(deep, shallow)
    # The bootstrap draws from these 4⁴ equally likely resamples.
    picks = np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T
    means = [np.array(sample.values)[picks].mean(axis=1) for sample in (*deep, *shallow)]
    exact = np.quantile((means[0] - means[1]) / (means[2] - means[3]), [0.025, 0.975])
    assert got.interval == pytest.approx(exact, rel=0.02)
    assert got.value == pytest.approx(6.6 / 1.125)
    assert got.interval[0] < got.value < got.interval[1]


def test_amplification_resamples_networks_with_different_seeds_independently():
    deep = _sample(93.2, 93.4), _sample(86.5, 87.0, first_seed=10)
    shallow = _sample(92.0, 91.9, first_seed=20), _sample(90.8, 90.9, first_seed=30)
    got = amplification(deep, shallow)
    means = [np.array(s.values)[list(np.ndindex(2, 2))].mean(axis=1) for s in (*deep, *shallow)]
    ratios = [(a - b) / (c - d) for a in means[0] for b in means[1] for c in means[2] for d in means[3]]
    assert got.interval == pytest.approx(np.quantile(ratios, [0.025, 0.975]), rel=0.01)


def test_amplification_resamples_repeated_seeds_independently():
    repeated = Sample.of([(0, 93.2), (0, 93.4)])
    deep, shallow = (repeated, _sample(86.5, 86.5)), (_sample(92.0, 92.0), _sample(90.0, 90.0))
    # Joint resampling of a twin with the same seeds would always give 3.4.
    twin = Sample.of([(0, 87.2), (0, 87.4)])
    got = amplification((repeated, twin), shallow)
    assert got.interval == pytest.approx((2.9, 3.1))
    assert amplification(deep, shallow).value == pytest.approx(3.4)


def test_amplification_is_deterministic():
    pairs = (_sample(93.2, 93.4), _sample(86.5, 87.0)), (_sample(92.0, 91.9), _sample(90.8, 90.6))
    assert amplification(*pairs) == amplification(*pairs)


@pytest.mark.parametrize("shallow_residual", [(92.4, 90.0), (91.0, 91.0)])
def test_amplification_is_unbounded_if_the_shallow_gap_may_be_zero(shallow_residual):
    shallow = _sample(*shallow_residual), _sample(91.0, 91.0)
    got = amplification((_sample(93.0, 93.2), _sample(86.0, 86.2)), shallow)
    assert got.is_unbounded
    assert got.interval is None
    assert (got.value is None) == (shallow_residual == (91.0, 91.0))


@pytest.mark.parametrize(
    "gaps",
    [
        (1.0, 3.0),  # the t-interval includes zero, but no resampled mean is zero or less
        (5.0, 5.0, 5.0, 5.0, -0.1),  # the t-interval excludes zero, but the smallest resampled mean is negative
    ],
)
def test_amplification_is_unbounded_if_the_interval_or_a_resampled_shallow_gap_includes_zero(gaps):
    plain = _sample(*[90.0] * len(gaps))
    shallow = _sample(*(90.0 + gap for gap in gaps)), plain
    assert amplification((_sample(*[95.0] * len(gaps)), plain), shallow).is_unbounded


def test_amplification_keeps_pairs_within_a_depth_if_depths_have_different_seeds():
    # Paired differences are constant, so any variation would come from broken pairs.
    deep = _sample(90.0, 80.0), _sample(84.0, 74.0)
    shallow = _sample(70.0, 60.0, first_seed=5), _sample(68.0, 58.0, first_seed=5)
    assert amplification(deep, shallow).interval == pytest.approx((3.0, 3.0))
