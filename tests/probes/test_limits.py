"""Settings outside their limits are refused before anything is measured."""

import math

import pytest

from resnet_cli.errors import UsageError
from resnet_cli.probes.registry import load_probe
from resnet_cli.recipes import make_config


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("landscape", "directions", -1), ("landscape", "points", 1), ("landscape", "range", math.nan),
        ("landscape", "range", 0.0), ("landscape", "lanczos_steps", 1), ("landscape", "hessian_images", 0),
        ("shattering", "lines", 0), ("shattering", "points", 3), ("shattering", "minibatches", 1),
        ("similarity", "features", 17), ("similarity", "features", 0),
    ],
)  # fmt: skip
def test_a_setting_outside_its_limits_is_an_error_that_names_it(name, setting, value):
    probe = load_probe(name)
    config = make_config("demo", arch="plain", depth=8)
    assert probe.units(config, probe.settings)
    with pytest.raises(UsageError, match=f"^set {setting}={value}: must be between"):
        probe.units(config, {**probe.settings, setting: value})
