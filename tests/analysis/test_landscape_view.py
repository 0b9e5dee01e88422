"""Table and figure of the landscape show the measured losses and eigenvalues."""

import itertools

import numpy as np
import pandas as pd
import pytest

from resnet_cli.analysis.figures.probes.landscape import draw, table

GRID = (-1.0, -0.5, 0.0, 0.5, 1.0)


def rows_of(label, network, curvature, residual=0.01):
    """Parabolas in two directions: loss 0.5 + curvature α², and 2 more where α = 1 in the second direction."""
    slices = [
        {"part": "slice", "direction": number, "alpha": alpha,
         "loss": 0.5 + curvature * alpha**2 + 2 * (number == 2 and alpha == 1)}
        for number in (1, 2) for alpha in GRID
    ]  # fmt: skip
    plane = [
        {"part": "plane", "alpha": a, "beta": b, "loss": 0.5 + curvature * (a**2 + b**2)} for a in GRID for b in GRID
    ]
    ends = [
        {"part": "eigenvalue", "matrix": matrix, "end": end, "eigenvalue": value * curvature, "residual": residual}
        for matrix, end, value in (
            ("DHD", "largest", 8.0), ("DHD", "smallest", -1.0), ("H", "largest", 4.0), ("H", "smallest", -0.5),
        )
    ]  # fmt: skip
    return pd.DataFrame([*slices, *plane, *ends]).assign(label=label, network=network)


@pytest.fixture
def frame():
    return pd.concat(
        [rows_of("first", "plain-20", 2.0), rows_of("second", "plain-20", 4.0), rows_of("third", "resnet-20", 1.0)],
        ignore_index=True,
    )


def test_the_table_has_losses_by_distance_and_all_eigenvalues(frame):
    summary = table(frame)
    assert summary.columns[:4] == ["network", "loss at α=0", "loss at α=±0.5", "loss at α=±1"]
    # at ±1: four values, one of them 2 higher
    assert summary.rows[0] == ["first", 0.5, 1.0, 3.0, 16.0, -2.0, 8.0, -1.0]
    assert [row[0] for row in summary.rows] == ["first", "second", "third"]


def test_losses_are_shown_at_distances_that_were_measured(frame):
    coarse = frame[frame["alpha"].abs() != 0.5]
    assert table(coarse).columns[:3] == ["network", "loss at α=0", "loss at α=±1"]


def test_the_table_names_eigenvalues_that_have_not_converged(frame):
    assert not any("converged" in note for note in table(frame).notes)
    frame = rows_of("one", "plain-20", 1.0, residual=0.2)
    assert any("small): smallest of DHD, smallest of H;" in note for note in table(frame).notes)


def test_the_figure_has_a_slice_per_network_and_a_plane_of_its_first_run(frame):
    *planes, _, slices, eigenvalues = draw(frame).axes
    plain, residual = slices.lines
    np.testing.assert_allclose(plain.get_ydata(), np.mean([[2.5, 1, 0.5, 1, 3.5], [4.5, 1.5, 0.5, 1.5, 5.5]], axis=0))
    np.testing.assert_allclose(residual.get_ydata(), [1.5, 0.75, 0.5, 0.75, 2.5])
    assert [text.get_text() for text in eigenvalues.get_yticklabels()] == ["plain-20", "resnet-20"]
    assert sorted(eigenvalues.lines[0].get_xdata()) == [-4, -2, 16, 32]
    assert [axes.get_title(loc="left") for axes in planes] == ["first", "third"]


def test_the_colour_bar_is_labelled_with_plain_numbers_that_do_not_overlap(frame):
    figure = draw(frame)
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[-3].get_xticklabels(which="both") if text.get_text()]
    assert len(labels) >= 2
    assert all(float(label.get_text()) > 0 for label in labels)
    boxes = [label.get_window_extent() for label in labels]
    assert not any(left.x1 > right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize(("scale", "linear"), [(1e4, 1000.0), (5.0, 1.0), (0.5, 0.1), (0.001, 0.1), (0.0, 0.1)])
def test_the_axis_of_eigenvalues_is_logarithmic_from_the_smallest_one_and_its_labels_do_not_overlap(
    frame, scale, linear
):
    is_eigenvalue = frame["part"] == "eigenvalue"
    frame.loc[is_eigenvalue, "eigenvalue"] *= scale
    frame.loc[is_eigenvalue & (frame["end"] == "largest"), "eigenvalue"] *= 200
    frame.loc[is_eigenvalue & (frame["end"] == "smallest") & (frame["matrix"] == "DHD"), "eigenvalue"] *= 20
    figure = draw(frame)
    figure.draw_without_rendering()
    axis = figure.axes[-1].xaxis
    assert axis.get_transform().linthresh == linear
    shown = axis.get_view_interval()
    ticks = sorted(axis.get_major_ticks(), key=lambda tick: tick.get_loc())
    boxes = [tick.label1.get_window_extent() for tick in ticks if shown[0] <= tick.get_loc() <= shown[1]]
    assert len(boxes) >= 3 or not scale
    assert not any(left.x1 > right.x0 for left, right in itertools.pairwise(boxes))


def test_the_panels_are_lettered_from_the_top_left(frame):
    letters = {axes.get_title(loc="center"): axes.get_position() for axes in draw(frame).axes}
    letters.pop("")  # the colour bar
    assert sorted(letters) == list("abcdef"[: len(letters)])
    assert letters["a"].y0 > letters["c"].y0
    assert letters["a"].x0 < letters["b"].x0


@pytest.mark.parametrize("eigenvalue", [1.0, np.nan, np.inf])
def test_a_single_network_a_loss_of_zero_and_eigenvalues_that_are_not_finite_can_be_drawn(eigenvalue):
    frame = rows_of("one", "resnet-20", 1.0)
    frame["loss"] = (frame["loss"] - 0.5).clip(lower=0)
    frame["eigenvalue"] *= eigenvalue
    assert len(draw(frame).axes) == 4  # with the colour bar
