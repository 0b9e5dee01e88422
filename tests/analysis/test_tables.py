"""The comparison of runs as a document, and its layout as tables of strings."""

import itertools
import json

import pytest
from inline_snapshot import snapshot
from scipy import stats as scipy_stats

from resnet_cli.analysis.frames import CONFIG_COLUMNS, load_study
from resnet_cli.analysis.tables import NETWORK_COLUMNS, layout, render, study_document
from resnet_cli.config import FIELDS


def _networks(document):
    return {row["network"]: row for row in document["networks"]}


def _only(rows, **wanted):
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def test_diverged_runs_count_in_differences_but_not_in_means(make_run, tmp_path):
    for seed in range(3):
        for arch in ("plain", "resnet"):
            is_lost = (arch, seed) == ("plain", 2)
            make_run(
                tmp_path / f"{arch}-{seed}", arch=arch, depth=56, seed=seed, accuracy=90.0 + seed, predictions=False,
                status="diverged" if is_lost else "complete",
            )  # fmt: skip
    document = study_document(load_study([tmp_path]))
    plain = next(row for row in document["networks"] if row["network"] == "plain-56")
    assert (plain["n"], plain["test_accuracy_pct"]) == (2, 90.5)
    gap = next(row for row in document["gaps"] if row["measure"] == "test_accuracy_pct")
    assert (gap["n"], gap["num_diverged"]) == (3, 1)
    assert gap["difference_pp"] == pytest.approx(91 - (90 + 91 + 10) / 3)
    notes = [note for table in layout(document).tables for note in table.footnotes]
    assert any("count as guessing at random" in note for note in notes)
    differences = next(table for table in layout(document).tables if table.title.startswith("Differences"))
    position = [column.header for column in differences.columns].index("diverged")
    assert [row[position] for row in differences.rows] == ["1"]


def test_equal_results_of_all_seeds_have_an_interval_of_the_resolution(make_run, tmp_path):
    for seed in range(3):
        make_run(tmp_path / str(seed), dataset="digits", seed=seed, accuracy=95.0, train_error=1.0, predictions=False)
    (row,) = study_document(load_study([tmp_path]))["networks"]
    assert row["test_accuracy_pct_high"] - row["test_accuracy_pct_low"] == pytest.approx(100 / 360)


def test_results_of_each_seed_are_shown_on_request(make_run, tmp_path):
    for seed, accuracy in ((0, 93.0), (1, 93.5), (7, 92.25)):
        make_run(tmp_path / str(seed), seed=seed, accuracy=accuracy, train_error=1.0, predictions=False)
    document = study_document(load_study([tmp_path]))
    assert document["networks"][0]["test_accuracy_pct_by_seed"] == [93.0, 93.5, 92.25]
    assert not any(table.title.startswith("Seeds") for table in layout(document).tables)
    table = layout(document, seeds_shown=True).tables[1]
    assert table.rows == (("resnet-20", "0, 1, 7", "93.00, 93.50, 92.25", "1.00, 1.00, 1.00"),)


def test_a_network_has_mean_deviation_and_n_over_its_seeds(make_study):
    row = _networks(study_document(make_study(seeds=3)))["resnet-56"]
    accuracies = [93.25, 93.45, 93.65]
    assert (row["n"], row["seeds"], row["parameters"], row["epochs"]) == (3, [0, 1, 2], 853_018, 3)
    assert row["test_accuracy_pct"] == pytest.approx(93.45)
    assert row["test_accuracy_pct_std"] == pytest.approx(0.2)
    low, high = scipy_stats.t.interval(0.95, 2, 93.45, scipy_stats.sem(accuracies))
    assert (row["test_accuracy_pct_low"], row["test_accuracy_pct_high"]) == pytest.approx((low, high))
    assert row["best_test_accuracy_pct"] == pytest.approx(93.55)
    assert row["train_clean_error_pct"] == pytest.approx(3.9)
    assert row["published_accuracy_pct"] == 93.25
    assert row["difference_from_published_pp"] == pytest.approx(0.2)
    assert row["val_error_pct"] is None
    assert row["train_seconds"] == 90.0


