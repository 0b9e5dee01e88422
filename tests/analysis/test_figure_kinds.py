"""The figures that a study supports, separate groups, and confusion matrices."""

import msgspec
import numpy as np
import pytest
from drawing import draw_one

from resnet_cli.analysis import figures
from resnet_cli.analysis.figures.style import house_style
from resnet_cli.analysis.frames import load_study
from resnet_cli.errors import InputError
from resnet_cli.rundir import Predictions
from resnet_cli.util.files import write_atomic


@pytest.fixture
def make_pair(tmp_path, make_run):
    """Write plain and residual runs of each depth under `tmp_path / name` and return the folder."""

    def build(*depths, name="runs", seeds=1, **options):
        for arch in ("plain", "resnet"):
            for depth in depths:
                for seed in range(seeds):
                    path = tmp_path / name / f"{arch}-{depth}-{seed}"
                    make_run(path, arch=arch, depth=depth, seed=seed, **{"predictions": False, **options})
        return tmp_path / name

    return build


def predict(run, labels, predicted, num_classes=10):
    """Replace the predictions of a run by `predicted`."""
    logits = np.eye(num_classes, dtype=np.float32)[predicted]
    run.write_predictions(Predictions(np.asarray(labels), logits))


def rename_classes(run, classes):
    """Replace the class names of a run."""
    record = run.read_record()
    dataset = msgspec.structs.replace(record.dataset, classes=tuple(classes))
    write_atomic(run.record_path, msgspec.json.encode(msgspec.structs.replace(record, dataset=dataset)))


def matrices(figure):
    """Values of the two panels in percent; NaN for classes without examples."""
    return [axes.collections[0].get_array().filled(np.nan) for axes in figure.axes[:2]]


def test_cells_of_a_confusion_matrix_are_percentages_of_the_true_class(tmp_path, make_run):
    plain = make_run(tmp_path / "plain", arch="plain")
    resnet = make_run(tmp_path / "resnet", arch="resnet")
    predict(plain, [0, 0, 0, 0, 3, 3], [0, 0, 0, 5, 3, 0])
    predict(resnet, [0, 0, 0, 0, 3, 3], [0, 0, 0, 0, 3, 3])
    figure = draw_one(load_study([tmp_path]), "fig4").figure
    left, right = matrices(figure)
    assert left[0].tolist() == [75, 0, 0, 0, 0, 25, 0, 0, 0, 0]
    assert left[3].tolist() == [50, 0, 0, 50, 0, 0, 0, 0, 0, 0]
    assert right[0, 0] == right[3, 3] == 100
    assert np.isnan(left[1]).all()  # no example of class 1
    assert [[text.get_text() for text in axes.texts if text.get_text()] for axes in figure.axes[:2]] == [
        ["75.0", "25.0", "50.0", "50.0"],
        ["100", "100"],
    ]


def test_panels_of_confusion_matrices_name_network_and_classes_and_share_one_scale(make_pair):
    figure = draw_one(load_study([make_pair(56, dataset="digits", predictions=True)]), "fig5").figure
    left, right = figure.axes[:2]
    assert (left.get_title("left"), right.get_title("left")) == ("plain-56", "resnet-56")
    assert (left.get_ylabel(), left.get_xlabel(), right.get_xlabel()) == ("true class", *["predicted class"] * 2)
    for labels in (left.get_xticklabels(), left.get_yticklabels()):
        assert [label.get_text() for label in labels] == [f"class {i}" for i in range(10)]
    norms = [axes.collections[0].norm for axes in (left, right)]
    assert [(norm.vmin, norm.vmax, norm.gamma) for norm in norms] == [(0, 100, 0.5)] * 2
    (bar,) = right.child_axes
    assert bar.get_ylabel() == "predicted as (% of the true class; square-root scale)"


def test_confusion_counts_of_several_seeds_are_summed(tmp_path, make_run):
    for seed, predicted in enumerate(([0, 0, 0, 0, 1], [1, 1, 1, 0, 1])):
        for arch in ("plain", "resnet"):
            predict(make_run(tmp_path / f"{arch}{seed}", arch=arch, seed=seed), [0, 0, 0, 0, 1], predicted)
    figure = draw_one(load_study([tmp_path]), "fig4").figure
    assert matrices(figure)[0][:2, :2].tolist() == [[62.5, 37.5], [0, 100]]
    assert "counts of all seeds summed" in " ".join(figure.get_supxlabel().split())


