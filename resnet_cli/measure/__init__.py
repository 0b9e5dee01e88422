"""Measurements on the networks of runs and weight files, and on newly initialised networks."""

from resnet_cli.measure.gradients import check_identity
from resnet_cli.measure.probe import ProbeOptions, ProbeResult, run_probe
from resnet_cli.measure.subjects import Subject, fresh_subjects, saved_subjects
from resnet_cli.probes.base import Which

__all__ = [
    "ProbeOptions", "ProbeResult", "Subject", "Which", "check_identity", "fresh_subjects",
    "run_probe", "saved_subjects",
]  # fmt: skip
