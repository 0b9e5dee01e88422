"""Measurements on the networks of runs and weight files, and on newly initialised networks."""

from resnet_cli.measure.gradients import measure
from resnet_cli.measure.probe import NotApplicableError, ProbeOptions, ProbeResult, run_probe
from resnet_cli.measure.subjects import Subject, fresh_subjects, run_subjects, saved_subjects
from resnet_cli.probes.base import Which

__all__ = [
    "NotApplicableError", "ProbeOptions", "ProbeResult", "Subject", "Which", "fresh_subjects", "measure", "run_probe",
    "run_subjects", "saved_subjects",
]  # fmt: skip
