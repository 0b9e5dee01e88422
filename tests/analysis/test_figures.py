"""Curves and bands, checked on the artists of matplotlib."""

import itertools

import numpy as np
import pandas as pd
import pytest
from drawing import draw_one
from matplotlib.colors import to_hex
from scipy import stats

from resnet_cli.analysis import figures
from resnet_cli.analysis.bands import LrDrop, lr_drops, seed_bands
from resnet_cli.analysis.figures.style import network_style
from resnet_cli.analysis.frames import epochs_frame, load_study
from resnet_cli.errors import InputError
from resnet_cli.rundir import METRICS_COLUMNS, EpochMetrics, GradflowRow

RATES = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


@pytest.fixture
def make_study(tmp_path, make_run, monkeypatch):
    """Builder of a study of some networks and seeds, with learning-rate drops after epochs 2 and 4."""
    monkeypatch.setattr("os.fsync", lambda _: None)  # these files need not survive a power failure

    def build(networks=("plain-20", "resnet-20"), seeds=1, rates=RATES, change=None, **options):
        for network, seed in itertools.product(networks, range(seeds)):
            arch, depth, *shortcut = network.split("-")
            run = make_run(
                tmp_path / f"{network}-{seed}", arch=arch, depth=int(depth), seed=seed, epochs=len(rates),
                **({"shortcut": shortcut[0]} if shortcut else {}), **{"predictions": False, **options},
            )  # fmt: skip
            rows, gradients = run.read_metrics().to_dict("records"), run.read_gradflow().to_dict("records")
            run.restore_tables(None)
            run.append_gradflow([GradflowRow(**row) for row in gradients])
            rng = np.random.default_rng([seed, len(network)])
            for row, lr in zip(rows, rates, strict=True):
                noisy = row["test_error_pct"] + rng.uniform(-0.5, 0.5)
                values = row | {"lr": lr, "test_error_pct": noisy, "test_accuracy_pct": 100 - noisy}
                values |= {"test_loss": row["test_loss"] + rng.uniform(0, 0.1)}
                values |= change(network, seed, row) if change else {}
                run.append_metrics(EpochMetrics(**values))
        return load_study([tmp_path], with_metrics=True)

    return build


def curves(axes, network, linestyle):
    """The lines of a network with a line style, without vertical rules."""
    return [line for line in axes.lines if line.get_label() == network and line.get_linestyle() == linestyle]


def expected(study, network, measure):
    """Mean and t-interval of a measure at every epoch, by SciPy."""
    frame = epochs_frame(study)
    values = frame[frame["network"] == network].pivot_table(index="epoch", columns="seed", values=measure).to_numpy()
    mean, n = values.mean(axis=1), values.shape[1]
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=values.std(axis=1, ddof=1) / np.sqrt(n))
    return mean, low, high


def rules(axes):
    """Positions of the vertical rules of a panel."""
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_label() == "_rule"]


def test_only_an_exploding_loss_is_drawn_on_a_log_axis(tmp_path, make_run):
    for arch in ("plain", "resnet"):
        run = make_run(tmp_path / arch, arch=arch, depth=20)
    assert draw_one(load_study([tmp_path], with_metrics=True), "fig1").figure.axes[1].get_yscale() == "linear"
    lines = run.metrics_path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[METRICS_COLUMNS.index("test_loss")] = "1e10"
    run.metrics_path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    assert draw_one(load_study([tmp_path], with_metrics=True), "fig1").figure.axes[1].get_yscale() == "log"


def test_a_single_run_has_a_mean_of_its_finite_values_but_no_interval():
    frame = pd.DataFrame({"network": "plain-20", "seed": "a", "x": [1.0, 2.0, 3.0], "loss": [np.inf, 3.0, 2.0]})
    bands = seed_bands(frame, "x", "loss")
    assert bands[["x", "mean"]].to_numpy().tolist() == [[2.0, 3.0], [3.0, 2.0]]
    assert bands[["low", "high"]].isna().all(axis=None)


def test_a_point_missing_for_one_seed_is_excluded_from_the_mean():
    frame = pd.DataFrame({
        "network": "plain-20", "seed": ["a", "a", "b", "b", "c", "c"], "x": [1.0, 2.0] * 3,
        "error": [4.0, 2.0, np.nan, 4.0, np.nan, np.nan],
    })  # fmt: skip
    bands = seed_bands(frame, "x", "error")
    # Run c has no value at all and does not count; run b has no value at x = 1.
    assert bands[["x", "mean", "n"]].to_numpy().tolist() == [[2.0, 3.0, 2.0]]


