"""The published runs: every file is read without a complaint, and README shows the numbers that they give."""

import functools
import math
import re
from pathlib import Path

import pytest

from resnet_cli.analysis.claims import claims_document, claims_report
from resnet_cli.analysis.claims.catalogue import CLAIMS
from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.probe_frames import load_probes
from resnet_cli.analysis.tables import render, render_report, study_document
from resnet_cli.probes.registry import TITLES
from resnet_cli.recipes import recipe_label, train_arguments
from resnet_cli.rundir import RunDir
from resnet_cli.rundir.page import run_page

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.parent for path in (ROOT / "runs" / "reference").glob("*/runs"))
RUNS = [run for study in STUDIES for run in sorted((study / "runs").iterdir())]
README, CLAIMS_PAGE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/claims.md"))


@functools.cache
def loaded(study):
    return load_study([study / "runs"], with_metrics=True)


def study_named(name):
    return ROOT / "runs" / "reference" / name


def rows_of(markdown):
    """The rows of all Markdown tables in a text, as tuples of cells."""
    lines = [line for line in markdown.splitlines() if line.startswith("|") and not re.match(r"\|[ :|-]+\|$", line)]
    return [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parents[1].name}-{path.name}")
def test_every_published_run_is_complete_and_all_its_files_agree(path):
    run = RunDir(path)
    record, summary = run.read_record(), run.read_summary()
    assert run.status() == "complete"
    assert len(run.read_metrics(summary)) == summary.last.epoch
    run.read_gradflow(record.config.depth, summary)
    run.read_predictions(len(record.dataset.classes), summary)
    assert run.read_attempts()
    assert "weights/last.safetensors" in summary.files
    assert not list(path.rglob("*.safetensors"))
    folder = record.dataset.location if record.config.dataset == "imagefolder" else None
    assert run.readme_path.read_text(encoding="utf-8") == run_page(
        record, summary, recipe=recipe_label(record.config), arguments=train_arguments(record.config, data_dir=folder),
        has_weights=False,
    )  # fmt: skip


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_published_study_is_loaded_without_a_complaint_and_explains_itself(study, recwarn):
    assert loaded(study).skipped == []
    problems = []
    claims_document(loaded(study), warn=problems.append)
    for name in TITLES:
        load_probes(loaded(study).runs, name, warn=problems.append)
    assert problems == []
    page = (study / "README.md").read_text(encoding="utf-8")
    assert f"resnet compare runs/reference/{study.name}" in page
    assert len(recwarn) == 0


