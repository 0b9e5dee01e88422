"""Figures become images that a page can contain."""

import base64

import numpy as np
import pytest

from resnet_cli.analysis.figures.style import caption, new_figure
from resnet_cli.analysis.report.pictures import Pictures


def drawing(picture):
    return base64.b64decode(picture.source.partition(",")[2]).decode()


def test_the_caption_moves_to_the_page_and_the_space_for_it_is_removed():
    figure, _ = new_figure(1, 1, 2.0)
    caption(figure, "every second word of this caption is needed to fill three lines:" + 40 * " word")
    assert figure.get_figheight() > 2.2
    picture = Pictures().picture(figure, "Title.", "a remark", "")
    assert figure.get_figheight() == pytest.approx(2.0)
    assert picture.caption.startswith("Every second word of this caption")
    assert picture.caption.endswith("word word. A remark.")
    assert "second word" not in drawing(picture)
    assert picture.width == "column"


def test_figures_are_numbered_in_the_order_in_which_they_are_added():
    pictures = Pictures()
    assert [pictures.picture(new_figure(1, 2, 2.0)[0], "Title.").number for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(("size", "is_drawn_as_pixels"), [(10, False), (100, True)])
def test_a_large_matrix_is_drawn_as_pixels(size, is_drawn_as_pixels):
    figure, (axes,) = new_figure(1, 1, 2.0)
    axes.pcolormesh(np.arange(size**2).reshape(size, size))
    text = drawing(Pictures().picture(figure, "Title."))
    assert ("<image" in text) is is_drawn_as_pixels
    assert len(text) < 100_000


def test_text_stays_text_in_the_typeface_of_the_page():
    figure, (axes,) = new_figure(1, 1, 2.0)
    axes.set_title("<b> & \u6f22")
    text = drawing(Pictures().picture(figure, "Title."))
    assert "&lt;b&gt; &amp; \u6f22</text>" in text
    assert "font-family: system-ui" in text
    assert "DejaVu" not in text
