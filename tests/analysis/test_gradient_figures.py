"""Figures of gradient flow, and the profiles in them."""

import numpy as np
import pandas as pd
import pytest
from drawing import draw_one
from gradient_rows import gradient_rows
from matplotlib.colors import to_hex
from scipy import stats

from resnet_cli.analysis.figures.gradients import measured_gradients
from resnet_cli.analysis.figures.style import house_style, network_style, ramp
from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.gradient_profiles import recorded_profiles, scale_free_norms, spread
from resnet_cli.errors import InputError
from resnet_cli.rundir import RunDir


@pytest.fixture
def make_study(tmp_path, make_run, monkeypatch):
    """Builder of a study of plain and residual networks whose gradflow.csv contains the given rows."""

    def build(rows_of, *, archs=("plain", "resnet"), depth=20, seeds=1):
        for arch in archs:
            for seed in range(seeds):
                path = tmp_path / f"{arch}-{depth}-{seed}"
                make_run(path, arch=arch, depth=depth, seed=seed, predictions=False)

        def read(self, *_):
            arch, _, seed = self.path.name.split("-")
            return rows_of(arch, int(seed))

        monkeypatch.setattr(RunDir, "read_gradflow", read)
        return load_study([tmp_path], with_metrics=True)

    return build


def profiles_of(axes):
    """The lines of a panel, without vertical rules."""
    return [line for line in axes.lines if line.get_label() != "_rule"]


def rules(axes):
    """Positions of the vertical rules of a panel."""
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_label() == "_rule"]


def test_the_norm_of_a_layer_does_not_depend_on_the_scale_of_its_weights():
    small, large = (scale_free_norms(gradient_rows(20, [1], weight_norm=norm)) for norm in (0.5, 500.0))
    assert small["norm"].to_numpy() == pytest.approx(large["norm"].to_numpy())


def test_zero_infinite_and_missing_norms_are_not_drawn():
    rows = gradient_rows(8, [0])
    rows.loc[:2, "grad_norm"] = [0.0, np.inf, np.nan]
    layers = scale_free_norms(rows).query("measure == 'layer'")
    assert layers["layer_index"].tolist() == [4, 5, 6, 7, 8]


def test_epochs_are_thinned_evenly_with_the_first_and_the_last_one():
    assert spread(list(range(0, 101, 10)), 6) == [0, 20, 40, 60, 80, 100]
    assert spread([0, 1], 5) == [0, 1]
    profiles = recorded_profiles(gradient_rows(8, range(31)).assign(network="plain-8", seed=0, path="a"))
    assert sorted(profiles["epoch"].unique()) == [0, 6, 12, 18, 24, 30]


def test_four_seeds_have_a_geometric_mean_and_an_interval_in_the_last_epoch_only():
    scales = [1.0, 2.0, 4.0, 8.0]
    rows = pd.concat(
        gradient_rows(8, [0, 5], scale=scale).assign(network="plain-8", seed=scale, path=str(scale)) for scale in scales
    )
    profiles = recorded_profiles(rows)
    last = profiles[(profiles["epoch"] == 5) & (profiles["measure"] == "layer")].sort_values("layer_index")
    assert last["norm"].to_numpy() == pytest.approx(64**0.25 * np.arange(1, 9))
    low, high = np.exp(stats.t.interval(0.95, 3, np.log(scales).mean(), stats.sem(np.log(scales))))
    assert last["low"].to_numpy() == pytest.approx(low * np.arange(1, 9))
    assert last["high"].to_numpy() == pytest.approx(high * np.arange(1, 9))
    assert profiles[profiles["epoch"] == 0]["low"].isna().all()


def test_three_seeds_are_drawn_as_one_profile_each():
    rows = pd.concat(
        gradient_rows(8, [3], scale=s).assign(network="plain-8", seed=s, path=str(s)) for s in (1.0, 2.0, 3.0)
    )
    layers = recorded_profiles(rows).query("measure == 'layer' and layer_index == 2")
    assert sorted(layers["norm"]) == [2.0, 4.0, 6.0]


