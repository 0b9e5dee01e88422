"""The results of a study: a table with verdicts, figures and a report."""

import pytest

from resnet_cli.errors import InputError
from resnet_cli.study import write_results


def test_the_results_of_a_study_are_a_table_with_verdicts_figures_and_a_report(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # these files need not survive a power failure
    for arch in ("plain", "resnet"):
        run = make_run(tmp_path / "runs" / arch, arch=arch, recipe="demo", dataset="digits")
        run.record_path.write_text(run.record_path.read_text().replace('"class 3"', '"猫"'))
    make_run(tmp_path / "elsewhere", arch="resnet", depth=56, recipe="demo", dataset="digits", predictions=False)
    with pytest.warns(UserWarning, match=r"confusion-20\.png: the font lacks characters"):
        results = write_results(tmp_path)
    assert results.table.read_text().startswith("### Results: digits (16×16), demo")
    assert "### Verdicts: digits (16×16), demo" in results.table.read_text()
    assert [row["network"] for row in results.document["networks"]] == ["plain-20", "resnet-20"]
    assert results.report.read_text().startswith("<!DOCTYPE html>")
    assert results.figures == [
        tmp_path / "figures" / f"{name}.png"
        for name in ("curves", "convergence-20", "accuracy-20", "confusion-20", "degradation")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in results.figures)
    assert [figure.kind for figure in results.skipped_figures] == ["gradients"]


def test_results_of_a_study_without_complete_runs_are_unusable_input(make_run, tmp_path):
    make_run(tmp_path / "runs" / "a", status="diverged")
    with pytest.raises(InputError, match="no complete run; found 1 diverged"):
        write_results(tmp_path)


def test_a_study_of_one_architecture_has_no_verdicts(make_run, tmp_path):
    make_run(tmp_path / "runs" / "a", depth=20)
    results = write_results(tmp_path)
    assert results.claims is None
    assert "Verdicts" not in results.table.read_text()
