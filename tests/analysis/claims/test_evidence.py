"""Run directories become the evidence of their group, with a warm-up arm and diverged runs."""

import msgspec
import pytest

from resnet_cli.analysis.claims import claims_document
from resnet_cli.analysis.claims.evidence import Networks, load_evidence, per_run
from resnet_cli.analysis.frames import load_study
from resnet_cli.errors import UsageError
from resnet_cli.rundir import InitialWeights, Predictions

FOUR = [("plain", 20), ("resnet", 20), ("plain", 56), ("resnet", 56)]


@pytest.fixture
def train(make_run, tmp_path):
    """A function that writes runs of the given networks and seeds, and returns them by name."""

    def write(networks=FOUR, seeds=(0,), folder="runs", **fields):
        return {
            f"{arch}-{depth}-{seed}": make_run(
                tmp_path / folder / f"{arch}-{depth}-{seed}", arch=arch, depth=depth, seed=seed, predictions=False,
                **{"dataset": "digits", "recipe": "report2025", **fields},
            )
            for arch, depth in networks for seed in seeds
        }  # fmt: skip

    return write


def load(folder, warn=None):
    return list(load_evidence(load_study([folder], with_metrics=True), warn=warn or pytest.fail).values())


def test_the_networks_are_those_of_the_smallest_and_the_greatest_depth_with_both_kinds(train, tmp_path):
    train([*FOUR, ("plain", 110), ("resnet", 8)])
    (evidence,) = load(tmp_path)
    assert evidence.networks == Networks("plain-20", "plain-56", "resnet-20", "resnet-56")


def test_a_network_that_is_still_missing_does_not_change_which_are_compared(train, tmp_path):
    train([("plain", 20), ("resnet", 20), ("plain", 56)])
    (evidence,) = load(tmp_path)
    assert evidence.networks.resnet_deep == "resnet-56"


def test_networks_with_projection_shortcuts_are_compared_where_there_are_no_others(train, tmp_path):
    train([("plain", 20), ("plain", 56)])
    train([("resnet", 20), ("resnet", 56)], folder="b", shortcut="B")
    (evidence,) = load(tmp_path)
    assert evidence.networks.resnet_deep == "resnet-56-B"


def test_recipes_are_judged_apart_and_groups_with_one_kind_of_network_left_out(train, tmp_path):
    train()
    train(folder="slow", lr=0.05)
    train([("plain", 20), ("plain", 56)], folder="plain", lr=0.01)
    found = load(tmp_path)
    assert len(found) == 2
    assert all(len(evidence.runs) == 4 for evidence in found)


def test_without_both_kinds_of_networks_claims_are_a_usage_error(train, tmp_path):
    train([("plain", 20), ("plain", 56)])
    with pytest.raises(UsageError, match="plain and residual networks"):
        claims_document(load_study([tmp_path], with_metrics=True))


def test_plain_networks_that_differ_only_in_a_warm_up_are_the_warm_up_arm(train, tmp_path, add_bn):
    for run in train().values():
        add_bn(run, 5.0)
    arm = train([("plain", 20), ("plain", 56)], folder="arm", warmup_steps=24, warmup_lr=0.001, gradflow_every=2)
    for name, run in arm.items():
        add_bn(run, 9.0 if "56" in name else 3.0)
    (evidence,) = load(tmp_path)
    assert evidence.warmup is not None
    assert sorted(evidence.warmup.runs["network"]) == ["plain-20", "plain-56"]
    rows = {row["claim"]: row for row in claims_document(load_study([tmp_path], with_metrics=True))["claims"]}
    assert rows["degradation-warmup"]["value"] == 6.0
    assert rows["degradation"]["value"] == 0.0


def test_a_warm_up_with_another_learning_rate_is_no_arm(train, tmp_path):
    train()
    train([("plain", 20), ("plain", 56)], folder="arm", warmup_steps=24, warmup_lr=0.001, lr=0.05)
    (evidence,) = load(tmp_path)
    assert evidence.warmup is None


def test_runs_that_started_from_given_weights_are_no_arm(train, tmp_path):
    train()
    initial = InitialWeights(path="resnet.th", sha256="5" * 64, copy_sha256="6" * 64)
    for run in train([("plain", 20), ("plain", 56)], folder="arm", warmup_steps=24, warmup_lr=0.001).values():
        record = msgspec.structs.replace(run.read_record(), init_from=initial)
        run.record_path.write_bytes(msgspec.json.encode(record))
    (evidence,) = load(tmp_path)
    assert evidence.warmup is None


def test_a_recipe_that_warms_up_is_its_own_arm(train, tmp_path):
    train(recipe="demo")
    (evidence,) = load(tmp_path)
    assert (evidence.is_warmed_up, evidence.warmup) == (True, None)


def test_first_steps_at_more_than_a_tenth_of_the_learning_rate_are_no_warm_up(train, tmp_path):
    train(warmup_steps=24, warmup_lr=0.05)
    (evidence,) = load(tmp_path)
    assert not evidence.is_warmed_up


