"""Run directories with stored rows of probes."""

import pytest

from resnet_cli.rundir.probe_files import ProbeFiles, ProbeKey, rows_to_csv


@pytest.fixture
def add_probe():
    """A function that stores rows of a probe in a run directory, as measured on its last weights."""

    def add(run, name, rows, *, which="last", run_id=None, images=None, settings=None):
        record = run.read_record()
        key = ProbeKey(
            probe=name, which=which, run_id=run_id or record.run_id, dataset_fingerprint=record.dataset.fingerprint,
            source="weights", source_sha256=None, images=images, batch_size=100, seed=0, settings=settings or {},
            tool_version="0.1.0",
        )  # fmt: skip
        files = ProbeFiles(run, name, which)
        files.write(key, rows_to_csv(rows), device="cpu", seconds=1.0, measured_at="2026-01-02T03:04:05Z")
        return files

    return add


@pytest.fixture
def add_bn(add_probe):
    """A function that stores a clean training error with re-estimated statistics."""

    def add(run, error_pct, **options):
        rows = [
            {"statistics": statistics, "split": "train", "loss": 0.1, "error_pct": error_pct, "num_images": 1437}
            for statistics in ("running", "re-estimated")
        ]
        return add_probe(run, "bn", rows, **options)

    return add
