"""Probes are listed without torch, and use the same images of a dataset everywhere."""

import subprocess
import sys

import pytest
import torch

from resnet_cli.errors import UsageError
from resnet_cli.probes.base import choose_images
from resnet_cli.probes.registry import TITLES, check_name, load_probe


def test_the_chosen_images_have_every_class_in_proportion_and_depend_on_nothing_else(network_of):
    train = network_of("plain").train
    chosen = choose_images(train, 40)
    shares, counts = (torch.bincount(images.labels, minlength=10) / len(images) for images in (train, chosen))
    assert len(chosen) == 40
    assert (shares - counts).abs().max() <= 1 / 40
    again = choose_images(network_of("resnet").train, 40)
    assert torch.equal(chosen.pixels, again.pixels)


@pytest.mark.parametrize("count", [None, 120, 10_000])
def test_all_images_are_chosen_if_there_are_no_more(network_of, count):
    train = network_of().train
    assert choose_images(train, count) is train


def test_every_name_is_that_of_a_probe_and_others_are_refused_with_the_list():
    for name in ("bn", "calibration", "capacity"):
        assert load_probe(name).reference
    check_name("all")
    with pytest.raises(
        UsageError, match=r"NAME must be a probe \(got 'magic'\); choose gradflow, bn, responses, .* or all"
    ):
        load_probe("magic")


def test_listing_probes_and_measuring_stored_predictions_import_no_torch():
    code = (
        "import sys; from resnet_cli.probes.registry import load_probe; import resnet_cli.measure\n"
        "import resnet_cli.cli.probe; load_probe('calibration'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(TITLES) == 10