def test_a_diverged_run_has_the_accuracy_of_guessing_and_an_incomplete_one_none(train, tmp_path):
    train()
    train([("plain", 56)], folder="more", status="diverged", seeds=[1])
    train([("plain", 56)], folder="other", status="incomplete", seeds=[2])
    (evidence,) = load(tmp_path)
    plain = evidence.runs[evidence.runs["network"] == "plain-56"].set_index("seed")
    assert plain.index.tolist() == [0, 1]
    assert plain.loc[1, "status"] == "diverged"
    assert plain.loc[1, ["test_accuracy_pct", "train_clean_error_pct"]].tolist() == [10.0, 90.0]
    assert evidence.cautions(evidence.runs, "plain-56") == ["1 seed of plain-56 diverged and is included"]
    (note,) = [note for note in evidence.provenance if "diverged" in note]
    assert note.startswith("1 of 2 runs of plain-56 diverged; claims about results count them as guessing")


def test_recorded_gradients_of_diverged_runs_count_too(train, tmp_path):
    train(gradflow=True, gradflow_every=1)
    train([("plain", 56)], folder="more", status="diverged", gradflow=True, gradflow_every=1, seeds=[1])
    (evidence,) = load(tmp_path)
    initial = evidence.gradflow[evidence.gradflow["epoch"] == 0]
    assert sorted(set(initial.loc[initial["network"] == "plain-56", "seed"])) == [0, 1]


def test_a_damaged_or_foreign_probe_file_is_left_out_with_one_warning_each(train, tmp_path, add_bn):
    runs = train(seeds=(0, 1))
    for name, run in runs.items():
        add_bn(run, 5.0, run_id="another" if name == "plain-20-0" else None)
    damaged = add_bn(runs["plain-56-1"], 5.0)
    damaged.rows_path.write_text("error_pct\n0\n")
    warnings = []
    (evidence,) = load(tmp_path, warnings.append)
    bn = evidence.load_probe("bn")
    evidence.load_probe("bn")  # again: no second warning
    assert len(warnings) == 2
    kept = set(zip(bn["network"], bn["seed"], strict=True))
    assert not kept & {("plain-20", 0), ("plain-56", 1)}
    assert len(kept) == 6


def test_a_damaged_gradflow_file_is_left_out_with_a_warning(train, tmp_path):
    runs = train(gradflow=True, gradflow_every=1)
    runs["plain-56-0"].gradflow_path.write_text("epoch\nx\n")
    warnings = []
    (evidence,) = load(tmp_path, warnings.append)
    assert set(evidence.gradflow["network"]) == {"plain-20", "resnet-20", "resnet-56"}
    assert len(warnings) == 1


def test_measurements_with_different_settings_are_not_compared(train, tmp_path, add_bn):
    for name, run in train().items():
        add_bn(run, 5.0, images=250 if name == "plain-56-0" else None)
    warnings = []
    (evidence,) = load(tmp_path, warnings.append)
    assert evidence.load_probe("bn").empty
    assert "different --images, --seed or --set" in warnings[0]


def test_a_probe_file_with_other_columns_is_ignored_with_a_warning(train, tmp_path, add_probe):
    for run in train().values():
        add_probe(run, "lesion", [{"lesion": "delete", "statistics": 1}])
    warnings = []
    (evidence,) = load(tmp_path, warnings.append)
    assert evidence.load_probe("lesion").empty
    assert warnings == [
        "probe lesion has no column downsampling and is ignored; measure again: resnet probe lesion RUNS --again"
    ]


@pytest.mark.parametrize("value", ["much", float("inf"), None])
def test_a_value_that_is_not_a_finite_number_counts_as_not_measured(train, tmp_path, add_bn, value):
    for name, run in train().items():
        add_bn(run, value if name == "plain-56-0" else 5.0)
    (evidence,) = load(tmp_path)
    sample = evidence.sample(evidence.load_probe("bn"), "plain-56", "error_pct")
    assert sample.values == ()


def test_correct_predictions_have_one_row_per_run_and_one_column_per_image(train, tmp_path, make_run):
    train([("plain", 20), ("resnet", 56), ("resnet", 20)])
    make_run(tmp_path / "p", arch="plain", depth=56, dataset="digits", accuracy=75.0)
    (evidence,) = load(tmp_path)
    images = evidence.load_correct("plain-56")
    assert images.correct.shape == (1, 360)
    assert 100 * images.correct.mean() == pytest.approx(75.0)
    assert evidence.load_correct("resnet-56") is None


def test_predictions_for_other_labels_are_ignored_with_a_warning(train, tmp_path, make_run):
    train([("plain", 20), ("resnet", 56), ("resnet", 20)])
    runs = [
        make_run(tmp_path / str(seed), arch="plain", depth=56, dataset="digits", accuracy=75.0, seed=seed)
        for seed in (0, 1)
    ]
    found = runs[1].read_predictions()
    runs[1].write_predictions(Predictions(labels=found.labels[::-1].copy(), logits=found.logits))
    warnings = []
    (evidence,) = load(tmp_path, warnings.append)
    assert evidence.load_correct("plain-56").runs["seed"].tolist() == [0]
    assert warnings == [f"{runs[1].predictions_path} has other labels than {runs[0].predictions_path} and is ignored"]


def test_values_that_are_not_finite_are_not_measured(train, tmp_path):
    train(seeds=(0, 1))
    (evidence,) = load(tmp_path)
    frame = per_run(evidence.epochs, lambda rows: float("nan") if rows["seed"].iloc[0] else 1.0)
    assert frame["seed"].tolist() == [0, 0, 0, 0]
    assert evidence.cautions(frame, "plain-56") == ["1 seed of plain-56 is not measured"]