@pytest.mark.parametrize(("num_seeds", "has_interval"), [(1, False), (2, False), (3, False), (4, True)])
def test_intervals_need_four_seeds(num_seeds, has_interval):
    frame = pd.DataFrame({"network": "plain-20", "seed": list("abcd")[:num_seeds], "x": 1.0, "loss": range(num_seeds)})
    bands = seed_bands(frame, "x", "loss")
    assert bands[["low", "high"]].notna().all(axis=None) == has_interval


def test_repetitions_of_a_seed_are_averaged_and_count_once():
    frame = pd.DataFrame({
        "network": "plain-20", "seed": [0, 0, 1, 1, 2, 3], "x": 1.0, "loss": [1.0, 3.0, 2.0, 4.0, 5.0, 6.0],
    })  # fmt: skip
    assert seed_bands(frame, "x", "loss")[["mean", "n"]].to_numpy().tolist() == [[(2 + 3 + 5 + 6) / 4, 4]]
    two_seeds = seed_bands(frame[frame["seed"] < 2], "x", "loss")
    assert two_seeds["n"].tolist() == [2]
    assert two_seeds[["low", "high"]].isna().all(axis=None)


def test_the_geometric_mean_ignores_values_of_zero():
    frame = pd.DataFrame({
        "network": "plain-20", "seed": list("abcd") * 2, "x": [1.0] * 4 + [2.0] * 4,
        "norm": [1e-3, 10.0, 1e-3, 10.0, 0.0, 0.0, 0.0, 0.0],
    })  # fmt: skip
    bands = seed_bands(frame, "x", "norm", log=True)
    assert bands["x"].tolist() == [1.0]
    assert bands["mean"].to_numpy() == pytest.approx([0.1])
    assert bands["high"][0] / bands["mean"][0] == pytest.approx(bands["mean"][0] / bands["low"][0])


@pytest.mark.parametrize(
    ("rates", "ends", "milestones", "drops"),
    [
        (RATES, range(1, 7), (), [LrDrop(2.0, 10.0), LrDrop(4.0, 10.0)]),
        ([0.1, 0.01, 0.01], [31.68, 32.03, 32.38], (32.0, 48.0), [LrDrop(32.0, 10.0)]),
        ([0.01, 0.1], [1, 2], (), []),  # the end of the warm-up
    ],
)
def test_a_learning_rate_drop_is_at_the_milestone_or_the_last_epoch_with_the_old_rate(rates, ends, milestones, drops):
    frame = pd.DataFrame({"path": "a", "epoch": range(len(rates)), "lr": rates, "x": [float(end) for end in ends]})
    twice = pd.concat([frame, frame.assign(path="b")])
    assert lr_drops(twice, "x", milestones) == drops


def test_lines_of_four_seeds_are_means_with_t_intervals_solid_for_test_and_dashed_for_training(make_study):
    study = make_study(seeds=4)
    accuracy, loss = draw_one(study, "fig1").figure.axes
    panels = [(accuracy, "test_accuracy_pct", "-"), (loss, "test_loss", "-"), (loss, "train_loss", "--")]
    for (axes, measure, linestyle), network in itertools.product(panels, ("plain-20", "resnet-20")):
        mean, low, high = expected(study, network, measure)
        (line,) = curves(axes, network, linestyle)
        assert np.asarray(line.get_xdata()) == pytest.approx(range(1, 7))
        assert np.asarray(line.get_ydata()) == pytest.approx(mean)
        (band,) = [band for band in axes.collections if band.get_label() == f"{network} {measure}"]
        corners = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"]).groupby("x")["y"]
        assert corners.min().to_numpy() == pytest.approx(low)
        assert corners.max().to_numpy() == pytest.approx(high)


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_fewer_than_four_seeds_are_drawn_as_one_line_each_without_intervals(make_study, num_seeds):
    study = make_study(seeds=num_seeds)
    accuracy, _ = draw_one(study, "fig1").figure.axes
    frame = epochs_frame(study)
    for network in ("plain-20", "resnet-20"):
        runs = frame[frame["network"] == network].groupby("seed")["test_accuracy_pct"].apply(list)
        assert [list(line.get_ydata()) for line in curves(accuracy, network, "-")] == runs.tolist()
    assert not accuracy.collections


