"""Verdicts follow their rules, and their error rates are nominal at 3, 5 and 10 seeds."""

import math

import msgspec
import numpy as np
import pytest

from resnet_cli.analysis.claims import predictions
from resnet_cli.analysis.claims.catalogue import CLAIMS
from resnet_cli.analysis.claims.decisions import (
    ALPHA,
    Rule,
    Term,
    alpha_per_look,
    amount,
    certain,
    effect_found,
    every,
    judge_certain,
    judge_family,
)
from resnet_cli.analysis.stats import Sample, holm

SIMULATIONS = 1500
# Welch's test with three seeds and unequal deviations has a level of up to 0.053 (benchmarks/claim_error_rates.py).
LEVEL = 0.053
RULES = {claim.name: claim.rule for claim in CLAIMS if claim.rule} | {"calibration": predictions.NOT_WORSE_CALIBRATED}
MARGIN = Rule(unit="pp", margin=0.5, planned=1.5, no_effect_within=0.5)
ABOVE_ZERO = Rule(unit="pp", planned=1.0)
ABOUT_TWICE = Rule(unit="log ratio", margin=math.log(1.6), upper=math.log(2.5), planned=math.log(2))


def gap(first, second):
    return [Term(1.0, "deep", Sample.of(enumerate(first))), Term(-1.0, "shallow", Sample.of(enumerate(second)))]


def drawn(rng, mean, n, sigma=(1.0, 0.3)):
    """Two networks whose means differ by `mean`."""
    return gap(rng.normal(mean, sigma[0], n), rng.normal(0, sigma[1], n))


def rates(rule, effect, n, sigma=(1.0, 0.3)):
    """Shares of simulated studies with one claim in which it is supported and refuted."""
    rng = np.random.default_rng(n)
    found = [effect_found(rule, drawn(rng, effect, n, sigma)) for _ in range(SIMULATIONS)]
    supported = sum(one.p_supported < ALPHA for one in found)
    refuted = sum(one.p_refuted < ALPHA for one in found)
    return supported / SIMULATIONS, refuted / SIMULATIONS


def at_most(share, nominal=LEVEL):
    """Whether a simulated rate is at most three Monte-Carlo standard errors above the nominal one."""
    return share <= nominal + 3 * math.sqrt(nominal * (1 - nominal) / SIMULATIONS)


def status(finding, **options):
    return judge_family({"claim": finding}, **options)["claim"].status


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_gap_at_the_margin_is_supported_or_refuted_at_the_nominal_level_only(n):
    assert all(at_most(rate) for rate in rates(MARGIN, 0.5, n))


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_of_a_claim_holds_its_level_at_both_of_its_edges(rule, n):
    rng = np.random.default_rng(n)
    weights = [1.0, -1.0, -1.0, 1.0][: rule.num_networks]
    sigma = (rule.planned - rule.margin) / 2
    rates = []
    for edge, p_value in ((rule.margin, "p_supported"), (_smallest_claimed(rule), "p_refuted")):
        wrong = 0
        for _ in range(SIMULATIONS):
            samples = rng.normal(0, sigma, (len(weights), n))
            samples[0] += edge
            terms = [Term(w, str(i), Sample.of(enumerate(samples[i]))) for i, w in enumerate(weights)]
            wrong += getattr(effect_found(rule, terms), p_value) < ALPHA
        rates.append(wrong / SIMULATIONS)
    assert all(map(at_most, rates)), rates


def _smallest_claimed(rule):
    """The smallest effect that may not be refuted."""
    return rule.margin if rule.upper is not None else max(rule.absent_below, rule.no_effect_within or -math.inf)


@pytest.mark.parametrize(("n", "power"), [(3, 0.6), (5, 0.9), (10, 0.99)])
def test_a_large_gap_is_detected(n, power):
    supported, refuted = rates(MARGIN, 3.0, n)
    assert supported > power
    assert refuted == 0


def test_the_absence_of_a_gap_is_found_with_enough_seeds_but_hardly_ever_from_three():
    assert rates(MARGIN, 0.0, 3)[1] < 0.12
    assert rates(MARGIN, 0.0, 60)[1] > 0.8


@pytest.mark.parametrize("n", [3, 5, 10])
def test_three_null_claims_of_a_family_are_supported_at_the_level_of_the_family(n):
    rng = np.random.default_rng(n)
    wrong = 0
    for _ in range(SIMULATIONS):
        p_values = {name: effect_found(ABOVE_ZERO, drawn(rng, 0.0, n)).p_supported for name in "abc"}
        wrong += min(holm(p_values).values()) < ALPHA
    assert at_most(wrong / SIMULATIONS)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_ratio_at_the_edge_of_twice_as_fast_is_supported_or_refuted_at_the_nominal_level_only(n):
    assert all(at_most(rate) for rate in rates(ABOUT_TWICE, math.log(2.5), n, (0.1, 0.1)))


