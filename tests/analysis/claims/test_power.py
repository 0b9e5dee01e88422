"""Plans of studies: detectable effects and seeds needed, from a given or a measured spread."""

import pytest

from resnet_cli.analysis.claims.power import Spread, measured_spreads, power_document
from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.stats import detectable_effect, upper_sigma
from resnet_cli.errors import InputError, UsageError


def plan(claim, sigma, seeds=(3, 5, 10), **options):
    return power_document(claim, [Spread(sigma, "given")], seeds, **options)["plans"][0]


def test_detectable_effects_of_a_gap_are_2_5_1_7_and_1_2_deviations_above_the_margin():
    effects = [row["effect"] for row in plan("gap", 1.0)["detectable"]]
    assert effects == pytest.approx([0.2 + 2.48, 0.2 + 1.72, 0.2 + 1.16], abs=0.01)


def test_the_detectable_effect_of_degradation_lies_above_its_margin():
    (row,) = plan("degradation", 1.0, [5])["detectable"]
    assert row["effect"] == pytest.approx(0.5 + detectable_effect(1.0, 5, alpha=0.05))


def test_a_family_and_several_looks_cost_seeds():
    alone = plan("gap", 0.5)
    assert alone["seeds_needed_in_family"] > alone["seeds_needed"]
    assert plan("gap", 0.5, alpha=0.02)["seeds_needed"] > alone["seeds_needed"]
    assert all(row["effect_in_family"] > row["effect"] for row in alone["detectable"])


def test_amplification_needs_more_seeds_than_a_gap():
    assert plan("amplification", 0.5)["seeds_needed"] > plan("gap", 0.5)["seeds_needed"]


def test_a_claim_with_several_parts_needs_more_seeds_than_one_of_them():
    one, ten = (
        power_document("diagonal", [Spread(1.0, "given", parts)], [5])["plans"][0] for parts in (1, 10)
    )  # fmt: skip
    assert ten["seeds_needed"] > one["seeds_needed"]
    assert ten["detectable"][0]["effect"] > one["detectable"][0]["effect"]


def test_a_hopeless_plan_has_no_number_of_seeds():
    assert plan("gap", 1000.0)["seeds_needed"] is None


def test_a_computation_without_chance_cannot_be_planned():
    with pytest.raises(UsageError, match="involves no chance"):
        plan("capacity", 1.0)


def test_the_spread_of_runs_is_the_upper_limit_of_the_noisiest_network(make_run, tmp_path):
    accuracies = {("plain", 20): (90, 90.1, 90.2), ("resnet", 20): (91, 91.1, 91.2),
                  ("plain", 56): (85, 87, 89), ("resnet", 56): (93, 93.1, 93.2)}  # fmt: skip
    for (arch, depth), values in accuracies.items():
        for seed, accuracy in enumerate(values):
            make_run(tmp_path / f"{arch}-{depth}-{seed}", arch=arch, depth=depth, seed=seed, accuracy=accuracy,
                     predictions=False)  # fmt: skip
    study = load_study([tmp_path], with_metrics=True)
    (gap,) = measured_spreads(study, "gap", warn=pytest.fail)
    (scaling,) = measured_spreads(study, "scaling", warn=pytest.fail)
    assert gap.sigma == pytest.approx(upper_sigma(2.0, 3))
    assert scaling.sigma == pytest.approx(upper_sigma(0.1, 3))
    assert gap.source.startswith("upper 80 % limit from 3 seeds")
    with pytest.raises(InputError, match="no two seeds with different results for degradation"):
        measured_spreads(study, "degradation", warn=pytest.fail)
