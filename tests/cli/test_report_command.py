"""`resnet report`: the file, the document and error messages."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from resnet_cli.cli.app import run


@pytest.fixture
def runs(make_run, tmp_path, monkeypatch):
    """A folder with one run, inside the current folder."""
    monkeypatch.chdir(tmp_path)
    make_run("runs/one", depth=8, predictions=False)
    return "runs"


def test_the_report_is_written_to_report_html_by_default(runs, tmp_path, capsys):
    assert run(["report", runs]) == 0
    assert capsys.readouterr() == ("report.html\n", "")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_json_is_one_document_with_path_sections_and_figures(runs, make_run, capsys):
    make_run("runs/half", depth=14, status="incomplete")
    assert run(["report", runs, "-o", "page.html", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["schema_version"] == 1
    assert document["path"] == "page.html"
    assert document["sections"][0] == {"anchor": "summary", "title": "Summary"}
    assert document["figures"][0]["number"] == 1
    assert {"name", "kind", "group", "reason"} == set(document["skipped_figures"][0])
    assert [skipped["path"] for skipped in document["skipped_runs"]] == ["runs/half"]
    assert err == ""


def test_unreadable_runs_are_warned_about_and_listed(runs, tmp_path, capsys):
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text("{")
    assert run(["report", runs, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == "report.html\n"
    assert err.startswith("warning: skipped runs/bad (unreadable): run.json cannot be read")
    assert "runs/bad" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("there", "error: --out there is a folder; name a file in it: --out there/report.html"),
        ("no/report.html", "error: --out no/report.html: folder no does not exist; create it first"),
        (
            "mine.html",
            "error: --out mine.html exists and is not a report of this tool; name another file, or delete it",
        ),
    ],
)
def test_a_target_that_cannot_be_written_is_named_before_runs_are_read(out, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "mine.html").write_text("mine")
    assert run(["report", "not-there", "--out", out]) == 2
    assert capsys.readouterr() == ("", f"{message}\n")
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_without_a_complete_run_the_error_says_what_was_found(make_run, tmp_path, capsys):
    make_run(tmp_path / "half", depth=8, status="incomplete")
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no complete run; found 1 incomplete; ")
    assert not (tmp_path / "report.html").exists()


def test_a_report_that_goes_to_a_pipe_leaves_stdout_empty(runs, tmp_path, capsys):
    os.mkfifo("pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        assert run(["report", runs, "--out", "pipe"]) == 0
        assert read.result().rstrip().endswith("</html>")
    assert capsys.readouterr() == ("", "")