@pytest.mark.parametrize(("num_seeds", "num_thin"), [(4, 4), (11, 0)])
def test_up_to_ten_seeds_are_visible_behind_their_mean(make_study, num_seeds, num_thin):
    study = make_study(("plain-20", "resnet-20"), seeds=num_seeds, rates=[0.1, 0.1])
    (axes,) = draw_one(study, "fig2").figure.axes
    thin = [line for line in axes.lines if line.get_label() == "_seed"]
    assert len(thin) == 2 * num_thin
    assert len(curves(axes, "plain-20", "-")) == 1


def test_a_network_has_one_colour_and_one_width_in_every_figure(make_study):
    study = make_study(("plain-20", "resnet-20", "plain-56", "resnet-56"))
    seen = {}
    for drawn in figures.draw(study, ["curves", "fig1", "fig2", "fig3", "degradation"])[0]:
        for line in [line for axes in drawn.figure.axes for line in axes.lines]:
            if line.get_label() in ("plain-20", "resnet-20", "plain-56", "resnet-56"):
                seen.setdefault(line.get_label(), set()).add((to_hex(line.get_color()), line.get_linewidth()))
    assert {name: {(s.color, s.line_width)} for name in seen for s in [network_style(name)]} == seen
    assert len(set(map(str, seen.values()))) == 4


def test_axes_of_figures_are_labelled_with_units(make_study):
    study = make_study(("plain-20", "resnet-20"))
    labels = {
        kind: [(axes.get_xlabel(), axes.get_ylabel()) for axes in draw_one(study, kind).figure.axes]
        for kind in ("fig1", "fig2", "fig3", "degradation")
    }
    assert labels == {
        "fig1": [("epoch", "test accuracy (%)"), ("epoch", "cross-entropy (nats)")],
        "fig2": [("epoch", "test accuracy (%)")],
        "fig3": [
            ("", "test accuracy (%)"), ("", "cross-entropy (nats)"), ("", "training error (%)"), ("epoch", "lr"),
        ],
        "degradation": [("epoch", "error (%)"), ("epoch", "")],
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "labelled"), [("fig1", 2), ("fig2", 1), ("fig3", 1), ("degradation", 2)])
def test_every_panel_marks_learning_rate_drops_and_the_top_row_labels_them(make_study, kind, labelled):
    figure = draw_one(make_study(), kind).figure
    assert [rules(axes) for axes in figure.axes] == [[2.0, 4.0]] * len(figure.axes)
    named = [[text.get_text() for text in axes.texts if "lr" in text.get_text()] for axes in figure.axes]
    assert named == [["lr ÷10", "lr ÷10"]] * labelled + [[]] * (len(figure.axes) - labelled)


@pytest.mark.parametrize(("num_epochs", "ticks"), [(1, [1]), (3, [1, 2, 3]), (20, [1, 4, 8, 12, 16, 20])])
def test_the_x_axis_starts_at_the_first_epoch_and_labels_it(make_study, num_epochs, ticks):
    (axes,) = draw_one(make_study(rates=[0.1] * num_epochs), "fig2").figure.axes
    left, right = axes.get_xlim()
    assert left == 1 - 0.5 * (num_epochs == 1)
    assert num_epochs < right < 1.1 * num_epochs + 1
    assert axes.get_xticks().tolist() == ticks


def test_panels_are_lettered_if_there_are_several(make_study):
    study = make_study()
    letters = {kind: [axes.get_title() for axes in draw_one(study, kind).figure.axes] for kind in ("fig2", "fig3")}
    assert letters == {"fig2": [""], "fig3": ["a", "b", "c", "d"]}


def test_labels_of_learning_rate_drops_do_not_overlap(make_study):
    figure = draw_one(make_study(rates=[0.1] * 18 + [0.05, 0.02]), "fig2").figure
    assert rules(figure.axes[0]) == [18.0, 19.0]
    assert [text.get_text() for text in figure.axes[0].texts] == ["lr ÷2"]


def test_a_recipe_that_counts_steps_is_drawn_against_thousands_of_steps(make_study):
    # An epoch of 45,000 images has 352 steps, so the milestone at step 32,000 is within the second row.
    study = make_study(
        recipe="he2015", rates=[0.1, 0.01, 0.01], change=lambda *args: {"step": 31_680 + 352 * (args[2]["epoch"] - 1)}
    )
    (axes,) = draw_one(study, "fig2").figure.axes
    assert axes.get_xlabel() == "step (thousands)"
    assert np.asarray(curves(axes, "plain-20", "-")[0].get_xdata()) == pytest.approx([31.68, 32.032, 32.384])
    assert rules(axes) == [32.0]


