"""Verdicts follow their rules, and their error rates are nominal at 3, 5 and 10 seeds."""

import math

import msgspec
import numpy as np
import pytest

from resnet_cli.analysis.claims.decisions import (
    Finding,
    certain,
    effect_above,
    equivalence,
    every,
    judge,
    judge_family,
)
from resnet_cli.analysis.stats import Sample

SIMULATIONS = 2000
# Welch's test with three seeds and unequal deviations has a level of up to 0.053 (400,000 simulations).
LEVEL = 0.053


def gap(rng, mean, n, sigma=(1.0, 0.3)):
    """Two networks whose means differ by `mean`."""
    samples = [Sample.of(enumerate(rng.normal(loc, scale, n))) for loc, scale in zip((mean, 0.0), sigma, strict=True)]
    return [(1.0, "deep", samples[0]), (-1.0, "shallow", samples[1])]


def rates(finding_of, n, seed=0):
    """Shares of simulated studies in which the claim is supported and refuted."""
    rng = np.random.default_rng([n, seed, 1])
    found = [judge_family({"claim": finding_of(rng, n)})["claim"].status for _ in range(SIMULATIONS)]
    return found.count("supported") / SIMULATIONS, found.count("refuted") / SIMULATIONS


def at_most(share, nominal):
    return share <= nominal + 3 * math.sqrt(nominal * (1 - nominal) / SIMULATIONS)


def degradation(effect):
    return lambda rng, n: effect_above(gap(rng, effect, n), unit="pp", margin=0.5, planned=1.5, no_effect_within=0.5)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_gap_at_the_margin_is_called_supported_at_the_nominal_level_only(n):
    supported, _ = rates(degradation(0.5), n)
    assert at_most(supported, LEVEL)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_true_claim_is_refuted_at_the_nominal_level_only(n):
    _, refuted = rates(degradation(0.51), n)
    assert at_most(refuted, LEVEL)


@pytest.mark.parametrize(("n", "power"), [(3, 0.6), (5, 0.9), (10, 0.99)])
def test_a_large_gap_is_detected(n, power):
    supported, refuted = rates(degradation(3.0), n)
    assert supported > power
    assert refuted == 0


def test_the_absence_of_a_gap_is_found_with_enough_seeds_but_never_from_three():
    _, few = rates(degradation(0.0), 3)
    _, many = rates(degradation(0.0), 60)
    assert few < 0.12
    assert many > 0.8


@pytest.mark.parametrize("n", [3, 5, 10])
def test_three_null_claims_of_a_family_are_supported_at_the_level_of_the_family(n):
    rng = np.random.default_rng(n)
    wrong = 0
    for _ in range(SIMULATIONS):
        findings = {name: effect_above(gap(rng, 0.0, n), unit="pp", planned=1.0) for name in "abc"}
        wrong += any(verdict.status == "supported" for verdict in judge_family(findings).values())
    assert at_most(wrong / SIMULATIONS, LEVEL)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_ratio_at_the_edge_of_twice_as_fast_is_supported_at_the_nominal_level_only(n):
    def finding(rng, n):
        return equivalence(gap(rng, math.log(2.5), n, (0.1, 0.1)), unit="", low=math.log(1.6), high=math.log(2.5))

    supported, refuted = rates(finding, n)
    assert at_most(supported, LEVEL)
    assert at_most(refuted, LEVEL)


def test_a_ratio_of_two_is_supported_and_one_of_four_refuted_with_small_spread():
    rng = np.random.default_rng(0)
    for ratio, expected in ((2.0, "supported"), (4.0, "refuted"), (1.0, "refuted")):
        terms = gap(rng, math.log(ratio), 5, (0.02, 0.02))
        finding = equivalence(terms, unit="", low=math.log(1.6), high=math.log(2.5))
        assert judge_family({"claim": finding})["claim"].status == expected


def test_all_classes_is_supported_only_if_each_is_and_refuted_if_any_is():
    rng = np.random.default_rng(0)

    def claim(*effects):
        findings = {
            str(i): effect_above(gap(rng, e, 10, (0.1, 0.1)), unit="pp", planned=1) for i, e in enumerate(effects)
        }
        return judge_family({"all": every(findings, unit="pp")})["all"].status

    assert claim(2, 2, 2) == "supported"
    assert claim(2, -2, 2) == "refuted"
    assert claim(2, 0.0, 2) == "underpowered"


def test_identical_counts_in_all_seeds_decide_nothing():
    same = Sample.of([(0, 5.0), (1, 5.0), (2, 5.0)], resolution=0.14)
    zero = Sample.of([(0, 0.0), (1, 0.0), (2, 0.0)], resolution=0.14)
    finding = effect_above([(1.0, "a", same), (-1.0, "b", zero)], unit="pp", planned=1.0)
    verdict = judge_family({"claim": finding})["claim"]
    assert verdict.status == "underpowered"
    assert "more test images" in verdict.reason
    assert finding.seeds_needed() is None


def test_one_seed_is_underpowered_and_a_claim_without_data_not_measured():
    one = [(1.0, "a", Sample.of([(0, 9.0)])), (-1.0, "b", Sample.of([(0, 1.0)]))]
    verdicts = judge_family({"one": effect_above(one, unit="pp", planned=1.0), "none": None})
    assert (verdicts["one"].status, verdicts["none"].status) == ("underpowered", "not measured")
    assert "at least three" in verdicts["one"].reason


def test_the_seeds_needed_depend_on_the_plan_and_not_on_the_observed_effect():
    rng = np.random.default_rng(0)
    terms = gap(rng, 0.0, 3)
    (_, _, deep), shallow = terms
    higher = msgspec.structs.replace(deep, values=tuple(value + 9 for value in deep.values))
    shifted = [(1.0, "deep", higher), shallow]
    needed = [effect_above(t, unit="pp", planned=1.0).seeds_needed() for t in (terms, shifted)]
    assert needed[0] == needed[1] > 3
    assert effect_above(terms, unit="pp", planned=2.0).seeds_needed() < needed[0]


def test_a_computation_that_holds_is_supported_and_one_that_fails_refuted():
    for holds, status in ((True, "supported"), (False, "refuted")):
        finding = certain(holds, value=1e-6, unit="logit", n=3)
        assert isinstance(finding, Finding)
        assert judge(finding, p_supported=finding.p_supported, p_refuted=finding.p_refuted).status == status