def test_panels_show_layers_above_and_blocks_below_for_each_network(make_study):
    study = make_study(lambda arch, _: gradient_rows(20, [0, 4], scale=1.0 if arch == "plain" else 3.0))
    drawn = draw_one(study, "gradients")
    assert (drawn.name, drawn.networks) == ("gradients-20", ["plain-20", "resnet-20"])
    panels = drawn.figure.axes[:4]
    assert [axes.get_title("left") for axes in panels] == ["plain-20", "resnet-20", "", ""]
    assert [axes.get_ylabel() for axes in panels] == ["‖W‖·‖∂L/∂W‖ of each layer", "", "‖∂L/∂x‖ at each block", ""]
    assert all(axes.get_yscale() == "log" for axes in panels)
    layers, blocks = panels[1], panels[3]
    values = {x: y for line in profiles_of(layers) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert values == pytest.approx({layer: 3.0 * layer for layer in range(1, 21)})
    values = {x: y for line in profiles_of(blocks) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert values == pytest.approx({layer: 3.0 / layer for layer in range(2, 20, 2)})


def test_profiles_are_interrupted_at_the_marked_stage_boundaries(make_study):
    study = make_study(lambda *_: gradient_rows(20, [4]), archs=("resnet",))
    axes = draw_one(study, "gradients").figure.axes[0]
    assert rules(axes) == [1.5, 7.5, 13.5, 19.5]
    assert [text.get_text() for text in axes.texts] == ["stage 1", "stage 2", "stage 3"]
    ranges = [(line.get_xdata()[0], line.get_xdata()[-1]) for line in profiles_of(axes)]
    assert ranges == [(1, 1), (2, 7), (8, 13), (14, 19), (20, 20)]


def test_epochs_are_a_ramp_of_colours_with_a_scale(make_study):
    study = make_study(lambda *_: gradient_rows(20, [0, 2, 4]), archs=("resnet",))
    figure = draw_one(study, "gradients").figure
    *_, scale = figure.axes
    assert (scale.get_ylabel(), scale.get_yticks().tolist()) == ("epoch", [0, 2, 4])
    colors = list(dict.fromkeys(to_hex(line.get_color()) for line in profiles_of(figure.axes[0])))
    assert colors == [to_hex(ramp()(share)) for share in (0.0, 0.5, 1.0)]


def test_the_ramp_is_darker_for_every_later_epoch():
    light = ramp()(np.linspace(0, 1, 20))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) < 0).all()


def test_runs_without_gradients_at_blocks_have_one_row_of_panels(make_study):
    study = make_study(lambda *_: gradient_rows(20, [1]).drop(columns="input_grad_norm"))
    figure = draw_one(study, "gradients").figure
    assert [axes.get_ylabel() for axes in figure.axes] == ["‖W‖·‖∂L/∂W‖ of each layer", "", "epoch"]


def test_gradients_that_are_all_zero_are_an_error(make_study):
    study = make_study(lambda *_: gradient_rows(20, [1], scale=0.0))
    with pytest.raises(InputError, match="all recorded gradient norms are zero or not finite"):
        draw_one(study, "gradients")


def test_measured_gradients_have_one_line_per_label_with_dashes_for_runs_of_one_network():
    labels = (("a$1$", "plain-8", 1.0), ("b", "plain-8", 2.0), ("c", "resnet-8", 3.0))
    frame = pd.concat(
        gradient_rows(8, [0], scale=scale).assign(label=label, network=network, which="last", dataset="digits", seed=0)
        for label, network, scale in labels
    )
    figure = measured_gradients(frame)
    layers, blocks = figure.axes
    lines = {line.get_label(): line for line in layers.lines if line.get_label() in ("a$1$", "b", "c")}
    assert {label: list(line.get_ydata()) for label, line in lines.items()} == {
        "a$1$": [2, 3], "b": [4, 6], "c": [6, 9],
    }  # fmt: skip
    assert [line.get_ydata()[0] for line in profiles_of(blocks) if line.get_xdata()[0] == 2] == [0.5, 1.0, 1.5]
    styles = {name: (to_hex(line.get_color()), line.get_linestyle()) for name, line in lines.items()}
    plain, residual = network_style("plain-8").color, network_style("resnet-8").color
    assert styles == {"a$1$": (plain, "-"), "b": (plain, "--"), "c": (residual, "-")}
    with house_style():
        figure.draw_without_rendering()  # fails for invalid mathematics
    entries = figure.legends[0].get_texts()
    assert [(entry.get_text(), entry.get_parse_math()) for entry in entries] == [
        ("a$1$", False), ("b", False), ("c", False),
    ]  # fmt: skip


def test_measured_gradients_of_several_seeds_are_their_geometric_mean_with_an_interval():
    frame = pd.concat(
        gradient_rows(8, [0], scale=2.0**seed).assign(
            label="plain-8", network="plain-8", which="init", dataset="digits", seed=seed
        )
        for seed in range(5)
    )
    layers, _ = measured_gradients(frame).axes
    (line,) = [line for line in layers.lines if line.get_label() == "plain-8"]
    assert list(line.get_ydata()) == pytest.approx([8.0, 12.0])
    assert len(layers.collections) == 5  # bands of the first layer, three stages and the last layer