def test_published_files_name_no_folder_of_the_machine_and_are_small():
    files = [path for path in (ROOT / "runs" / "reference").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    for path in files:
        if path.suffix != ".npz":
            assert not re.search(r"(?<![\w.])/(home|root|tmp|data|work|Users)/", path.read_text(encoding="utf-8")), path


def test_the_results_in_the_readme_are_those_of_the_published_runs():
    sections = README.partition("### Digits")
    for text, name in ((sections[0], "overnight"), (sections[2], "demo")):
        printed = rows_of(render(study_document(loaded(study_named(name))), "markdown"))
        shown = [row for row in rows_of(text) if re.match(r"(plain|resnet)-\d+$", row[0])]
        assert len(shown) == 4
        for row in shown:
            assert any(line[: len(row)] == row for line in printed), row


def test_the_published_runs_follow_their_recipes_without_overrides():
    for study in STUDIES:
        assert {run.group.recipe for run in loaded(study).runs} == {study.name}


def test_the_numbers_in_the_text_are_those_of_the_published_runs():
    pages = [" ".join(text.split()) for text in (README, CLAIMS_PAGE)]
    readme = pages[0]
    overnight, demo = (
        {row["claim"]: row for row in claims_document(loaded(study_named(name)))["claims"]}
        for name in ("overnight", "demo")
    )
    last = {run.network: run.summary.last for run in loaded(study_named("overnight")).runs}
    error = {network: f"{epoch.train_clean_error_pct:.1f} %" for network, epoch in last.items()}
    growth = re.search(
        r"×([\d.]+) in plain-56 and ×([\d.]+) in plain-20", " ".join(overnight["degradation"]["details"])
    )
    deep, shallow = map(float, growth.groups())
    for page in pages:
        assert re.search(
            rf"misclassifies {error['plain-56']} of its [a-z ]*, Plain-20 [a-z ]*{error['plain-20']}", page
        )
        assert f"grow {deep:.0f}-fold, those of Plain-20 at most {shallow:.1f}-fold" in page
        assert f"{-overnight['scaling']['value']:.1f} points below" in page
        assert f"{math.exp(-overnight['stability']['value']):.1f} times as much" in page
    survival = re.findall(r"[a-z ]+, (\d+ %) of the norm", " ".join(overnight["highway"]["details"]))
    assert (
        "carry {} of the norm of the gradient at the last block to the first one at initialisation, and {}".format(
            *survival
        )
        in pages[1]
    )
    assert f"ResNet-56 misclassifies {error['resnet-56']} of the training images" in readme
    assert f"more than ResNet-20 ({error['resnet-20']})" in readme
    for rows, where in ((demo, "on the digits"), (overnight, "on CIFAR-10 (JPEG)")):
        text = rows["vanishing-gradient"]["details"][0].partition("factors of ")[2].removesuffix(" over the stages")
        factors = [f"{float(factor):.0f}" for factor in text.split(", ")]
        assert re.search("{}-, {}- and {}-fold [^.]*{}".format(*factors, re.escape(where)), readme)
    lagging = float(re.search(r"differs by \+([\d.]+) pp", demo["degradation"]["details"][0])[1])
    text = f"misclassifies {lagging:.1f} % of its training images, or {demo['degradation']['value']:.1f} %"
    assert text in readme
    checked = (ROOT / "benchmarks" / "results" / "cross_check_resnet_20.txt").read_text(encoding="utf-8")
    difference = re.search(r"seed 0 +[\d.]+ +[\d.]+ +\+([\d.]+)", checked)[1]
    low, high = re.search(r"over images: \[-([\d.]+), \+([\d.]+)\]", checked).groups()
    assert f"ended {difference} points below this ResNet-20" in readme
    assert f"(95 % interval over test images −{low} to +{high})" in readme


def test_the_effects_in_the_page_on_claims_are_those_of_the_published_runs():
    page = " ".join(CLAIMS_PAGE.split())
    claims = {row["claim"]: row for row in claims_document(loaded(study_named("overnight")))["claims"]}
    of_seed = {name: {network: values[0] for network, values in row["seeds"].items()} for name, row in claims.items()}
    effect = {name: row["value"] for name, row in claims.items()}
    deletion, probe = of_seed["ensemble"], of_seed["information-flow"]
    built = load_probes(loaded(study_named("overnight")).runs, "capacity")
    images = {split: rows["num_images"].unique().item() for split, rows in built.groupby("split")}
    assert f"(checked on {sum(images.values()):,} images)" in " ".join(README.split())
    correlation, losses = of_seed["shattering"], re.findall(r"[\d.]+", claims["landscape"]["details"][0])
    for text in (
        f"on {images['train']:,} training and {images['test']:,} test images, ",
        f"no logit changes by more than {effect['capacity']:.3g} (",
        f"white noise in Plain-56 (measure {abs(correlation['plain-56']):.2f}), and less so in ResNet-56 "
        f"({correlation['resnet-56']:.2f})",
        f"error of Plain-56 by {deletion['plain-56']:.1f} points, that of ResNet-56 by {deletion['resnet-56']:.1f}",
        f"Branches of ResNet-56 shrink by {100 * (1 - math.exp(-effect['identity-mapping'])):.1f} %",
        f"{probe['plain-56']:.1f} points better than one on its last block, in ResNet-56 {probe['resnet-56']:.1f}",
        f"The loss is {math.exp(effect['landscape']):.0f} times as sharp",
        f"its training loss is {float(losses[0]) / float(losses[2]):.0f} times as large",
    ):
        assert text in page


def test_the_verdicts_in_the_readme_are_those_of_the_published_runs():
    reports = {study.name: claims_report(claims_document(loaded(study))) for study in STUDIES}
    printed = {
        name: {row[0]: row for row in rows_of(render_report(report, "markdown"))} for name, report in reports.items()
    }
    _, *shown = rows_of(README[README.index("| claim |") :].partition("\n\n")[0])
    assert [row[0] for row in shown] == [claim.name for claim in CLAIMS]
    for claim, effect, verdict, *of_demo in shown:
        assert (claim, verdict, effect) == printed["overnight"][claim][:3]
        _, demo_verdict, demo_effect, interval, _, p = printed["demo"][claim][:6]
        assert of_demo == [demo_effect, demo_verdict, interval, p]
