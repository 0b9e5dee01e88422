"""Style of all figures: one style per network, readable text within the page, equal files for equal figures."""

import itertools
import subprocess
import sys
from xml.etree import ElementTree as ET

import matplotlib as mpl
import msgspec
import numpy as np
import pytest
from drawing import draw_one
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from resnet_cli.analysis import figures
from resnet_cli.analysis.figures.style import caption, house_style, legend, network_style, new_figure, save
from resnet_cli.analysis.frames import load_study
from resnet_cli.rundir import InitialWeights

DEPTHS = (8, 20, 32, 44, 56, 110, 1202)
# Machado et al. 2009, A physiologically-based model for simulation of color vision deficiency, severity 1.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.fixture
def study(tmp_path, make_run):
    """Plain and residual networks of 20 and 56 layers on the digits, two seeds, with everything recorded."""
    for arch, depth, seed in itertools.product(("plain", "resnet"), (20, 56), (0, 1)):
        path = tmp_path / "runs" / f"{arch}-{depth}-{seed}"
        make_run(path, arch=arch, depth=depth, seed=seed, recipe="demo", dataset="digits", epochs=4, gradflow=True)
    return load_study([tmp_path / "runs"], with_metrics=True)


def test_deeper_networks_are_darker_and_thicker():
    for arch in ("plain", "resnet"):
        styles = [network_style(f"{arch}-{depth}") for depth in DEPTHS]
        light = [sum(to_rgb(style.color)) for style in styles]
        assert light == sorted(light, reverse=True)
        widths = [style.line_width for style in styles]
        assert widths == sorted(widths)
        assert len(set(widths)) == len(widths)


def test_the_depths_of_he_et_al_have_different_markers():
    assert len({network_style(f"plain-{depth}").marker for depth in (20, 32, 44, 56, 110, 1202)}) == 6


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_plain_and_residual_networks_have_distinct_colours_for_colour_blind_readers(depth, blindness):
    names = (f"plain-{depth}", f"resnet-{depth}", f"resnet-{depth}-B")
    seen = [np.asarray(BLINDNESS[blindness]) @ np.square(to_rgb(network_style(name).color)) for name in names]
    assert np.abs(seen[0] - seen[1]).max() > 0.05
    assert np.abs(seen[0] - seen[2]).max() > 0.05


@pytest.mark.parametrize("kind", figures.KINDS)
def test_text_has_7_points_or_more_inside_the_figure_and_the_legend_covers_no_panel(study, kind):
    figure = figures.draw(study, [kind])[0][-1].figure
    assert figure.get_figwidth() in (3.35, 6.9)
    with house_style():
        figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    shown = [text for text in texts if text not in hidden_tick_labels(figure)]
    assert len(shown) > 10
    for text in shown:
        assert text.get_fontsize() >= 7
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for legend_ in figure.legends:
        assert all(legend_.get_window_extent().y0 >= axes.get_window_extent().y1 for axes in figure.axes)


def hidden_tick_labels(figure):
    """Labels of ticks that lie outside their axis."""
    hidden = []
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            hidden += [tick.label1 for tick in ticks if not min(low, high) <= tick.get_loc() <= max(low, high)]
            hidden += [tick.label2 for tick in ticks]
    return hidden


@pytest.mark.parametrize("num_depths", [1, 2, 4, 7])
def test_a_legend_of_any_size_fits_the_width_and_names_every_network_once(num_depths):
    networks = [f"{arch}-{depth}" for arch in ("plain", "resnet") for depth in DEPTHS[:num_depths]]
    keys = [("test", {}), ("training", {"linestyle": "--"}), ("clean training", {"linestyle": "none"})]
    with house_style():
        figure, _ = new_figure(1, 1, 2.5)
        legend(figure, networks, keys, with_markers=True)
        figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= 3.35 * figure.dpi
    named = [text.get_text() for text in figure.legends[0].get_texts() if text.get_text().strip()]
    assert sorted(named) == sorted([*networks, "test", "training", "clean training"])


def test_a_long_caption_makes_the_figure_taller(tmp_path, make_run):
    for arch in ("plain", "resnet"):
        make_run(tmp_path / "short" / arch, arch=arch, predictions=False)
        make_run(tmp_path / "long" / arch, arch=arch, predictions=False, lr=0.05, momentum=0.8, weight_decay=5e-4)
    heights, lines = [], []
    for name in ("short", "long"):
        drawn = draw_one(load_study([tmp_path / name]), "fig2")
        heights.append(drawn.figure.get_figheight())
        lines.append(drawn.figure.get_supxlabel().splitlines())
    assert heights[1] > heights[0]
    assert lines[0][0].startswith("CIFAR-10, report2025 recipe; 1 seed each")
    assert "weight decay 0.0005" in " ".join(lines[1])


