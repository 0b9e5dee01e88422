"""Limits of the settings of a probe."""

from collections.abc import Mapping

from resnet_cli.errors import UsageError
from resnet_cli.probes.base import Settings

Limits = Mapping[str, tuple[float, float]]
"""Smallest and largest value of each numeric setting."""


def check_settings(settings: Settings, limits: Limits) -> None:
    """Raise `UsageError` for the first setting whose value lies outside its limits (NaN always does)."""
    for name, (low, high) in limits.items():
        if not low <= float(settings[name]) <= high:
            raise UsageError(f"--set {name}={settings[name]}: must be between {low:,g} and {high:,g}")