def test_a_network_with_one_seed_has_no_deviation_and_no_interval(make_study):
    row = _networks(study_document(make_study()))["plain-20"]
    assert [row[f"test_accuracy_pct_{part}"] for part in ("std", "low", "high")] == [None, None, None]


def test_every_network_row_has_the_documented_columns_in_order(make_study):
    for row in study_document(make_study())["networks"]:
        assert tuple(row) == NETWORK_COLUMNS
    assert NETWORK_COLUMNS[:11] == (
        "arch", "depth", "shortcut", "dataset", "recipe", "n", "parameters",
        "test_accuracy_pct", "test_accuracy_pct_std", "best_test_accuracy_pct", "train_clean_error_pct",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, ["plain-20", "resnet-20", "plain-56", "resnet-56"]),
        ("test_accuracy_pct", ["plain-56", "plain-20", "resnet-20", "resnet-56"]),
        ("-test_accuracy_pct", ["resnet-56", "resnet-20", "plain-20", "plain-56"]),
        ("network", ["plain-20", "plain-56", "resnet-20", "resnet-56"]),
    ],
)
def test_networks_are_sorted_by_depth_or_by_any_column(make_study, sort, expected):
    assert list(_networks(study_document(make_study(), sort=sort))) == expected


@pytest.mark.parametrize("sort", ["published_accuracy_pct", "-published_accuracy_pct"])
def test_networks_without_a_value_in_the_sort_column_come_last(make_study, make_run, tmp_path, sort):
    make_run(tmp_path / "x", arch="resnet", depth=20, shortcut="B")
    rows = study_document(make_study(), sort=sort)["networks"]
    assert rows[-1]["network"] == "resnet-20-B"


def test_gaps_are_residual_minus_plain_at_each_depth_for_test_accuracy_and_training_error(make_study):
    document = study_document(make_study(seeds=3))
    row = _only(document["gaps"], depth=56, measure="test_accuracy_pct")
    plain, residual = [86.71, 86.81, 86.91], [93.25, 93.45, 93.65]
    assert (row["first"], row["second"], row["n"]) == ("resnet-56", "plain-56", 3)
    assert row["difference_pp"] == pytest.approx(6.64)
    interval = scipy_stats.ttest_ind(residual, plain, equal_var=False).confidence_interval(0.95)
    assert (row["low_pp"], row["high_pp"]) == pytest.approx((interval.low, interval.high))
    assert row["published_difference_pp"] == 6.54
    training = _only(document["gaps"], depth=56, measure="train_clean_error_pct")
    assert training["difference_pp"] == pytest.approx(-4.0)
    assert training["sampling_standard_error_pp"] is None
    assert len(document["gaps"]) == 4


def test_depth_gaps_compare_each_network_with_the_shallowest_of_its_architecture_and_shortcut(make_run, tmp_path):
    for depth, shortcut in itertools.product((20, 32, 44), "AB"):
        make_run(tmp_path / f"{depth}{shortcut}", depth=depth, shortcut=shortcut, predictions=False)
    document = study_document(load_study([tmp_path]))
    pairs = [(r["first"], r["second"]) for r in document["depth_gaps"] if r["measure"] == "test_accuracy_pct"]
    assert pairs == [
        ("resnet-32", "resnet-20"),
        ("resnet-44", "resnet-20"),
        ("resnet-32-B", "resnet-20-B"),
        ("resnet-44-B", "resnet-20-B"),
    ]
    assert document["gaps"] == document["amplification"] == []


def test_amplification_over_seeds_has_an_interval_for_each_shortcut(make_study, make_run, tmp_path):
    for depth, seed in itertools.product((20, 56), range(3)):
        make_run(
            tmp_path / f"B{depth}{seed}", depth=depth, shortcut="B", seed=seed, accuracy=94 + seed / 10,
            predictions=False,
        )  # fmt: skip
    rows = study_document(make_study(seeds=3))["amplification"]
    assert [row["shortcut"] for row in rows] == ["A", "B"]
    for row in rows:
        assert row["low_pp"] < row["difference_pp"] < row["high_pp"]
        assert row["ratio_set"] == "interval"
        assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert rows[0]["difference_pp"] == pytest.approx(6.64 - 1.21)
    assert rows[1]["published_ratio"] is None
    text = render(study_document(load_study([tmp_path])), "markdown")
    assert "20 → 56 layers, shortcut B" in text


