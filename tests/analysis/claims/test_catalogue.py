"""Every claim is supported by strong evidence, refuted by the opposite, and not measured without its data."""

import functools

import msgspec
import pandas as pd
import pytest
from claim_frames import NO_ROWS, make_evidence, without_networks

from resnet_cli.analysis.claims.catalogue import CLAIMS
from resnet_cli.analysis.claims.document import (
    claim_named,
    claims_document,
    claims_report,
    explanation,
    judge_claims,
)
from resnet_cli.analysis.frames import load_study

NAMES = [claim.name for claim in CLAIMS]
NEEDS = {
    "degradation": "bn", "degradation-warmup": "warmup", "capacity": "capacity", "convergence": "epochs",
    "convergence-2x": "epochs", "stability": "epochs", "highway": "gradflow", "vanishing-gradient": "gradflow",
    "shattering": "shattering", "identity-mapping": "responses", "ensemble": "lesion", "landscape": "landscape",
    "information-flow": "similarity", "diagonal": "correct", "confidence": "calibration",
}  # fmt: skip


def rows_by_claim(evidence):
    return {row["claim"]: row for row in judge_claims(evidence)}


@pytest.fixture(scope="module")
def supported():
    return rows_by_claim(make_evidence(holds=True))


@pytest.fixture(scope="module")
def opposite():
    return rows_by_claim(make_evidence(holds=False))


@pytest.fixture(scope="module")
def bare():
    return rows_by_claim(make_evidence(without=set(NEEDS.values())))


@pytest.mark.parametrize("name", NAMES)
def test_a_strong_effect_supports_a_claim(supported, name):
    assert supported[name]["status"] == "supported"


@pytest.mark.parametrize("name", NAMES)
def test_the_opposite_effect_refutes_a_claim(opposite, name):
    assert opposite[name]["status"] == "refuted"


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_claim_without_its_data_is_not_measured_and_names_the_command(bare, name):
    row = bare[name]
    assert row["status"] == "not measured"
    assert claim_named(name).command in row["reason"]
    assert row["value"] is None


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"capacity"}))
def test_one_or_two_seeds_decide_no_claim_that_involves_chance(name):
    one, two = (claim_named(name).test(make_evidence(seeds=seeds)) for seeds in (1, 2))
    assert (one.p_supported, one.p_refuted, one.interval) == (1.0, 1.0, None)
    assert (two.p_supported, two.p_refuted) == (1.0, 1.0)
    assert two.interval is not None


def test_the_effects_are_those_of_the_frames(supported):
    assert supported["degradation"]["value"] == pytest.approx(4, abs=0.1)
    assert supported["gap"]["value"] == pytest.approx(7, abs=0.1)
    assert supported["scaling"]["value"] == pytest.approx(2, abs=0.1)
    assert supported["amplification"]["value"] == pytest.approx(6, abs=0.2)
    assert supported["convergence"]["value"] == pytest.approx(0.69, abs=0.05)
    assert supported["ensemble"]["value"] == pytest.approx(39.5, abs=0.1)
    assert supported["information-flow"]["value"] == pytest.approx(9.5, abs=0.1)
    assert supported["capacity"]["value"] == pytest.approx(1e-6)


def test_a_different_prediction_or_a_logit_beyond_rounding_refutes_the_capacity_of_the_deep_network():
    evidence = make_evidence()
    for column, value, holds in (("max_logit_difference", 9e-6, True), ("max_logit_difference", 2e-5, False),
                                 ("num_changed", 1, False)):  # fmt: skip
        rows = evidence.load_probe("capacity")
        rows.loc[rows["mode"] == "eval", column] = value
        finding = claim_named("capacity").test(msgspec.structs.replace(evidence, load_probe=lambda name, r=rows: r))
        assert (finding.p_supported == 0) == holds


def test_diverged_networks_count_with_the_error_of_guessing():
    rows = rows_by_claim(make_evidence(seeds=5, diverged=2))
    assert rows["gap"]["seeds"]["plain-56"][:2] == [10.0, 10.0]
    assert rows["degradation"]["seeds"]["plain-56"][:2] == [90.0, 90.0]
    assert "2 seeds of plain-56 diverged and are included" in rows["gap"]["details"]
    assert "2 seeds of plain-56 diverged and are missing here" in rows["landscape"]["details"]


