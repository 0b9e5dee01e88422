"""Which figures a study suffices for, groups apart, and the confusion matrices."""

import msgspec
import numpy as np
import pytest

from resnet_cli.analysis import figures
from resnet_cli.analysis.figures.confusion import confusion_counts
from resnet_cli.analysis.figures.style import house_style
from resnet_cli.analysis.frames import load_study
from resnet_cli.errors import InputError, UsageError
from resnet_cli.rundir import Predictions
from resnet_cli.util.files import write_atomic


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # these files need not survive a power cut


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
    """What the two panels show, in percent; NaN where a class has no example."""
    return [axes.collections[0].get_array().filled(np.nan) for axes in figure.axes[:2]]


def networks_of(study, kind, depths=None):
    return {drawn.kind: drawn.networks for drawn in figures.draw_or_explain(study, [kind], depths)[0]}[kind]


# --------------------------------------------------------------------------------------------------- confusion


def test_cells_are_the_percentage_of_each_true_class_counted_by_hand(tmp_path, make_run):
    plain = make_run(tmp_path / "plain", arch="plain")
    resnet = make_run(tmp_path / "resnet", arch="resnet")
    predict(plain, [0, 0, 0, 0, 3, 3], [0, 0, 0, 5, 3, 0])
    predict(resnet, [0, 0, 0, 0, 3, 3], [0, 0, 0, 0, 3, 3])
    ((_, _, figure),) = figures.draw(load_study([tmp_path]), ["fig4"])
    left, right = matrices(figure)
    assert left[0].tolist() == [75, 0, 0, 0, 0, 25, 0, 0, 0, 0]
    assert left[3].tolist() == [50, 0, 0, 50, 0, 0, 0, 0, 0, 0]
    assert right[0, 0] == right[3, 3] == 100
    assert np.isnan(left[1]).all()  # no example of class 1
    assert [[text.get_text() for text in axes.texts if text.get_text()] for axes in figure.axes[:2]] == [
        ["75.0", "25.0", "50.0", "50.0"],
        ["100", "100"],
    ]


def test_panels_name_the_network_the_order_of_classes_and_share_one_scale(make_pair):
    ((_, _, figure),) = figures.draw(load_study([make_pair(56, dataset="digits", predictions=True)]), ["fig5"])
    left, right = figure.axes[:2]
    assert (left.get_title("left"), right.get_title("left")) == ("plain-56", "resnet-56")
    assert (left.get_ylabel(), left.get_xlabel(), right.get_xlabel()) == (
        "true class", "predicted class", "predicted class",
    )  # fmt: skip
    names = [f"class {i}" for i in range(10)]
    assert [label.get_text() for label in left.get_xticklabels()] == names
    assert [label.get_text() for label in left.get_yticklabels()] == names
    scales = [
        (axes.collections[0].norm.vmin, axes.collections[0].norm.vmax, axes.collections[0].norm.gamma)
        for axes in (left, right)
    ]
    assert scales == [(0, 100, 0.5)] * 2
    (bar,) = right.child_axes
    assert bar.get_ylabel() == "predicted as (% of the true class)"


def test_counts_of_several_seeds_are_summed(tmp_path, make_run):
    for seed, predicted in enumerate(([0, 1, 1], [0, 0, 1])):
        predict(make_run(tmp_path / str(seed), arch="plain", seed=seed), [0, 0, 1], predicted)
    counts = confusion_counts(load_study([tmp_path]).runs)
    assert counts.shape == (10, 10)
    assert counts[:2, :2].tolist() == [[3, 1], [0, 2]]
    assert counts.sum() == 6