def test_the_ratio_of_the_gaps_has_no_interval_if_the_shallow_gap_may_be_zero(make_run, tmp_path):
    for arch, depth, accuracies in (
        ("plain", 20, (91.0, 91.9)), ("resnet", 20, (92.0, 91.2)), ("plain", 56, (86.0, 86.2)),
        ("resnet", 56, (93.0, 93.1)),
    ):  # fmt: skip
        for seed, accuracy in enumerate(accuracies):
            make_run(tmp_path / f"{arch}{depth}{seed}", arch=arch, depth=depth, seed=seed, accuracy=accuracy)
    study = load_study([tmp_path])
    assert study_document(study)["amplification"][0]["ratio_set"] == "two rays"
    text = render(study_document(study), "markdown")
    assert "| 20 → 56 layers | +6.80 |" in text
    assert "it is unstable if the latter is small" in text


def test_the_sampling_error_of_test_images_is_that_of_the_images_which_only_one_network_gets_right(make_run, tmp_path):
    runs = [make_run(tmp_path / arch, arch=arch, depth=20, limit_test=400) for arch in ("plain", "resnet")]
    first, second = (run.read_predictions() for run in runs[::-1])
    right = [one.logits.argmax(axis=1) == one.labels for one in (first, second)]
    b, c = (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()
    row = _only(study_document(load_study([tmp_path]))["gaps"], depth=20, measure="test_accuracy_pct")
    assert row["sampling_standard_error_pp"] == pytest.approx(100 * ((b + c - (b - c) ** 2 / 400) ** 0.5) / 400)
    runs[0].predictions_path.unlink()
    row = _only(study_document(load_study([tmp_path]))["gaps"], depth=20, measure="test_accuracy_pct")
    assert row["sampling_standard_error_pp"] is None


def test_repetitions_of_a_seed_count_once(make_run, tmp_path):
    for number, (seed, accuracy) in enumerate([(0, 90.0), (0, 92.0), (1, 93.0)]):
        make_run(tmp_path / str(number), depth=20, seed=seed, accuracy=accuracy, predictions=False)
    (row,) = study_document(load_study([tmp_path]))["networks"]
    assert (row["n"], row["seeds"]) == (2, [0, 1])
    assert row["test_accuracy_pct"] == pytest.approx((91.0 + 93.0) / 2)


def test_runs_of_different_datasets_or_recipes_are_never_averaged(make_study):
    make_study(name="a")
    make_study(name="b", dataset="imagefolder")
    document = study_document(make_study(name="c", lr=0.05))
    assert len(document["networks"]) == 12
    assert {row["n"] for row in document["networks"]} == {1}
    assert document["notes"] == ["runs of 3 different datasets or settings are averaged separately"]
    titles = [table.title for table in layout(document).tables]
    assert titles == [
        "Results by lr: CIFAR-10, report2025",
        "Differences in percentage points by lr: CIFAR-10, report2025",
        "Amplification of the residual gap by lr: CIFAR-10, report2025",
        "Results: CIFAR-10 (JPEG), report2025",
        "Differences in percentage points: CIFAR-10 (JPEG), report2025",
        "Amplification of the residual gap: CIFAR-10 (JPEG), report2025",
    ]


def test_a_sweep_has_one_table_with_a_column_for_each_setting_that_differs(make_run, tmp_path):
    for number, (lr, momentum) in enumerate(((0.1, 0.9), (0.05, 0.9), (0.02, 0.8), (0.02, 0.8))):
        for arch in ("plain", "resnet"):
            make_run(
                tmp_path / f"{arch}{number}", arch=arch, lr=lr, momentum=momentum, seed=number, weight_decay=0.0,
                gradflow_every=number, predictions=False,
            )  # fmt: skip
    results, differences = layout(study_document(load_study([tmp_path]))).tables
    assert results.title == "Results by lr, momentum: CIFAR-10, report2025 weight_decay=0.0"
    assert [column.header for column in results.columns][:4] == ["network", "lr", "momentum", "layers"]
    settings = [("0.02", "0.8"), ("0.05", "0.9"), ("0.1", "0.9")]
    assert [row[:3] for row in results.rows] == [(name, *of) for name in ("plain-20", "resnet-20") for of in settings]
    assert [row[5] for row in results.rows] == ["2", "1", "1"] * 2  # n
    assert [row[:3] for row in differences.rows] == [("resnet-20 − plain-20", *of) for of in settings]


def test_networks_of_a_sweep_are_sorted_together(make_run, tmp_path):
    for number, (lr, accuracy) in enumerate(((0.1, 91.0), (0.05, 93.0), (0.2, 92.0))):
        make_run(tmp_path / str(number), lr=lr, accuracy=accuracy, predictions=False)
    rows = study_document(load_study([tmp_path]), sort="-test_accuracy_pct")["networks"]
    assert [row["lr"] for row in rows] == [0.05, 0.2, 0.1]


def test_a_recipe_with_other_settings_for_deep_networks_is_no_sweep(make_run, tmp_path):
    for depth in (20, 110):  # he2015 warms up deep networks
        make_run(tmp_path / str(depth), recipe="he2015", depth=depth, predictions=False)
    assert layout(study_document(load_study([tmp_path]))).tables[0].title == "Results: CIFAR-10, he2015"


def test_a_network_row_has_every_field_of_the_configuration_that_its_runs_share(make_run, tmp_path):
    for seed in range(2):
        make_run(tmp_path / str(seed), seed=seed, clean_train_every=seed + 1, milestones=(10, 20), predictions=False)
    (row,) = study_document(load_study([tmp_path]))["networks"]
    assert (row["batch_size"], row["milestones"], row["config_device"]) == (128, "10,20", "auto")
    assert row["clean_train_every"] is None  # it differs
    assert {CONFIG_COLUMNS[name] for name in FIELDS} - {"seed"} <= set(row)


def test_titles_distinguish_two_datasets_of_one_name_by_fingerprint(make_run, tmp_path):
    make_run(tmp_path / "a", dataset="imagefolder")
    other = make_run(tmp_path / "b", dataset="imagefolder")
    fingerprint = other.read_record().dataset.fingerprint
    other.record_path.write_text(other.record_path.read_text().replace(fingerprint, "beef" * 16))
    titles = [table.title for table in layout(study_document(load_study([tmp_path]))).tables]
    assert titles == [
        f"Results: CIFAR-10 (JPEG), report2025 [{start}]" for start in sorted([fingerprint[:8], "beefbeef"])
    ]


def test_published_accuracies_are_shown_only_for_runs_on_all_of_cifar10(make_study):
    make_study(name="jpeg", dataset="imagefolder")
    make_study(name="part", limit_train=1000)
    document = study_document(make_study(name="demo", dataset="digits", recipe="demo"))
    assert {row["published_accuracy_pct"] for row in document["networks"]} == {None}
    footnotes = [note for table in layout(document).tables for note in table.footnotes if "ublished" in note]
    assert footnotes == snapshot(
        [
            "Published values are for all of CIFAR-10 and are not comparable with a subset of it.",
            "Published values are for CIFAR-10 and are not comparable with CIFAR-10 (JPEG).",
            "Published values are for CIFAR-10 and are not comparable with digits (16×16).",
        ]
    )


def test_a_footnote_states_that_nothing_was_published_for_a_recipe(make_run, tmp_path):
    make_run(tmp_path / "a", recipe="demo", dataset="cifar10")
    (table,) = layout(study_document(load_study([tmp_path]))).tables
    assert "No values have been published for these networks with recipe demo." in table.footnotes


def test_another_implementation_is_quoted_for_residual_networks_only(make_run, tmp_path):
    make_run(tmp_path / "plain", arch="plain")
    assert "another implementation" not in render(study_document(load_study([tmp_path])), "markdown")
    make_run(tmp_path / "residual")
    assert "README): resnet-20 91.73." in render(study_document(load_study([tmp_path])), "markdown").replace("\\_", "_")


def test_the_published_accuracy_is_marked_if_the_recipe_was_modified(make_run, tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", lr=0.05)
    table = layout(study_document(load_study([tmp_path]))).tables[0]
    published = [column.header for column in table.columns].index("published %")
    assert [(row[1], row[published]) for row in table.rows] == [("0.05", "91.95†"), ("0.1", "91.95")]
    assert "† published for the unmodified recipe report2025." in table.footnotes


def test_the_best_accuracy_is_marked_only_if_it_was_selected_on_the_test_set(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0, accuracy=91.0)
    make_run(tmp_path / "b", recipe="he2015", accuracy=91.0)
    tables = {table.title: table for table in layout(study_document(load_study([tmp_path]))).tables}
    on_test, on_val = tables["Results: CIFAR-10, report2025"], tables["Results: CIFAR-10, he2015"]
    best = [column.header for column in on_test.columns].index("best %")
    assert (on_test.rows[0][best], on_val.rows[0][best]) == ("91.10*", "91.10")
    assert any(note.startswith("*") for note in on_test.footnotes)
    assert not any(note.startswith("*") for note in on_val.footnotes)


def test_differences_of_hardware_or_software_within_a_group_are_noted(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, device="cuda", environment={"torch": "2.11.0", "device_name": "H200"})
    make_run(tmp_path / "c", seed=2, compile="on", environment={"torch": None})
    assert study_document(load_study([tmp_path]))["notes"] == snapshot(
        [
            "CIFAR-10, report2025: device differs between runs: cpu (2 runs), cuda (1 run)",
            "CIFAR-10, report2025: hardware differs between runs: H200 (1 run), test CPU (2 runs)",
            "CIFAR-10, report2025: compilation differs between runs: off (2 runs), on (1 run)",
            "CIFAR-10, report2025: torch version differs between runs: 2.10.0 (1 run), 2.11.0 (1 run), not recorded (1 run)",  # noqa: E501
        ]
    )


def test_repeated_seeds_and_measures_missing_in_some_runs_are_noted(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=0, accuracy=90.0)
    run = make_run(tmp_path / "c", seed=1)
    summary = json.loads(run.summary_path.read_text())
    summary["last"]["train_clean_error_pct"] = None
    run.summary_path.write_text(json.dumps(summary))
    assert study_document(load_study([tmp_path]))["notes"] == snapshot(
        [
            "CIFAR-10, report2025: several runs of resnet-20 have seed 0; they count as one",
            "CIFAR-10, report2025: only 2 of 3 runs of resnet-20 recorded train_clean_error_pct; averaged over these",
        ]
    )


def test_a_measure_missing_in_all_runs_has_no_column_and_no_gap(make_study, tmp_path):
    make_study()
    for path in tmp_path.rglob("summary.json"):
        summary = json.loads(path.read_text())
        for part in ("last", "best"):
            summary[part]["train_clean_error_pct"] = None
        path.write_text(json.dumps(summary))
    document = study_document(load_study([tmp_path]))
    assert {row["measure"] for row in document["gaps"]} == {"test_accuracy_pct"}
    headers = [column.header for table in layout(document).tables for column in table.columns]
    assert not [header for header in headers if "error" in header]


def test_excluded_runs_are_listed_and_never_averaged(make_study, make_run, tmp_path):
    make_run(tmp_path / "d", arch="plain", depth=20, seed=7, status="diverged", accuracy=10)
    make_run(tmp_path / "i", arch="plain", depth=20, seed=8, status="incomplete", accuracy=10)
    document = study_document(make_study())
    assert _networks(document)["plain-20"]["n"] == 1
    assert [row["status"] for row in document["skipped"]] == ["diverged", "incomplete"]
    table = layout(document).tables[-1]
    assert table.title == "Excluded runs: 2"
    assert [row[0] for row in table.rows] == [str(tmp_path / "d"), str(tmp_path / "i")]