def test_a_ratio_of_two_is_supported_and_ratios_of_four_and_one_are_refuted():
    rng = np.random.default_rng(0)
    for ratio, expected, no in ((2.0, "supported", ""), (4.0, "refuted", "not "), (1.0, "refuted", "not ")):
        finding = effect_found(ABOUT_TWICE, drawn(rng, math.log(ratio), 5, (0.02, 0.02)))
        verdict = judge_family({"claim": finding})["claim"]
        assert (verdict.status, verdict.reason) == (expected, f"{no}between ×1.6 and ×2.5")


def test_a_verdict_says_on_which_side_of_which_bound_the_effect_lies():
    rule = Rule(unit="pp", margin=0.2, planned=1.0, no_effect_within=0.2)
    spread = np.array([-0.01, 0.0, 0.01, 0.02, -0.02])

    def verdict(effect):
        return judge_family({"claim": effect_found(rule, gap(effect + spread, spread))})["claim"]

    assert (verdict(1.0).status, verdict(1.0).reason) == ("supported", "above 0.2 pp")
    assert (verdict(0.1).status, verdict(0.1).reason) == ("refuted", "no effect: within ±0.2 pp")
    assert (verdict(0.0).status, verdict(0.0).reason) == ("refuted", "no effect: within ±0.2 pp")
    assert (verdict(-1.0).status, verdict(-1.0).reason) == ("refuted", "below 0 pp")


def test_a_large_p_value_alone_refutes_nothing():
    finding = effect_found(ABOVE_ZERO, gap([1.0, -1.0, 0.5], [0.9, -1.2, 0.8]))
    verdict = judge_family({"claim": finding})["claim"]
    assert verdict.p > 0.3
    assert verdict.status == "underpowered"


def test_being_a_little_worse_does_not_refute_a_claim_of_not_being_much_worse():
    rule = Rule(unit="pp", margin=-1.0, absent_below=-1.0, planned=0.0)
    spread = np.array([-0.01, 0.0, 0.01])

    def verdict(*samples):
        found = judge_family({"claim": effect_found(rule, gap(*samples))})["claim"]
        return found.status, found.reason

    assert verdict(spread - 0.5, spread) == ("supported", "worse by at most 1 pp")
    assert verdict(spread - 1.5, spread) == ("refuted", "worse by more than 1 pp")
    aim = "show that it is worse by at most 1 pp"
    noise = np.array([-2.0, 0.0, 2.0])
    assert verdict(noise - 0.5, noise) == ("underpowered", f"223 seeds per network would {aim}")
    calm = np.tile([0.1, -0.1], 5)
    near_the_limit = ("underpowered", f"10 seeds per network suffice to {aim}; a difference near that limit needs more")
    assert verdict(calm - 1.0, calm) == near_the_limit


def test_all_classes_is_supported_only_if_each_is_and_refuted_if_any_is():
    rng = np.random.default_rng(0)

    def claim(*effects):
        parts = {f"class {i}": effect_found(ABOVE_ZERO, drawn(rng, e, 10, (0.1, 0.1))) for i, e in enumerate(effects)}
        return every(parts)

    assert status(claim(2, 2, 2)) == "supported"
    assert status(claim(2, -2, 2)) == "refuted"
    assert status(claim(2, 0.0, 2)) == "underpowered"
    assert claim(2, -2, 2).part == "class 1"
    assert claim(5, 5, 2).part == "class 2 (weakest of 3)"
    assert judge_family({"all": claim(2, -2, 2)})["all"].reason == "class 1: below 0 pp"


def test_the_seeds_needed_for_all_of_ten_classes_detect_the_effect_in_all_of_them_together():
    needed = ABOVE_ZERO.seeds_needed(0.7, num_parts=10)
    assert needed > ABOVE_ZERO.seeds_needed(0.7)
    rng = np.random.default_rng(0)

    def study():
        classes = {str(i): effect_found(ABOVE_ZERO, drawn(rng, 1.0, needed, (0.7, 0.7))) for i in range(10)}
        return every(classes)

    found = [study() for _ in range(200)]
    assert {one.num_parts for one in found} == {10}
    assert sum(one.p_supported < ALPHA for one in found) / len(found) > 0.72  # 0.8 − 3 standard errors


def test_no_plan_has_fewer_seeds_than_a_decision():
    assert ABOVE_ZERO.seeds_needed(1e-6) == 3


def test_a_class_without_spread_neither_supports_nor_hides_the_contradiction_of_another():
    same = effect_found(ABOVE_ZERO, gap([100.0] * 3, [97.0] * 3))
    worse = effect_found(ABOVE_ZERO, gap([90.0, 90.1, 89.9], [95.0, 95.1, 94.9]))
    assert status(every({"a": same})) == "underpowered"
    assert status(every({"a": same, "b": worse})) == "refuted"
    assert every({"a": same, "b": worse}).part == "b"


