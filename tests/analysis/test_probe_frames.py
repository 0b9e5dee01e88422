"""Stored probe rows of a study become one frame, without those of other weights."""

import pytest

from resnet_cli.analysis.frames import IDENTITY_COLUMNS, load_study
from resnet_cli.analysis.probe_frames import load_probes
from resnet_cli.measure import ProbeOptions, Subject, run_probe
from resnet_cli.rundir import Predictions


@pytest.fixture
def runs(make_run, tmp_path):
    """Two seeds of one network and a third network, measured with the probe calibration."""
    for seed in (0, 1):
        make_run(tmp_path / f"seed-{seed}", dataset="digits", depth=8, seed=seed)
    make_run(tmp_path / "plain", arch="plain", dataset="digits", depth=8)
    study = load_study([tmp_path])
    for run in study.runs:
        run_probe("calibration", [Subject("x", run.record.config, "last", run.dir)], ProbeOptions())
    return study.runs


def test_rows_of_all_runs_follow_their_identity_and_label(runs):
    frame = load_probes(runs, "calibration")
    assert [*frame.columns][: len(IDENTITY_COLUMNS) + 2] == [*IDENTITY_COLUMNS, "label", "which"]
    assert frame["label"].drop_duplicates().tolist() == ["plain-8, seed 0", "resnet-8, seed 0", "resnet-8, seed 1"]
    assert set(frame["which"]) == {"last"}
    assert {"gap_pct", "nll"} <= set(frame)
    assert load_probes(runs[:2], "calibration")["label"].drop_duplicates().tolist() == ["plain-8", "resnet-8"]


def test_a_probe_that_was_not_run_has_a_frame_without_rows(runs):
    assert load_probes(runs, "bn").empty
    assert load_probes(runs, "calibration", "best").empty
    assert "label" in load_probes([], "bn")


def test_rows_of_other_predictions_or_of_another_run_are_left_out_with_a_warning(runs, tmp_path):
    before = runs[0].dir.read_predictions()
    runs[0].dir.write_predictions(Predictions(labels=before.labels, logits=before.logits + 1))
    record = tmp_path / "seed-0" / "probes" / "calibration-last.json"
    record.write_text(record.read_text().replace(runs[1].record.run_id, "another"))
    (tmp_path / "seed-1" / "probes" / "calibration-last.csv").write_text("a\n1\n")
    warnings = []
    assert load_probes(runs, "calibration", warn=warnings.append).empty
    assert len(warnings) == 3
    assert "measured on other predictions" in warnings[0]
    assert "resnet probe calibration" in warnings[1]
    assert "SHA-256" in warnings[2]


def test_a_run_published_without_its_predictions_keeps_its_rows(runs):
    runs[0].dir.predictions_path.unlink()
    warnings = []
    assert not load_probes(runs[:1], "calibration", warn=warnings.append).empty
    assert warnings == []