def test_the_caption_of_four_seeds_explains_line_and_band(tmp_path, make_run):
    for arch, seed in itertools.product(("plain", "resnet"), range(4)):
        make_run(tmp_path / f"{arch}{seed}", arch=arch, seed=seed, predictions=False)
    text = " ".join(draw_one(load_study([tmp_path]), "fig1").figure.get_supxlabel().split())
    assert text.endswith(
        "4 seeds each; thick lines: means over seeds, thin lines: single seeds, shaded: 95 % Student-t intervals"
    )
    (tmp_path / "plain0" / "summary.json").unlink()
    text = " ".join(draw_one(load_study([tmp_path]), "fig1").figure.get_supxlabel().split())
    assert text.endswith("shaded: 95 % Student-t intervals; single seeds only if fewer than 4")


@pytest.mark.parametrize("width", [3.35, 6.9])
def test_every_line_of_a_caption_fits_the_width_of_the_figure_and_is_filled(width):
    with house_style():
        figure, _ = new_figure(1, 1 if width < 4 else 2, 2.5)
        caption(figure, " ".join(["Wide words, narrow ill-lit ones and 95 % of MOST"] * 6))
        assert figure.get_figwidth() == width
        figure.draw_without_rendering()
        box = figure._supxlabel.get_window_extent()  # matplotlib offers no other way to it
    assert 0.9 * width < box.width / figure.dpi <= width


def test_networks_of_the_report_differ_in_grey():
    names = ("plain-20", "plain-56", "resnet-20", "resnet-56")
    luminance = [np.square(to_rgb(network_style(name).color)) @ [0.2126, 0.7152, 0.0722] for name in names]
    lightness = np.cbrt(luminance)  # as the eye sees it; CIE 1976 without its linear part
    assert -np.diff(lightness).max() > 0.05


def test_the_caption_names_dataset_recipe_seeds_and_lines(study, tmp_path):
    figure = draw_one(study, "fig2").figure
    text = " ".join(figure.get_supxlabel().split())
    assert text == "digits (16×16), demo recipe; 2 seeds each; one line per seed"
    some = [run.dir.path for run in study.runs if (run.network, run.seed) != ("plain-56", 1)]
    figure = draw_one(load_study(some), "fig2").figure
    assert "1 to 2 seeds each" in " ".join(figure.get_supxlabel().split())


def test_the_caption_of_runs_from_given_weights_names_their_hash(tmp_path, make_run):
    for arch in ("plain", "resnet"):
        run = make_run(tmp_path / arch, arch=arch, predictions=False)
        start = InitialWeights(path="resnet.th", sha256="5a" * 32, copy_sha256="6" * 64)
        record = msgspec.structs.replace(run.read_record(), init_from=start)
        run.record_path.write_bytes(msgspec.json.encode(record))
    text = " ".join(draw_one(load_study([tmp_path]), "fig2").figure.get_supxlabel().split())
    assert text.startswith("CIFAR-10, report2025 recipe, from the weights 5a5a5a5a; 1 seed each")


def test_the_caption_of_a_single_seed_mentions_no_lines_of_seeds(study):
    figure = draw_one(load_study([run.dir.path for run in study.runs if run.seed == 0]), "fig2").figure
    assert " ".join(figure.get_supxlabel().split()) == "digits (16×16), demo recipe; 1 seed each"


@pytest.mark.parametrize(("kind", "suffix"), [("fig4", "png"), ("fig2", "svg"), ("fig4", "svg"), ("fig2", "pdf")])
def test_equal_runs_give_files_with_equal_bytes_whatever_the_settings_of_matplotlib(study, tmp_path, kind, suffix):
    contents = []
    for width in (1.0, 7.0):
        with mpl.rc_context({"lines.linewidth": width, "axes.facecolor": "red", "font.size": 4 * width}):
            figure = draw_one(study, kind).figure
            save(figure, tmp_path / f"{width}.{suffix}")
        contents.append((tmp_path / f"{width}.{suffix}").read_bytes())
    assert contents[0] == contents[1]
    assert len(contents[0]) > 5_000


def test_png_files_have_300_dots_per_inch_and_svg_files_keep_text_as_text(study, tmp_path):
    from PIL import Image

    figure = draw_one(study, "fig2").figure
    save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == round(3.35 * 300)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    save(figure, tmp_path / "a.svg")
    root = ET.fromstring((tmp_path / "a.svg").read_bytes())  # noqa: S314  # our own file
    texts = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"plain-56", "resnet-56", "test accuracy (%)", "epoch"} <= texts


def test_drawing_does_not_change_the_settings_of_matplotlib(study):
    before = dict(mpl.rcParams)
    figures.draw(study, ["fig2"])
    assert dict(mpl.rcParams) == before


def test_importing_the_figures_loads_no_library_and_only_confusion_matrices_need_seaborn(study):
    paths = [str(run.dir.path) for run in study.runs]
    code = f"""
import sys
from resnet_cli.analysis import figures
assert not {{"pandas", "matplotlib", "numpy", "scipy"}} & set(sys.modules), "the registry is heavy"
from resnet_cli.analysis.frames import load_study
assert len(figures.draw(load_study({paths!r}), ["fig1", "degradation"])[0]) == 2
assert not {{"torch", "matplotlib.pyplot", "seaborn", "scipy.stats"}} & set(sys.modules), "drawing is heavy"
assert len(figures.draw(load_study({paths!r}), ["fig4"])[0]) == 1
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