def test_fig3_shows_running_error_dashed_and_clean_error_at_measured_epochs(make_study):
    study = make_study(
        change=lambda _, __, row: {"train_clean_error_pct": row["epoch"] * 1.5 if row["epoch"] % 3 == 0 else None}
    )
    _, _, error, _ = draw_one(study, "curves").figure.axes
    lines = {line.get_marker(): line for line in error.lines if line.get_label() == "plain-20"}
    running, clean = lines["None"], lines["o"]
    assert running.get_linestyle() == "--"
    assert list(running.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert list(clean.get_xdata()) == [3, 6]
    assert list(clean.get_ydata()) == [4.5, 9.0]


def test_the_legend_of_fig3_omits_clean_error_if_it_was_never_measured(make_study):
    figure = draw_one(make_study(change=lambda *_: {"train_clean_error_pct": None}), "fig3").figure
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"plain-20", "resnet-20", "test", "training"}


def test_fig3_draws_a_shared_learning_rate_schedule_once(make_study):
    *_, rate = draw_one(make_study(), "fig3").figure.axes
    (line,) = [line for line in rate.lines if line.get_label() != "_rule"]
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert list(line.get_ydata()) == RATES
    assert line.get_drawstyle() == "steps-pre"
    assert rate.get_yscale() == "log"
    assert [tick.get_text() for tick in rate.get_yticklabels()] == ["0.001", "0.01", "0.1"]


def test_the_learning_rate_is_a_strip_below_the_other_panels(make_study):
    figure = draw_one(make_study(), "curves").figure
    figure.draw_without_rendering()
    accuracy, loss, error, rate = [axes.get_position() for axes in figure.axes]
    assert accuracy.y0 > loss.y1 > loss.y0 > error.y1 > error.y0 > rate.y1
    assert rate.height < 0.4 * error.height


def test_fig3_draws_different_schedules_in_the_colours_of_their_networks(make_study):
    warm = lambda network, _, row: {"lr": 0.01} if network == "plain-20" and row["epoch"] == 1 else {}  # noqa: E731
    *_, rate = draw_one(make_study(change=warm), "fig3").figure.axes
    drawn = {line.get_label(): line.get_color() for line in rate.lines if line.get_label() != "_rule"}
    assert drawn == {name: network_style(name).color for name in ("plain-20", "resnet-20")}


def test_a_learning_rate_of_zero_is_drawn_on_a_linear_axis(make_study):
    *_, rate = draw_one(make_study(rates=[0.0, 0.0]), "fig3").figure.axes
    assert rate.get_yscale() == "linear"


def test_a_run_of_one_epoch_is_drawn_as_a_marker(make_study):
    (axes,) = draw_one(make_study(rates=[0.1]), "fig2").figure.axes
    assert [line.get_marker() for line in axes.lines] == ["o", "o"]


def test_a_measure_that_is_missing_in_all_runs_has_no_lines(make_study):
    accuracy, loss = draw_one(make_study(change=lambda *_: {"test_loss": None}), "fig1").figure.axes
    assert [len(curves(axes, "plain-20", "-")) for axes in (accuracy, loss)] == [1, 0]


def test_networks_with_both_shortcuts_are_drawn_next_to_the_plain_network(make_study):
    study = make_study(("plain-20", "resnet-20", "resnet-20-B"))
    figure = draw_one(study, "fig2").figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain-20", "resnet-20", "resnet-20-B"]
    assert len({line.get_color() for line in figure.axes[0].lines if line.get_label() != "_rule"}) == 3


def test_degradation_shows_plain_and_residual_networks_on_one_scale(make_study):
    study = make_study(("plain-20", "plain-56", "resnet-20", "resnet-56"))
    plain, residual = draw_one(study, "degradation").figure.axes
    assert (plain.get_title("left"), residual.get_title("left")) == ("plain networks", "residual networks")
    assert plain.get_ylim() == residual.get_ylim()
    frame = epochs_frame(study)
    for axes, network in ((plain, "plain-56"), (residual, "resnet-20")):
        rows = frame[frame["network"] == network]
        assert np.asarray(curves(axes, network, "--")[0].get_ydata()) == pytest.approx(rows["train_error_pct"])
        assert np.asarray(curves(axes, network, "-")[0].get_ydata()) == pytest.approx(rows["test_error_pct"])
    assert not curves(plain, "resnet-20", "-")


