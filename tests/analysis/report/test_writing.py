"""The report of a study: its sections in order, their content, and the file."""

import base64
import copy
import re

import msgspec
import pytest
from html_page import HtmlPage

from resnet_cli.analysis.claims import claims_document
from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.report import drawings, pictures, write_report
from resnet_cli.analysis.tables import study_document
from resnet_cli.errors import InputError
from resnet_cli.recipes import train_arguments
from resnet_cli.version import __version__

SECTIONS = (
    "summary", "verdicts", "results", "degradation", "figures", "gradient-flow", "probes", "runs", "data",
    "not-measured",
)  # fmt: skip
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
BN = [
    {"statistics": statistics, "split": split, "loss": 0.1, "error_pct": error, "num_images": 100}
    for statistics, error in (("running", 12.5), ("re-estimated", 9.0)) for split in ("train", "test")
]  # fmt: skip


@pytest.fixture(scope="module")
def study(make_run, add_probe, tmp_path_factory):
    """Two seeds of the four networks of the report, with gradients, predictions and one probe; one run diverged."""
    folder = tmp_path_factory.mktemp("study") / "runs"
    for arch in ("plain", "resnet"):
        for depth in (20, 56):
            for seed in (0, 1):
                run = make_run(
                    folder / f"{arch}-{depth}-s{seed}",
                    arch=arch,
                    depth=depth,
                    seed=seed,
                    gradflow=(depth, seed) == (20, 0),
                    predictions=depth == 56,
                )
                if depth == 20:
                    add_probe(run, "bn", BN)
    make_run(folder / "plain-56-s2", arch="plain", depth=56, seed=2, status="diverged")
    return load_study([folder], with_metrics=True)


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    """What was written, and the page."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(study, path, planned_seeds=5), HtmlPage(path)


@pytest.fixture(scope="module")
def page(report):
    return report[1]


@pytest.fixture(scope="module")
def claims(study):
    """Verdicts on the study."""
    return claims_document(study)


@pytest.fixture
def without_images(monkeypatch):
    """Leave out the figures of the runs, and the images of those of probes, which take most of the time."""

    def draw_nothing(study):
        raise InputError("no figures in this test")

    monkeypatch.setattr(drawings, "draw", draw_nothing)
    monkeypatch.setattr(pictures, "_data_uri", lambda figure: "data:,")


def quick(study):
    """A study of one run, whose report is written in a second."""
    return msgspec.structs.replace(study, runs=study.runs[:1], unfinished=[])


def test_the_sections_are_in_the_order_of_the_contract(page):
    assert tuple(section.attributes["id"] for section in page.all("section")) == SECTIONS
    assert page.declarations == ["DOCTYPE html"]


def test_every_entry_of_the_contents_leads_to_an_anchor_and_anchors_are_unique(page):
    anchors = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    links = [element.attributes["href"] for element in page.all("a")]
    assert len(set(anchors)) == len(anchors)
    assert {f"#{section}" for section in SECTIONS} | {"#probe-bn"} <= set(links)
    assert {link.removeprefix("#") for link in links} <= set(anchors)


def test_the_page_has_the_policy_no_script_and_no_address(page):
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == POLICY
    assert not page.all("script")
    assert "://" not in page.source
    assert all(image.attributes["src"].startswith("data:image/svg+xml;base64,") for image in page.all("img"))


def test_figures_are_numbered_described_and_contain_no_metadata_or_address(report):
    written, page = report
    images = page.all("img")
    numbers = [figure.attributes["id"] for figure in page.all("figure") if "id" in figure.attributes]
    assert numbers == [f"figure-s{number}" for number in range(1, len(images) + 1)]
    assert [one.number for one in written.pictures] == list(range(1, len(images) + 1))
    assert all(len(image.attributes["alt"]) > 20 for image in images)
    for image in images:
        drawing = base64.b64decode(image.attributes["src"].partition(",")[2]).decode()
        assert drawing.startswith("<svg")
        assert "<metadata" not in drawing
        assert set(re.findall(r"https?://[^\"'\s<]*", drawing)) <= {
            "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
        }  # fmt: skip
        assert "DejaVu" not in drawing


def test_a_caption_is_text_of_the_page_and_not_of_the_image(report):
    written, page = report
    accuracy = next(one for one in written.pictures if one.title == "Test accuracy at 56 layers.")
    assert accuracy.caption.startswith("CIFAR-10, report2025 recipe; 2 seeds each")
    assert "Compare with Figure 2 of Shinde 2025." in accuracy.caption
    assert "report2025" not in base64.b64decode(accuracy.source.partition(",")[2]).decode()
    assert accuracy.caption in page.section("figures").words


def test_the_figures_of_the_report_come_in_its_order(report):
    titles = [one.title for one in report[0].pictures]
    assert titles[:6] == [
        "Error at every depth.", "Convergence at 20 layers.", "Test accuracy at 56 layers.",
        "Training dynamics at 56 layers.", "Confusion matrices at 56 layers.",
        "Training curves of all runs.",
    ]  # fmt: skip


def test_the_summary_says_in_five_lines_what_was_run_and_what_came_out(study, page):
    summary = page.section("summary").words
    assert [element.words for element in page.all("dt")][:5] == [
        "Runs", "Training", "Training error", "Test accuracy", "Verdicts",
    ]  # fmt: skip
    assert "8 complete: plain-20, resnet-20, plain-56 and resnet-56, 2 seeds each of 5 planned" in summary
    assert "1 more diverged" in summary
    assert "on test CPU with torch 2.10.0; finished 2026-01-02" in summary
    row = study_document(study)["networks"][0]
    assert f"plain-20 {row['test_accuracy_pct']:.2f} ± {row['test_accuracy_pct_std']:.2f} %" in summary
    assert summary.count("mean ± standard deviation; n = 2 each") == 2


def test_a_mean_over_unequal_numbers_of_seeds_has_its_own_n(study, without_images, tmp_path):
    less = msgspec.structs.replace(study, runs=[run for run in study.runs if run.network == "plain-20"])
    less.runs.append(next(run for run in study.runs if run.network == "resnet-20"))
    write_report(less, tmp_path / "report.html")
    summary = HtmlPage(tmp_path / "report.html").section("summary").words
    assert re.search(r"plain-20 [\d.]+ ± [\d.]+ % \(n = 2\), resnet-20 [\d.]+ % \(n = 1\)", summary)


def test_every_claim_has_its_verdict_in_words_with_n_and_how_it_was_judged(claims, page):
    rows = claims["claims"]
    shown = page.section("verdicts").words
    assert [element.words for element in page.all("strong") if element.attributes.get("class")][: len(rows)] == [
        row["status"] for row in rows
    ]
    assert {row["status"] for row in rows} >= {"underpowered", "not measured"}
    for row in rows:
        assert row["sentence"] in shown
        assert f"Measure {row['measure']} Rule {row['rule']}" in shown
    gap = next(row for row in rows if row["claim"] == "gap")
    assert f"plain-56 {', '.join(f'{value:.4g}' for value in gap['seeds']['plain-56'])}" in shown


def test_settings_that_could_explain_a_difference_are_named_under_the_verdicts(make_run, without_images, tmp_path):
    for threads, arch in enumerate(("plain", "resnet"), start=1):
        make_run(tmp_path / arch, arch=arch, predictions=False, environment={"threads": threads})
    write_report(load_study([tmp_path], with_metrics=True), tmp_path / "report.html")
    verdicts = HtmlPage(tmp_path / "report.html").section("verdicts").words
    assert verdicts.count("number of threads differs between runs: 1 (1 run), 2 (1 run); it could explain") == 1


def test_table_1_has_the_published_column_and_the_seeds(study, page):
    results = page.section("results").words
    assert "published %" in results
    assert "90.84" in results
    assert "test accuracy % of each seed" in results
    for row in study_document(study)["networks"]:
        assert ", ".join(f"{value:.2f}" for value in row["test_accuracy_pct_by_seed"]) in results


def test_a_probe_has_two_sentences_a_figure_with_its_runs_and_its_rows(report):
    written, page = report
    words = page.section("probes").words
    assert "Open circles are errors with the running statistics" in words
    assert "plain-20, seed 0 12.50 9.000 12.50 9.000" in words
    picture = next(one for one in written.pictures if one.title == "Batch-norm statistics, last weights.")
    assert "Runs: 2 of each network." in picture.caption


def test_recorded_gradients_have_a_figure_and_say_how_to_read_them(page):
    words = page.section("gradient-flow").words
    assert "Compare slopes within a stage only" in words
    assert "Recorded gradients at 20 layers." in words


def test_each_run_has_its_result_its_settings_and_the_command_that_repeats_it(study, page):
    words = page.section("runs").words
    for run in study.runs:
        assert f"{run.dir.path.name} {run.network} {run.seed} {run.summary.last.test_accuracy_pct:.2f}" in words
        assert " ".join(["resnet", *train_arguments(run.record.config)]) in words
    assert str(study.runs[0].dir.path.parent) in words
    assert "seed 0, 1" in words
    assert "gradflow_every" in words
    assert "Excluded runs: 1" in words
    assert "the loss was not finite in epoch 2" in words


def test_lists_of_single_runs_are_bounded(make_run, without_images, tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_cli.analysis.report.runs._MAX_RUNS", 2)
    for seed in (0, 1, 2):
        make_run(tmp_path / f"s{seed}", depth=8, seed=seed, predictions=False)
    write_report(load_study([tmp_path], with_metrics=True), tmp_path / "report.html")
    words = HtmlPage(tmp_path / "report.html").section("runs").words
    assert "Results of each run: 3" in words
    assert "The first 2 runs; resnet ls lists all." in words
    assert "--seed 1" in words
    assert "--seed 2" not in words
    assert "s2 resnet-8" not in words


def test_settings_and_environments_are_written_once_and_differences_per_run(make_run, without_images, tmp_path):
    for seed, threads in enumerate((2, 2, 8)):
        make_run(
            tmp_path / f"s{seed}", depth=8, seed=seed, environment={"threads": threads}, predictions=False,
            clean_train_every=1 + seed % 2,
        )  # fmt: skip
    write_report(load_study([tmp_path], with_metrics=True), tmp_path / "report.html")
    words = HtmlPage(tmp_path / "report.html").section("runs").words
    assert words.count("test CPU") == 1
    assert "environment runs threads A 2 2 B 1 8" in words
    assert re.search(r"s1 resnet-8 1 .{0,80} A clean_train_every 2", words)
    assert re.search(r"s2 resnet-8 2 .{0,80} B clean_train_every 1", words)


def test_the_dataset_has_its_whole_fingerprint(study, page):
    data = study.runs[0].record.dataset
    words = page.section("data").words
    assert data.fingerprint in words
    assert "50,000 training, 0 validation, 10,000 test; 32×32 pixels" in words
    assert "10: class 0, class 1" in words


def test_what_was_not_measured_is_listed_with_the_commands_that_measure_it(claims, page):
    words = page.section("not-measured").words
    missing = [row for row in claims["claims"] if row["status"] == "not measured"]
    assert missing
    for row in missing:
        assert f"{row['claim']} {row['sentence']} {row['command']}" in words
    assert "resnet probe lesion RUNS" in words
    assert "resnet probe bn RUNS resnet" not in words


def test_equal_runs_give_equal_bytes(study, tmp_path):
    pages = []
    for name in ("a.html", "b.html"):
        write_report(quick(study), tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_each_group_has_its_own_part_of_a_section(study, make_run, tmp_path):
    make_run(tmp_path / "runs", arch="plain", depth=20, lr=0.05, predictions=False)
    both = load_study([tmp_path / "runs", *[run.dir.path for run in study.runs[:1]]], with_metrics=True)
    write_report(both, tmp_path / "report.html")
    page = HtmlPage(tmp_path / "report.html")
    headings = [element.words for element in page.all("h3")]
    for group in ("CIFAR-10, report2025", "CIFAR-10, report2025 lr=0.05"):
        assert headings.count(group) >= 3  # summary, figures, runs
    assert "No claim was judged" in page.section("verdicts").words


def test_results_that_were_computed_already_are_not_computed_again(study, claims, without_images, tmp_path):
    comparison, claims = study_document(quick(study)), copy.deepcopy(claims)
    comparison["networks"][0]["test_accuracy_pct"] = 12.34
    claims["claims"][0]["status"] = "refuted"
    write_report(quick(study), tmp_path / "report.html", comparison=comparison, claims=claims)
    page = HtmlPage(tmp_path / "report.html")
    assert "12.34" in page.section("results").words
    assert next(one for one in page.all("strong") if one.attributes).words == "refuted"


def test_only_the_report_of_this_tool_is_replaced(study, without_images, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("<!DOCTYPE html><title>mine</title>")
    with pytest.raises(InputError, match=r"not a report of this tool; name another file"):
        write_report(quick(study), path)
    assert path.read_text() == "<!DOCTYPE html><title>mine</title>"
    path.write_text("")
    link = tmp_path / "link.html"
    link.symlink_to(path)
    for _ in range(2):
        write_report(quick(study), link)
    assert link.is_symlink()
    assert HtmlPage(path).all("meta", name="generator")[0].attributes["content"] == f"resnet-cli {__version__}"


def test_a_probe_with_damaged_rows_is_reported_and_the_rest_is_shown(without_images, add_probe, make_run, tmp_path):
    run = make_run(tmp_path / "runs", depth=8, predictions=False)
    add_probe(run, "bn", BN)
    add_probe(run, "responses", [{"layer": "conv1"}])
    warnings = []
    write_report(load_study([tmp_path / "runs"], with_metrics=True), tmp_path / "report.html", warn=warnings.append)
    words = HtmlPage(tmp_path / "report.html").section("probes").words
    assert "Layer responses and sizes of branches, last weights: the stored rows are damaged" in words
    assert "Batch-norm statistics, last weights." in words
    (warning,) = warnings
    assert warning.startswith(f"probe responses of {run.path} cannot be shown: ")
