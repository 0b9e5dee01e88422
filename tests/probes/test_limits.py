"""Settings outside their limits are refused before anything is measured."""

import pytest

from resnet_cli.errors import UsageError
from resnet_cli.measure.probe import parse_settings
from resnet_cli.probes.registry import TITLES, load_probe
from resnet_cli.recipes import make_config


@pytest.mark.parametrize("name", TITLES)
def test_the_default_of_every_number_is_within_its_limits(name):
    probe = load_probe(name)
    numbers = {setting: value for setting, value in probe.settings.items() if not isinstance(value, str)}
    assert probe.limits.keys() == numbers.keys()
    assert all(low <= numbers[setting] <= high for setting, (low, high) in probe.limits.items())


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("landscape", "directions=-1"), ("landscape", "points=1"), ("landscape", "range=nan"),
        ("landscape", "range=0.0"), ("landscape", "lanczos_steps=1"), ("landscape", "hessian_images=0"),
        ("shattering", "lines=0"), ("shattering", "points=3"), ("shattering", "minibatches=1"),
        ("similarity", "features=17"), ("similarity", "features=0"), ("lesion", "repeats=0"), ("lesion", "swaps=-1"),
        ("lesion", "repeats=1000000000"), ("gradflow", "batches=0"), ("gradflow", "batch_size=0"),
        ("capacity", "blocks=0"), ("capacity", "finetune=-1"),
    ],
)  # fmt: skip
def test_a_setting_outside_its_limits_is_an_error_that_names_it(name, setting):
    with pytest.raises(UsageError, match=f"^set {setting}: the value must be .* between"):
        parse_settings(name, load_probe(name), (setting,))


def test_identity_blocks_beyond_the_deepest_network_are_an_error_that_names_the_setting():
    probe = load_probe("capacity")
    config = make_config("demo", arch="plain", depth=1202)
    with pytest.raises(UsageError, match="set blocks=1: plain-1202 would get 1208 layers, and 1202 is the most"):
        probe.units(config, {**probe.settings, "blocks": 1})
