"""Measures of single runs equal numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from resnet_cli.analysis.claims.measures import (
    area_of_deletions,
    before_first_drop,
    brownness,
    convergence_times,
    distance_from_constant,
    epochs_to_reach,
    fluctuations,
    harm_of_deletion,
    information_loss,
    log_curvature,
    log_fluctuation,
    log_shrinkage,
    log_smallest_ratio,
)


def epochs(errors, lr=0.1):
    rates = lr if isinstance(lr, list) else [lr] * len(errors)
    return pd.DataFrame({"epoch": range(1, len(errors) + 1), "lr": rates, "train_clean_error_pct": errors})


def accuracies(values, lr=0.1):
    return pd.DataFrame({"lr": lr, "test_accuracy_pct": values})


def test_the_time_to_a_threshold_is_interpolated_between_epochs():
    # from 70 % after epoch 1 to 40 % after epoch 2: 50 % is two thirds of the way
    assert epochs_to_reach([1, 2, 3, 4], [70, 40, 30, 20], 50, 90) == pytest.approx(1 + 2 / 3)


def test_the_time_to_a_threshold_within_the_first_epoch_starts_from_guessing():
    assert epochs_to_reach([1, 2, 3], [50, 40, 30], 70, 90) == pytest.approx(0.5)


def test_a_threshold_counts_as_reached_only_if_the_error_stays_below_it_for_three_epochs():
    errors = [80, 45, 45, 60, 44, 43, 42]
    assert epochs_to_reach(range(1, 8), errors, 50, 90) == pytest.approx(4 + 10 / 16)


def test_a_threshold_first_reached_in_the_last_two_epochs_has_no_time_and_the_epoch_before_them_is_a_lower_bound():
    errors = [80, 70, 60, 45, 44]
    assert math.isnan(epochs_to_reach(range(1, 6), errors, 50, 90))
    times = convergence_times(epochs(errors), chance_error=90)
    assert (50 in times.not_reached, times.logs[50]) == (True, math.log(3))
    assert epochs_to_reach(range(1, 7), [*errors, 43], 50, 90) == pytest.approx(3 + 10 / 15)


def test_a_threshold_that_is_never_reached_has_no_time():
    assert math.isnan(epochs_to_reach([1, 2, 3], [80, 70, 60], 50, 90))


def test_convergence_times_are_logarithms_and_name_what_was_not_reached():
    times = convergence_times(epochs([65, 55, 45, 35, 34, 33]), chance_error=90)
    assert times.logs[60] == pytest.approx(math.log(1.5))
    assert times.logs[40] == pytest.approx(math.log(3.5))
    assert times.logs[10] == math.log(4)  # a lower bound
    assert times.not_reached == {30, 20, 10}


def test_convergence_ends_at_the_first_drop_of_the_learning_rate_and_not_at_the_end_of_the_warm_up():
    rows = epochs([80, 55, 54, 53, 5, 5], lr=[0.01, 0.1, 0.1, 0.1, 0.01, 0.001])
    assert before_first_drop(rows)["epoch"].tolist() == [1, 2, 3, 4]
    assert convergence_times(rows, chance_error=90).not_reached == {50, 40, 30, 20, 10}


def test_convergence_is_not_measured_with_an_epoch_missing_or_fewer_than_three():
    assert convergence_times(epochs([80, None, 60, 50]), chance_error=90) is None
    assert convergence_times(epochs([80, 60]), chance_error=90) is None


def test_thresholds_above_the_error_of_guessing_are_not_timed():
    times = convergence_times(epochs([40, 30, 20]), chance_error=50)  # two classes
    assert set(times.logs) == {40, 30, 20, 10}
    assert times.logs[40] == pytest.approx(0.0)


def test_the_fluctuation_comes_from_second_differences_after_the_first_third_of_a_phase():
    rows = accuracies([10, 90, 50, 51, 50, 51])  # second differences −2 and 2
    assert log_fluctuation(rows, resolution=0.01) == pytest.approx(math.log(math.sqrt(4 / 6)))


def test_the_fluctuation_of_independent_noise_is_its_deviation():
    noise = np.random.default_rng(0).normal(0, 2.5, 3000)
    assert log_fluctuation(accuracies(80 + noise), resolution=0.01) == pytest.approx(math.log(2.5), abs=0.05)


def test_a_straight_line_fluctuates_by_the_resolution():
    line = accuracies([50.0, 51.0, 52.0, 53.0, 54.0, 55.0])
    assert log_fluctuation(line, resolution=0.005) == pytest.approx(math.log(0.005))
    assert log_fluctuation(accuracies([100.0] * 6), resolution=0.14) == pytest.approx(math.log(0.14))


def test_equal_noise_on_a_fast_and_on_a_slow_learner_fluctuates_alike():
    rng, epochs = np.random.default_rng(0), np.arange(12)
    fast, slow = 78 - 28 * np.exp(-epochs / 2), 64 - 39 * np.exp(-epochs / 5)
    logs = [
        np.mean([log_fluctuation(accuracies(curve + rng.normal(0, 1, 12)), resolution=0.01) for _ in range(300)])
        for curve in (fast, slow)
    ]
    assert logs[0] == pytest.approx(logs[1], abs=0.1)


def test_the_fluctuation_is_averaged_over_phases_of_the_learning_rate():
    first, second = [50, 51, 50, 51, 50, 51], [80, 80.1, 80, 80.1, 80, 80.1]
    whole = pd.concat([accuracies(first, 0.1), accuracies(second, 0.01)], ignore_index=True)
    parts = [log_fluctuation(accuracies(part), resolution=1e-6) for part in (first, second)]
    assert log_fluctuation(whole, resolution=1e-6) == pytest.approx(np.mean(parts))


def test_phases_shorter_than_six_epochs_have_no_fluctuation():
    assert math.isnan(log_fluctuation(accuracies([50, 51, 50, 51, 50]), resolution=0.01))


def test_the_fluctuation_with_learning_is_the_deviation_of_first_differences_of_the_whole_phase():
    rows = accuracies([10, 30, 40, 40, 41, 40])  # differences 20, 10, 0, 1, −1
    expected = np.std([20, 10, 0, 1, -1], ddof=1) / math.sqrt(2)
    assert fluctuations(rows, with_learning=True) == pytest.approx([expected])
    noise = np.random.default_rng(0).normal(0, 2.5, 3000)
    assert fluctuations(accuracies(0.1 * np.arange(3000) + noise), with_learning=True) == pytest.approx([2.5], abs=0.1)


def gradients(growth_by_stage):
    """Two blocks per stage; the first one of stages 2 and 3 changes the shape and does not count."""
    rows = [
        {"layer": f"layer{stage}.{block}.conv1", "stage": stage, "block": block, "growth": growth,
         "input_grad_norm": 1.0, "scale_free_grad_norm": 1.0}
        for stage, growth in growth_by_stage.items()
        for block in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_distance_from_a_constant_gradient_is_the_mean_of_absolute_logarithms():
    rows = gradients({1: 2.0, 2: 0.5, 3: 1.0})
    assert distance_from_constant(rows) == pytest.approx(2 * math.log(2) / 3)


def test_the_smallest_ratio_is_that_of_the_stage_in_which_the_gradient_shrinks_most():
    rows = gradients({1: 0.1, 2: 0.5, 3: 2.0})  # stage 1 counts both blocks
    assert log_smallest_ratio(rows) == pytest.approx(math.log(0.01))


@pytest.mark.parametrize("measure", [distance_from_constant, log_smallest_ratio])
def test_a_gradient_of_zero_has_no_growth(measure):
    assert not math.isfinite(measure(gradients({1: 0.0, 2: 1.0, 3: 1.0})))


def noise(network):
    levels = {"network": network, "white": 0.0, "brown": 0.8}
    near = [("autocorrelation", series, 1, 0.1, value) for series, value in levels.items()]
    ignored = [("autocorrelation", "network", 0, 0.0, 1.0), ("autocorrelation", "network", 9, 0.9, -1.0),
               ("cosine", None, None, None, None)]  # fmt: skip
    return pd.DataFrame([*near, *ignored], columns=["quantity", "series", "lag", "distance", "autocorrelation"])


def test_brownness_is_0_for_white_and_1_for_brown_noise_at_small_distances():
    assert [brownness(noise(value)) for value in (0.0, 0.2, 0.8)] == pytest.approx([0, 0.25, 1])


def test_brownness_needs_both_kinds_of_noise():
    rows = noise(0.2)
    assert math.isnan(brownness(rows[rows["series"] != "white"]))


@pytest.mark.parametrize("marks", [[False, False, True, False], ["False", "False", "True", "False"]])
def test_the_shrinkage_of_branches_leaves_out_blocks_that_change_the_shape(marks):
    rows = pd.DataFrame({"branch_to_skip_growth": [0.5, 0.125, 9.0, None], "downsampling": marks})
    assert log_shrinkage(rows) == pytest.approx(math.log(4))


def test_the_harm_of_a_deletion_is_the_mean_over_single_blocks_that_keep_the_shape():
    rows = pd.DataFrame(
        [("delete", "re-estimated", False, 2.0), ("delete", "re-estimated", False, 4.0),
         ("delete", "re-estimated", True, 70.0), ("delete", "running", False, 8.0),
         ("delete-random", "re-estimated", None, 50.0), ("swap", "re-estimated", None, 60.0)],
        columns=["lesion", "statistics", "downsampling", "error_change_pp"],
    )  # fmt: skip
    assert harm_of_deletion(rows) == 3.0
    assert harm_of_deletion(rows, "running") == 8.0


def test_the_area_of_deletions_is_the_mean_error_over_the_deleted_share():
    shares, errors = [0.0, 0.5, 1.0], [10.0, 20.0, 90.0]
    curve = pd.DataFrame({
        "lesion": "delete-random", "statistics": "re-estimated", "repeat": 1, "deleted_share": shares,
        "error_pct": errors, "error_change_pp": [error - 10 for error in errors],
    })  # fmt: skip
    assert area_of_deletions(curve) == pytest.approx(0.5 * 15 + 0.5 * 55)
    assert math.isnan(area_of_deletions(curve.assign(lesion="delete")))


def eigenvalue(value, residual):
    return pd.DataFrame(
        [("eigenvalue", "DHD", "largest", value, residual), ("eigenvalue", "DHD", "smallest", -9.0, 0.0),
         ("eigenvalue", "H", "largest", 99.0, 0.0), ("slice", None, None, None, None)],
        columns=["part", "matrix", "end", "eigenvalue", "residual"],
    )  # fmt: skip


def test_the_curvature_is_the_largest_eigenvalue_of_the_scale_free_hessian():
    assert log_curvature(eigenvalue(7.0, 0.1)) == pytest.approx(math.log(7))


def test_an_eigenvalue_that_has_not_converged_is_no_measurement():
    assert math.isnan(log_curvature(eigenvalue(7.0, 0.8)))
    assert math.isnan(log_curvature(eigenvalue(-7.0, 0.0)))


def test_the_information_loss_is_from_the_best_to_the_last_block():
    rows = pd.DataFrame(
        {"quantity": ["linear probe"] * 3 + ["cka"], "block_index": [2, 0, 1, 0], "accuracy_pct": [70, 40, 90, None]}
    )
    assert information_loss(rows) == 20