def test_a_confusion_matrix_of_a_hundred_classes_has_no_numbers_and_no_names(make_pair):
    folder = make_pair(20, dataset="cifar100", predictions=True, limit_test=200)
    figure = draw_one(load_study([folder]), "fig4").figure
    assert matrices(figure)[0].shape == (100, 100)
    assert not figure.axes[0].texts
    assert "class 0" not in [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "blank" not in figure.get_supxlabel()


def test_class_names_are_not_interpreted_as_mathematics_or_control_sequences(make_pair, tmp_path):
    study = load_study([make_pair(20, dataset="digits", predictions=True)])
    for run in study.runs:
        rename_classes(run.dir, ["$\\frac{", "x\x1b[31m\ny", "a name of many letters", *"3456789"])
    figure = draw_one(load_study([tmp_path]), "fig4").figure
    with house_style():
        figure.draw_without_rendering()  # fails for invalid mathematics
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[:3] == ["$\\frac{", "x\\x1b[31m\\ny", "a name of m…"]


@pytest.mark.parametrize(("shortcuts", "twin"), [("AB", "resnet-20"), ("B", "resnet-20-B")])
def test_confusion_matrices_prefer_the_residual_network_with_option_a(make_run, tmp_path, shortcuts, twin):
    make_run(tmp_path / "plain", arch="plain", dataset="digits")
    for shortcut in shortcuts:
        make_run(tmp_path / shortcut, arch="resnet", shortcut=shortcut, dataset="digits")
    assert draw_one(load_study([tmp_path]), "fig4").networks == ["plain-20", twin]


@pytest.mark.parametrize("damage", ["missing", "cut", "classes"])
def test_missing_or_damaged_predictions_are_an_error_that_names_the_network_and_the_file(make_pair, damage):
    study = load_study([make_pair(20, dataset="digits", predictions=True)])
    path = study.runs[1].dir.predictions_path
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        predict(study.runs[1].dir, [0, 1], [0, 1], num_classes=7)
    named = r"no predictions\.npz for resnet-20" + ("" if damage == "missing" else f" .*{path}")
    with pytest.raises(InputError, match=named):
        figures.draw(study, ["fig4"])


@pytest.mark.parametrize(
    ("available", "requested", "kind", "shown"),
    [
        ((8, 20, 56, 110), None, "fig1", [20]),
        ((8, 20, 56, 110), None, "fig2", [56]),
        ((8, 20, 32), None, "fig1", [8]),
        ((8, 20, 32), None, "fig3", [32]),
        ((8, 20, 32), [32, 8], "fig1", [8]),
        ((8, 20, 32), [32, 8], "fig2", [32]),
        ((8, 20, 32), [20], "fig2", [20]),
        ((8, 20), [8], "degradation", [8, 20]),
    ],
)
def test_figures_show_the_requested_depths_or_20_and_56_or_the_smallest_and_largest(
    make_pair, available, requested, kind, shown
):
    study = load_study([make_pair(*available, epochs=1)])
    expected = [f"{arch}-{depth}" for arch in ("plain", "resnet") for depth in shown]
    assert draw_one(study, kind, requested).networks == expected


def test_the_error_for_a_figure_without_its_networks_names_them(make_run, tmp_path):
    make_run(tmp_path / "a", arch="resnet", depth=56, predictions=False)
    study = load_study([tmp_path])
    with pytest.raises(
        InputError, match=r"cannot draw accuracy-56 of CIFAR-10, report2025: no complete run of plain-56"
    ):
        figures.draw(study, ["fig2"])


def test_all_draws_every_supported_figure_and_explains_the_others(make_run, tmp_path):
    make_run(tmp_path / "a", arch="resnet", depth=56, predictions=False)
    drawn, skipped = figures.draw(load_study([tmp_path]))
    assert [one.name for one in drawn] == ["curves"]
    reasons = {one.name: one.reason for one in skipped}
    assert reasons == {
        **dict.fromkeys(("convergence-56", "accuracy-56", "confusion-56"), "no complete run of plain-56"),
        "gradients-56": "no run recorded gradient norms; train with --gradflow-every",
    }
    assert figures.describe_skipped(skipped) == (
        "not drawn: convergence-56, accuracy-56, confusion-56 (no complete run of plain-56); "
        "gradients-56 (no run recorded gradient norms; train with --gradflow-every)"
    )


def test_figures_that_were_not_drawn_are_described_in_one_line_with_the_most_frequent_reasons():
    group = figures.Group("CIFAR-10", "f", "demo")
    skipped = [
        figures.SkippedFigure(f"accuracy-{depth}", "accuracy", group, f"no complete run of plain-{depth}")
        for depth in (8, 14, 14, 20, 26)
    ]
    assert figures.describe_skipped(skipped) == (
        "not drawn: accuracy-14 (no complete run of plain-14); accuracy-8 (no complete run of plain-8); "
        "accuracy-20 (no complete run of plain-20); and others; --json lists all 5"
    )


@pytest.mark.parametrize(
    ("kinds", "depths", "names"),
    [
        (["fig1", "fig2", "fig3"], (20, 56), ["convergence-20", "accuracy-56", "dynamics-56"]),
        (["fig5"], (20, 56), ["confusion-56"]),
        (["fig5"], (20,), ["confusion-20"]),
        (["fig4", "fig5"], (20,), ["confusion-20"]),
        (["confusion"], (20, 56), ["confusion-20", "confusion-56"]),
        (["degradation", "curves"], (20, 56), ["curves", "degradation"]),
        (["all"], (20,), ["curves", "convergence-20", "accuracy-20", "confusion-20", "degradation", "gradients-20"]),
    ],
)
def test_kinds_and_figure_numbers_of_the_report_name_figures_each_once(make_pair, kinds, depths, names):
    study = load_study([make_pair(*depths, dataset="digits", predictions=True, gradflow=True, epochs=1)])
    drawn, _ = figures.draw(study, kinds)
    assert [one.name for one in drawn] == names
    assert {one.name: one.report_figure for one in drawn if one.kind == "confusion"} == {
        f"confusion-{depth}": number
        for depth, number in zip(depths, ("fig4", "fig5"), strict=False)
        if f"confusion-{depth}" in names
    } or kinds == ["fig5"]


def test_a_requested_figure_is_drawn_for_every_group_that_supports_it(make_pair, make_run, tmp_path):
    folder = make_pair(20)
    make_run(folder / "other", arch="resnet", lr=0.05, predictions=False)
    drawn, skipped = figures.draw(load_study([folder]), ["fig1"])
    assert [one.group.recipe for one in drawn] == ["report2025"]
    assert [one.group.recipe for one in skipped] == ["report2025 lr=0.05"]


def test_the_error_for_drawing_a_run_without_epochs_names_its_file(make_pair):
    study = load_study([make_pair(20)])
    study.runs[1].dir.restore_tables(None)
    with pytest.raises(InputError, match=f"{study.runs[1].dir.metrics_path} has no rows"):
        figures.draw(study, ["fig1"])


def test_gradients_are_drawn_for_the_runs_that_recorded_them(make_pair, make_run):
    folder = make_pair(20, gradflow=True)
    run = make_run(folder / "without", arch="plain", depth=20, seed=1, predictions=False)
    run.gradflow_path.unlink()
    make_run(folder / "empty", arch="resnet", depth=20, seed=1, predictions=False)
    drawn = draw_one(load_study([folder]), "gradients")
    assert (drawn.networks, drawn.n_runs) == (["plain-20", "resnet-20"], 2)


def test_unfinished_runs_of_another_recipe_have_curves_and_no_other_figure(make_pair, make_run):
    folder = make_pair(20)
    make_run(folder / "half", arch="plain", lr=0.05, status="incomplete")
    drawn, skipped = figures.draw(load_study([folder], with_metrics=True))
    assert [one.name for one in drawn if one.group.recipe == "report2025 lr=0.05"] == ["curves"]
    assert {one.group.recipe for one in skipped} == {"report2025"}