def test_a_hundred_classes_are_shown_without_numbers_and_names(make_pair):
    folder = make_pair(20, dataset="cifar100", predictions=True, limit_test=200)
    ((_, _, figure),) = figures.draw(load_study([folder]), ["fig4"])
    assert matrices(figure)[0].shape == (100, 100)
    assert not figure.axes[0].texts
    assert "class 0" not in [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert "blank" not in figure.get_supxlabel()


def test_a_class_name_is_neither_mathematics_nor_a_control_sequence(make_pair, tmp_path):
    study = load_study([make_pair(20, dataset="digits", predictions=True)])
    for run in study.runs:
        rename_classes(run.dir, ["$\\frac{", "x\x1b[31m\ny", "a name of many letters", *"3456789"])
    ((_, _, figure),) = figures.draw(load_study([tmp_path]), ["fig4"])
    with house_style():
        figure.draw_without_rendering()  # raises on mathematics that does not parse
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[:3] == ["$\\frac{", "x [31m y", "a name of m…"]


def test_option_a_is_the_twin_where_there_are_both_options(make_pair, make_run, tmp_path):
    folder = make_pair(20, dataset="digits", predictions=True)
    make_run(folder / "b", arch="resnet", shortcut="B", dataset="digits")
    study = load_study([folder])
    assert networks_of(study, "fig4") == ["plain-20", "resnet-20"]
    assert networks_of(study, "fig1") == ["plain-20", "resnet-20", "resnet-20-B"]


def test_option_b_is_the_twin_where_it_is_the_only_one(make_run, tmp_path):
    make_run(tmp_path / "p", arch="plain", dataset="digits")
    make_run(tmp_path / "b", arch="resnet", shortcut="B", dataset="digits")
    assert networks_of(load_study([tmp_path]), "fig4") == ["plain-20", "resnet-20-B"]


def test_a_confusion_matrix_without_predictions_names_the_network(make_pair):
    folder = make_pair(20, dataset="digits", predictions=True)
    study = load_study([folder])
    study.runs[1].dir.predictions_path.unlink()
    with pytest.raises(InputError, match=r"no predictions\.npz in a run of resnet-20"):
        figures.draw(study, ["fig4"])


@pytest.mark.parametrize("damage", ["cut", "classes"])
def test_damaged_predictions_are_named_by_path(make_pair, damage):
    study = load_study([make_pair(20, dataset="digits", predictions=True)])
    path = study.runs[0].dir.predictions_path
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        predict(study.runs[0].dir, [0, 1], [0, 1], num_classes=7)
    with pytest.raises(InputError, match=str(path)):
        figures.draw(study, ["fig4"])


# --------------------------------------------------------------------------------------------------- selection


def test_the_report_s_depths_are_drawn_where_they_are_there(make_pair):
    study = load_study([make_pair(8, 20, 56, 110, epochs=1)])
    assert networks_of(study, "fig1") == ["plain-20", "resnet-20"]
    assert networks_of(study, "fig2") == ["plain-56", "resnet-56"]


def test_otherwise_the_smallest_and_the_largest_depth_are_drawn(make_pair):
    study = load_study([make_pair(8, 20, 32, epochs=1)])
    assert networks_of(study, "fig1") == ["plain-8", "resnet-8"]
    assert networks_of(study, "fig3") == ["plain-32", "resnet-32"]


def test_depths_that_are_asked_for_are_drawn(make_pair):
    study = load_study([make_pair(8, 20, 32, 56, epochs=1)])
    assert networks_of(study, "fig1", [32, 8]) == ["plain-8", "resnet-8"]
    assert networks_of(study, "fig2", [32, 8]) == ["plain-32", "resnet-32"]
    assert networks_of(study, "fig2", [20]) == ["plain-20", "resnet-20"]


def test_degradation_draws_every_depth_whatever_is_asked_for(make_pair):
    study = load_study([make_pair(8, 20, epochs=1)])
    assert networks_of(study, "degradation", [8]) == ["plain-8", "plain-20", "resnet-8", "resnet-20"]


def test_datasets_and_recipes_are_never_in_one_figure(make_pair):
    folders = [
        make_pair(20, name="a", seeds=2),
        make_pair(20, name="b", dataset="imagefolder"),
        make_pair(20, name="c", lr=0.05),
    ]
    figures_, _ = figures.draw_or_explain(load_study(folders), ["fig1"])
    assert [(drawn.group.label, drawn.n_runs) for drawn in figures_] == [
        ("CIFAR-10, report2025", 4),
        ("CIFAR-10, report2025 lr=0.05", 2),
        ("CIFAR-10 (JPEG), report2025", 2),
    ]
    assert [len(drawn.figure.axes[0].lines) for drawn in figures_] == [2, 2, 2]


def test_a_named_figure_says_which_networks_are_missing(make_run, tmp_path):
    make_run(tmp_path / "a", arch="resnet", depth=56, predictions=False)
    study = load_study([tmp_path])
    with pytest.raises(InputError, match=r"fig2 of CIFAR-10, report2025 cannot be drawn: no complete run of plain-56"):
        figures.draw(study, ["fig2"])
    with pytest.raises(InputError, match="no complete run of plain-44 and resnet-44"):
        figures.draw(study, ["fig2"], [20, 44])


def test_all_draws_what_it_can_and_explains_the_rest(make_run, tmp_path):
    make_run(tmp_path / "a", arch="resnet", depth=56, predictions=False)
    drawn, missing = figures.draw_or_explain(load_study([tmp_path]))
    assert [one.kind for one in drawn] == ["degradation"]
    assert len(drawn[0].figure.axes) == 1
    reasons = {one.kind: one.reason for one in missing}
    assert reasons["fig4"] == "no complete run of plain-56"
    assert reasons["fig5"] == "56 is the only depth, which fig4 shows"
    assert reasons["gradflow"] == "no run recorded gradient norms; train with --gradflow-every"


def test_a_named_figure_that_one_group_lacks_is_drawn_of_the_other(make_pair, make_run, tmp_path):
    folder = make_pair(20)
    make_run(folder / "other", arch="resnet", lr=0.05, predictions=False)
    drawn, missing = figures.draw_or_explain(load_study([folder]), ["fig1"])
    assert [one.group.recipe for one in drawn] == ["report2025"]
    assert [one.group.recipe for one in missing] == ["report2025 lr=0.05"]


def test_a_run_without_epochs_is_named(make_pair):
    study = load_study([make_pair(20)])
    study.runs[1].dir.truncate_to_epoch(0)
    with pytest.raises(InputError, match=f"{study.runs[1].dir.metrics_path} has no rows"):
        figures.draw(study, ["fig1"])


def test_gradient_norms_are_drawn_of_the_runs_that_have_them(make_pair, make_run):
    folder = make_pair(20, gradflow=True)
    run = make_run(folder / "without", arch="plain", depth=56, predictions=False)
    run.gradflow_path.unlink()
    make_run(folder / "empty", arch="resnet", depth=56, predictions=False)
    assert networks_of(load_study([folder]), "gradflow") == ["plain-20", "resnet-20"]


def test_nothing_complete_is_unusable_input(make_run, tmp_path):
    make_run(tmp_path / "a", status="incomplete")
    with pytest.raises(InputError, match="none of the 1 run found is complete"):
        figures.draw(load_study([tmp_path]))


def test_an_unknown_kind_and_three_depths_are_wrong_usage(make_pair):
    study = load_study([make_pair(20)])
    with pytest.raises(UsageError, match="'fig6' is not a figure; use fig1, fig2"):
        figures.draw(study, ["fig1", "fig6"])
    with pytest.raises(UsageError, match="3 depths"):
        figures.draw(study, ["fig1"], [8, 20, 32])