@pytest.mark.parametrize(("first", "is_cut"), [(55.0, False), (90.0, True)])
def test_high_first_errors_are_cut_off_only_if_they_would_flatten_the_curves_and_the_caption_says_so(
    make_study, first, is_cut
):
    def falls(_, __, row):
        error = first if row["epoch"] == 1 else 50.0 if row["epoch"] < 6 else 20.0
        return {"train_error_pct": error, "test_error_pct": error, "test_accuracy_pct": 100 - error}

    figure = draw_one(make_study(change=falls, rates=[0.1] * 30), "degradation").figure
    (_, top), *_ = [axes.get_ylim() for axes in figure.axes]
    assert (top < first) == is_cut
    assert ("values beyond the axes are cut off" in " ".join(figure.get_supxlabel().split())) == is_cut


def test_degradation_marks_the_clean_training_error_after_the_last_epoch_of_the_curves(make_study):
    study = make_study(("plain-20", "plain-56"), seeds=2, train_error=3.25)
    (axes,) = draw_one(study, "degradation").figure.axes
    marked = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    assert list(marked) == ["plain-20 clean", "plain-56 clean"]
    assert [list(markers.get_ydata()) for markers in marked.values()] == [[3.25, 3.25]] * 2
    places = [markers.get_xdata() for markers in marked.values()]
    assert 6 < places[0][0] == places[0][1] < places[1][0] == places[1][1] < axes.get_xlim()[1]
    assert max(axes.get_xticks()) == 6


def test_the_clean_error_of_four_seeds_has_an_interval(make_study):
    study = make_study(("plain-20",), seeds=4, change=lambda _, seed, __: {"train_clean_error_pct": 1.0 + seed})
    (axes,) = draw_one(study, "degradation").figure.axes
    (bars,) = axes.containers
    mean, low, high = expected(study, "plain-20", "train_clean_error_pct")
    (segment,) = bars.lines[2][0].get_segments()
    assert list(bars.lines[0].get_ydata()) == pytest.approx(mean[-1:])
    assert segment[:, 1] == pytest.approx([low[-1], high[-1]])


def test_degradation_has_no_markers_if_no_clean_error_was_measured(make_study):
    figure = draw_one(make_study(change=lambda *_: {"train_clean_error_pct": None}), "degradation").figure
    assert not [axes.containers for axes in figure.axes if axes.containers]
    assert "clean training" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_show_unfinished_runs_with_an_end_marker_and_keep_them_out_of_means(make_study, make_run, tmp_path):
    alone = draw_one(make_study(("plain-20",), seeds=4), "curves")
    unfinished = [
        make_run(tmp_path / status, arch="plain", seed=seed, status=status, epochs=4)
        for seed, status in enumerate(("incomplete", "diverged"), start=10)
    ]
    unfinished.append(make_run(tmp_path / "running", arch="plain", seed=12, status="incomplete", epochs=4))
    with unfinished[-1].lock():
        drawn = draw_one(load_study([tmp_path], with_metrics=True), "curves")
    assert (alone.n_runs, drawn.n_runs) == (4, 7)
    accuracy = drawn.figure.axes[0]
    mean, *single = curves(accuracy, "plain-20", "-")
    assert list(mean.get_ydata()) == list(curves(alone.figure.axes[0], "plain-20", "-")[0].get_ydata())
    assert [list(line.get_xdata()) for line in single] == [[1, 2]] * 3
    marked = ("_incomplete", "_diverged", "_running")
    ends = {line.get_label(): line for line in accuracy.lines if line.get_label() in marked}
    assert len({line.get_marker() for line in ends.values()}) == 3
    assert {line.get_xdata()[0] for line in ends.values()} == {2}
    assert {line.get_ydata()[0] for line in ends.values()} == {line.get_ydata()[-1] for line in single}
    texts = [text.get_text() for text in drawn.figure.legends[0].get_texts() if text.get_text().strip()]
    assert texts[0] == "plain-20"
    assert {"still training", "interrupted", "diverged"} < set(texts)


def test_curves_can_be_drawn_of_a_single_unfinished_run(make_run, tmp_path):
    make_run(tmp_path / "half", status="incomplete")
    drawn = draw_one(load_study([tmp_path], with_metrics=True), "curves")
    assert (drawn.name, drawn.networks, drawn.n_runs) == ("curves", ["resnet-20"], 1)


def test_a_run_without_an_epoch_has_no_curves(make_run, tmp_path):
    metrics = make_run(tmp_path / "new", status="incomplete").metrics_path
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    with pytest.raises(InputError, match="no run has recorded an epoch"):
        figures.draw(load_study([tmp_path], with_metrics=True), ["curves"])