@pytest.mark.parametrize("value", [5.0, 5.1, 0.1 + 0.2])
@pytest.mark.parametrize("n", [3, 7, 10])
def test_identical_values_of_all_seeds_decide_nothing(value, n):
    terms = gap([value] * n, [0.0] * n)
    finding = effect_found(ABOVE_ZERO, [term._replace(sample=msgspec.structs.replace(term.sample, resolution=0.14))
                                        for term in terms])  # fmt: skip
    assert finding.standard_error == 0.14
    assert finding.details == ("the seeds vary less than the resolution of the measure, which is the standard error",)
    verdict = judge_family({"claim": finding})["claim"]
    assert (verdict.status, verdict.p, verdict.seeds_needed) == ("underpowered", None, None)
    assert "more images" in verdict.reason


def test_one_seed_is_underpowered_and_a_claim_without_data_not_measured():
    verdicts = judge_family({"one": effect_found(ABOVE_ZERO, gap([9.0], [1.0])), "none": None})
    assert (verdicts["one"].status, verdicts["none"].status) == ("underpowered", "not measured")
    assert "at least three" in verdicts["one"].reason


def test_the_seeds_needed_depend_on_the_plan_and_not_on_the_observed_effect():
    rng = np.random.default_rng(0)
    deep, shallow = rng.normal(0, 1, 3), rng.normal(0, 1, 3)

    def needed(rule, shift):
        return judge_family({"claim": effect_found(rule, gap(deep + shift, shallow))})["claim"].seeds_needed

    assert needed(ABOVE_ZERO, 0.0) == needed(ABOVE_ZERO, 9.0) > 3
    assert needed(Rule(unit="pp", planned=2.0), 0.0) < needed(ABOVE_ZERO, 0.0)


def test_a_larger_family_needs_more_seeds():
    finding = effect_found(ABOVE_ZERO, gap([0.0, 1.0, -1.0], [0.5, -0.5, 0.0]))
    alone = judge_family({"a": finding})["a"].seeds_needed
    assert judge_family(dict.fromkeys("abcde", finding))["a"].seeds_needed > alone


def test_an_undecided_claim_says_how_many_seeds_detect_the_planned_effect():
    undecided = effect_found(ABOVE_ZERO, gap([0.0, 1.0, -1.0], [0.5, -0.5, 0.0]))
    verdict = judge_family({"a": undecided})["a"]
    assert verdict.reason == f"{verdict.seeds_needed} seeds per network would detect the planned effect of 1 pp"
    hopeless = effect_found(ABOVE_ZERO, gap([-900.0, 900.0, 0.0], [0.0, 0.0, 0.0]))
    assert judge_family({"a": hopeless})["a"].reason == (
        "at this spread, it would take more than 10,000 seeds per network to detect the planned effect of 1 pp"
    )
    spread = np.tile([0.1, -0.1], 5)
    enough = judge_family({"a": effect_found(Rule(unit="pp", planned=1.0), gap(spread + 0.02, spread))})["a"]
    assert enough.status == "underpowered"
    assert (
        enough.reason == "10 seeds per network suffice to detect the planned effect of 1 pp; a smaller one needs more"
    )


def test_two_tests_of_an_interval_need_more_seeds_than_one():
    one = Rule(unit="", margin=0.0, planned=0.5)
    two = Rule(unit="", margin=0.0, upper=1.0, planned=0.5)
    assert two.seeds_needed(1.0) > one.seeds_needed(1.0)
    assert two.detectable(1.0, 5) > one.detectable(1.0, 5)


def test_a_computation_that_holds_is_supported_and_one_that_fails_refuted():
    same, different = (certain(holds, value=1.0, unit="logit", n=3) for holds in (True, False))
    verdicts = [judge_certain(finding, "no prediction changes") for finding in (same, different, None)]
    assert [verdict.status for verdict in verdicts] == ["supported", "refuted", "not measured"]
    assert [verdict.reason for verdict in verdicts[:2]] == ["no prediction changes", "not true: no prediction changes"]


def test_several_looks_share_the_level_of_one():
    assert [alpha_per_look(looks) for looks in (1, 2, 3, 5)] == [0.05, 0.02, 0.02, 0.01]
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(SIMULATIONS):
        deep, shallow = rng.normal(0, 1, 10), rng.normal(0, 1, 10)
        looks = (effect_found(ABOVE_ZERO, gap(deep[:n], shallow[:n])).p_supported for n in (3, 5, 10))
        wrong += min(looks) < alpha_per_look(3)
    assert at_most(wrong / SIMULATIONS, 0.05)


def test_rules_read_as_sentences():
    assert str(MARGIN) == "above 0.5 pp; refuted if below 0 pp or within ±0.5 pp"
    assert str(ABOUT_TWICE) == "between ×1.6 and ×2.5; refuted if outside"
    same = Rule(unit="log ratio", planned=1.0, no_effect_within=math.log(1.05))
    assert str(same) == "above ×1; refuted if below ×1 or within a factor of 1.05"


def test_effects_on_a_logarithmic_scale_are_written_as_factors():
    assert amount(math.log(2), "log ratio") == "×2"
    assert amount(-1.5, "pp", sign="+") == "−1.5"
    assert amount(1.5, "pp", sign="+") == "+1.5"
    assert amount(1e6, "log ratio").startswith("×1.01e+304")