def test_seeds_that_a_probe_has_not_measured_are_mentioned():
    evidence = make_evidence()
    rows = evidence.load_probe("bn")
    fewer = rows[~((rows["network"] == "plain-20") & (rows["seed"] == 3))]
    changed = msgspec.structs.replace(evidence, load_probe=lambda name: fewer if name == "bn" else NO_ROWS)
    finding = claim_named("degradation").test(changed)
    assert "1 seed of plain-20 is not measured" in finding.details
    assert finding.n == 4


def test_one_depth_measures_no_claim_about_two():
    evidence = make_evidence()
    same = msgspec.structs.replace(evidence.networks, plain_deep="plain-20", resnet_deep="resnet-20")
    rows = rows_by_claim(msgspec.structs.replace(evidence, networks=same, warmup=None))
    for name in ("degradation", "scaling", "amplification"):
        assert rows[name]["status"] == "not measured"
    assert rows["gap"]["value"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("network", ["plain-20", "plain-56", "resnet-20", "resnet-56"])
def test_a_missing_network_leaves_only_the_claims_about_others(network):
    rows = rows_by_claim(without_networks(make_evidence(without={"warmup"}), network))
    assert all(network not in row["seeds"] for row in rows.values())
    assert rows["amplification"]["status"] == "not measured"


def test_repetitions_of_a_seed_do_not_count_as_seeds():
    evidence = make_evidence(seeds=3)
    again = evidence.runs.assign(path=evidence.runs["path"] + "-again")
    twice = msgspec.structs.replace(evidence, runs=pd.concat([evidence.runs, again], ignore_index=True))
    once, repeated = (claim_named("gap").test(one) for one in (evidence, twice))
    assert repeated == once


def test_a_worse_test_error_without_a_worse_training_error_is_called_overfitting():
    evidence = make_evidence()
    bn = evidence.load_probe("bn")
    bn = bn.assign(error_pct=5.0 + 0.01 * bn["seed"])
    changed = msgspec.structs.replace(evidence, load_probe=lambda name: bn)
    finding = claim_named("degradation").test(changed)
    assert finding.p_refuted < 0.05
    assert any("overfitting instead" in detail for detail in finding.details)
    two = msgspec.structs.replace(make_evidence(seeds=2), load_probe=lambda name: bn[bn["seed"] < 2])
    assert not any("overfitting" in detail for detail in claim_named("degradation").test(two).details)


def test_the_resolution_of_degradation_follows_the_number_of_measured_images():
    evidence = make_evidence()
    bn = evidence.load_probe("bn")
    few = bn.assign(error_pct=5.0 + 0.001 * bn["seed"], num_images=100)
    finding = claim_named("degradation").test(msgspec.structs.replace(evidence, load_probe=lambda name: few))
    low, high = finding.interval
    assert high - low > 1.0  # half of one of 100 images is 0.5 pp


def late(evidence, network, worst, *, seeds=range(5)):
    """Evidence in which seeds of a network do not get below an error, in per cent, although the others do."""
    epochs = evidence.epochs
    clipped = epochs["train_clean_error_pct"].clip(lower=worst).where(
        (epochs["network"] == network) & epochs["seed"].isin(seeds), epochs["train_clean_error_pct"]
    )  # fmt: skip
    return msgspec.structs.replace(evidence, epochs=epochs.assign(train_clean_error_pct=clipped))


@pytest.mark.parametrize("holds", [True, False])
def test_a_time_that_is_a_lower_bound_decides_in_one_direction_only(holds):
    evidence = make_evidence(holds=holds)
    plain, residual = (claim_named("convergence").test(late(evidence, name, 35)) for name in ("plain-20", "resnet-20"))
    assert plain.p_refuted == residual.p_supported == 1.0
    assert (plain.p_supported < 0.05) == holds
    assert (residual.p_refuted < 0.05) == (not holds)
    both = claim_named("convergence").test(late(late(evidence, "plain-20", 35), "resnet-20", 35, seeds=[0]))
    assert (both.p_supported, both.p_refuted) == (1.0, 1.0)
    assert "both networks have times that are lower bounds only" in both.obstacle


def test_networks_that_end_at_different_losses_are_not_compared_by_their_curvature():
    evidence = make_evidence()
    rows = evidence.load_probe("landscape")
    for factor, is_compared in ((1.9, True), (2.1, False)):
        losses = rows.assign(loss=rows["loss"].where(rows["network"] != "plain-56", factor * rows["loss"]))
        row = rows_by_claim(
            msgspec.structs.replace(
                evidence, load_probe=lambda name, found=losses: found if name == "landscape" else NO_ROWS
            )
        )["landscape"]
        assert (row["status"] == "supported") == is_compared
        assert is_compared or "the training losses differ by ×2.1, and curvature falls with the loss" in row["reason"]
    unknown = rows[rows["part"] == "eigenvalue"]
    row = rows_by_claim(
        msgspec.structs.replace(evidence, load_probe=lambda name: unknown if name == "landscape" else NO_ROWS)
    )["landscape"]
    assert (row["status"], row["p"], row["seeds_needed"]) == ("underpowered", None, None)
    assert "the training losses of the networks are not known" in row["reason"]


def test_the_capacity_of_a_network_that_is_not_the_deep_one_of_the_study_decides_nothing():
    evidence = make_evidence()
    rows = evidence.load_probe("capacity").assign(built_depth=44)
    assert claim_named("capacity").test(msgspec.structs.replace(evidence, load_probe=lambda name: rows)) is None


def test_the_growth_of_the_weights_is_told_with_and_without_a_warm_up():
    evidence = make_evidence()
    grown = evidence.gradflow.assign(epoch=1, weight_norm=4.2)
    arm = msgspec.structs.replace(evidence, gradflow=pd.concat([evidence.gradflow, grown]))
    sentence = "in training, the weight norm of a layer grows up to ×4.2 in plain-56 and ×4.2 in plain-20"
    both = msgspec.structs.replace(evidence, warmup=arm)
    assert sentence in claim_named("degradation-warmup").test(both).details
    assert not any("grows" in detail for detail in claim_named("degradation").test(both).details)  # one epoch only
    assert sentence in claim_named("degradation").test(arm).details


def test_stability_has_no_verdict_if_learning_would_turn_it_around():
    evidence = make_evidence()
    assert rows_by_claim(evidence)["stability"]["status"] == "supported"
    # the residual network learns almost everything in the first epochs, then hardly moves
    rows = evidence.epochs
    leap = (rows["network"] == "resnet-56") & (rows["epoch"] <= 2)
    leaping = rows.assign(test_accuracy_pct=rows["test_accuracy_pct"].mask(leap, 5.0 * rows["epoch"]))
    row = rows_by_claim(msgspec.structs.replace(evidence, epochs=leaping))["stability"]
    assert (row["status"], row["p"]) == ("underpowered", None)
    assert row["value"] > 0
    assert "at these seeds two measures disagree: ×" in row["reason"]


def test_fluctuations_below_half_a_test_image_are_counted():
    evidence = make_evidence()
    rows = evidence.epochs
    constant = rows.assign(test_accuracy_pct=rows["test_accuracy_pct"].mask(rows["network"] == "resnet-56", 97.0))
    details = claim_named("stability").test(msgspec.structs.replace(evidence, epochs=constant)).details
    assert any("resnet-56: 5 of 5 runs have a phase below half a test image" in detail for detail in details)


def test_the_gaps_are_told_with_re_estimated_statistics_too():
    evidence = make_evidence()
    errors = {"plain-20": 9.0, "plain-56": 30.0, "resnet-20": 8.0, "resnet-56": 6.0}
    rows = evidence.load_probe("bn").assign(split="test")
    rows = rows.assign(error_pct=rows["network"].map(errors))
    other = msgspec.structs.replace(evidence, load_probe=lambda name: rows if name == "bn" else NO_ROWS)
    for name, gap in (("gap", 24), ("scaling", 2), ("amplification", 23)):
        sentence = f"with re-estimated batch-norm statistics, it is {gap:+.2f} pp"
        assert sentence in claim_named(name).test(other).details
        fewer = msgspec.structs.replace(
            other, load_probe=lambda name: rows[rows["seed"] > 0] if name == "bn" else NO_ROWS
        )
        assert not any("re-estimated" in detail for detail in claim_named(name).test(fewer).details)


def test_lesions_of_other_weights_than_the_last_ones_are_no_evidence():
    evidence = make_evidence()
    for probe, claim in (("lesion", "ensemble"), ("similarity", "information-flow")):
        rows = evidence.load_probe(probe).assign(which="best")
        assert claim_named(claim).test(msgspec.structs.replace(evidence, load_probe=lambda _, rows=rows: rows)) is None


def test_what_survives_along_the_shortcuts_is_told_if_it_was_measured():
    evidence = make_evidence()
    sentence = "at initialisation, 20 % of the norm of the gradient at the last block reaches the first block by the"
    assert claim_named("highway").test(evidence).details[1] == f"{sentence} shortcuts alone"
    old = evidence.load_probe("gradflow").drop(columns="skip_path_survival")
    details = claim_named("highway").test(msgspec.structs.replace(evidence, load_probe=lambda _: old)).details
    assert not any("shortcuts alone" in detail for detail in details)


def test_a_difference_of_a_single_image_does_not_show_that_two_networks_are_equal():
    evidence = make_evidence(seeds=5)
    rows = evidence.load_probe("similarity").assign(num_images=360)
    last = rows["block_index"] == 2
    rows = rows.assign(accuracy_pct=rows["accuracy_pct"].mask(last, 89.0))
    one = last & (rows["network"] == "plain-56") & (rows["seed"] == 0)
    rows = rows.assign(accuracy_pct=rows["accuracy_pct"].mask(one, 89.0 + 100 / 360))
    finding = claim_named("information-flow").test(msgspec.structs.replace(evidence, load_probe=lambda _: rows))
    low, high = finding.interval
    assert high - low > 100 / 360


def test_mcnemars_test_is_told_as_a_statement_about_two_runs():
    details = claim_named("diagonal").test(make_evidence()).details
    assert any(
        detail.startswith("McNemar's test, a statement about the two runs with seed 0 only") for detail in details
    )


def test_the_change_of_the_gradient_over_each_stage_is_told_for_both_deep_networks():
    evidence = make_evidence()
    rows = evidence.gradflow
    changed = rows.assign(growth=((rows["network"] == "plain-56") & (rows["stage"] == 2)) + 1.0)
    details = claim_named("vanishing-gradient").test(msgspec.structs.replace(evidence, gradflow=changed)).details
    assert "towards the input, ‖∂L/∂x‖ of plain-56 changes by factors of 1, 128, 1 over the stages" in details
    assert "towards the input, ‖∂L/∂x‖ of resnet-56 changes by factors of 1, 1, 1 over the stages" in details


def test_measuring_another_claim_never_takes_a_verdict_back():
    evidence = make_evidence(seeds=3)
    frozen = msgspec.structs.replace(evidence, load_probe=functools.cache(evidence.load_probe))
    few = msgspec.structs.replace(
        frozen, load_probe=lambda name: frozen.load_probe(name) if name == "bn" else NO_ROWS, gradflow=NO_ROWS
    )
    complete, sparse = rows_by_claim(frozen), rows_by_claim(few)
    for name in ("gap", "degradation", "convergence", "stability"):
        assert sparse[name]["status"] == complete[name]["status"] == "supported"
        assert sparse[name]["p"] >= complete[name]["p"]  # an unmeasured claim counts as the least significant one


def test_times_that_are_lower_bounds_are_labelled_and_cannot_show_that_two_times_are_equal():
    evidence = make_evidence()
    slow = evidence.epochs.assign(train_clean_error_pct=evidence.epochs["train_clean_error_pct"].clip(lower=35))
    finding = claim_named("convergence").test(msgspec.structs.replace(evidence, epochs=slow))
    assert not any("lower bound" in detail for detail in finding.details)  # no run reached 30 %, so it is not counted
    is_plain = slow["network"] == "plain-20"
    only_plain = slow.assign(train_clean_error_pct=evidence.epochs["train_clean_error_pct"].where(
        ~is_plain, slow["train_clean_error_pct"]))  # fmt: skip
    evidence = msgspec.structs.replace(evidence, epochs=only_plain)
    censored = claim_named("convergence").test(evidence)
    assert "15 of the times of plain-20 are lower bounds: the error was not reached before the drop" in censored.details
    assert censored.rule.no_effect_within is None
    assert "to training errors of 60, 50, 40 %" in claim_named("convergence-2x").test(evidence).details[1]


def test_a_confident_network_that_is_much_worse_calibrated_refutes_the_claim():
    evidence = make_evidence()
    rows = evidence.load_probe("calibration")
    worse = rows.assign(gap_pct=rows["gap_pct"].where(rows["network"] != "resnet-56", 9.0 + 0.01 * rows["seed"]))
    changed = msgspec.structs.replace(evidence, load_probe=lambda name: worse)
    finding = claim_named("confidence").test(changed)
    assert finding.p_refuted < 0.05
    assert finding.part == "calibration"


def test_the_recall_of_every_class_must_be_higher():
    evidence = make_evidence()

    def correct(network):
        images = evidence.load_correct(network)
        if network == "resnet-56":  # never right on class 1
            images = images._replace(correct=images.correct & (images.labels == 0))
        return images

    finding = claim_named("diagonal").test(msgspec.structs.replace(evidence, load_correct=correct))
    assert finding.p_refuted < 0.05
    assert finding.value < -50
    assert finding.part == "class 1"


def test_every_claim_has_a_source_a_measure_a_rule_and_a_command():
    for claim in CLAIMS:
        assert all((claim.sentence, claim.source, claim.measure, claim.rule_text, claim.command))
        assert (claim.rule is None) == (claim.family == "deterministic")
    assert len(set(NAMES)) == len(NAMES)


def test_every_verdict_names_the_depths_that_it_is_about(make_run, tmp_path):
    for arch in ("plain", "resnet"):
        for depth in (8, 14):
            make_run(tmp_path / f"{arch}-{depth}", arch=arch, depth=depth, predictions=False)
    document = claims_document(load_study([tmp_path], with_metrics=True))
    assert {(row["shallow_depth"], row["deep_depth"]) for row in document["claims"]} == {(8, 14)}
    (table,) = claims_report(document).tables
    note = "The report compares 20 and 56 layers; these verdicts apply to the depths above only."
    assert table.title.endswith("shallow: 8 layers, deep: 14")
    assert table.footnotes[-1] == note
    assert f"  note       {note}" in explanation(document["claims"][0])


def test_the_confirmatory_family_is_the_one_fixed_beforehand():
    confirmatory = {claim.name for claim in CLAIMS if claim.family == "confirmatory"}
    assert confirmatory == {"degradation", "gap", "scaling", "amplification"}


@pytest.mark.parametrize("is_separate", [True, False])
def test_a_warm_up_arm_counts_as_a_test_of_its_own_only_if_it_was_trained_separately(is_separate):
    plain = make_evidence(seeds=3, without={"warmup", "gradflow"})
    plain = msgspec.structs.replace(  # the same numbers for both
        plain, load_probe=functools.cache(plain.load_probe), load_correct=functools.cache(plain.load_correct)
    )
    arm = make_evidence(seeds=3, holds=False)
    evidence = msgspec.structs.replace(plain, is_warmed_up=not is_separate, warmup=arm if is_separate else None)
    rows, without = rows_by_claim(evidence), rows_by_claim(plain)
    unchanged = ("status", "p", "p_supported", "p_refuted", "seeds_needed")
    for name in ("degradation", "gap", "scaling", "amplification"):
        assert [rows[name][key] for key in unchanged] == [without[name][key] for key in unchanged]
    warmed, degradation = rows["degradation-warmup"], rows["degradation"]
    if is_separate:
        assert (warmed["status"], warmed["family"], warmed["same_test_as"]) == ("refuted", "mechanistic", None)
    else:
        assert [warmed[key] for key in unchanged] == [degradation[key] for key in unchanged]
        assert (warmed["family"], warmed["same_test_as"]) == (None, "degradation")
        assert (
            warmed["reason"] == f"the same test as degradation, since these runs were warmed up: "
            f"{degradation['reason']}"
        )
        mechanistic = [row for row in rows.values() if row["family"] == "mechanistic"]
        assert [row["p"] for row in mechanistic] == [without[row["claim"]]["p"] for row in mechanistic]
