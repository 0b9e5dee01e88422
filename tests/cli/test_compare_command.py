"""`resnet compare` from the command line: formats, files, assertions and exit codes."""

import csv
import io
import json
import shlex
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.tables import NETWORK_COLUMNS, Column, Report, Table, layout, study_document
from resnet_cli.cli.app import run
from resnet_cli.cli.compare import HELP
from resnet_cli.cli.views import ReportView
from resnet_cli.errors import ExitCode

HOLDS = "resnet-56.test_accuracy_pct > plain-56.test_accuracy_pct"
FAILS = "plain-20.test_accuracy_pct > resnet-20.test_accuracy_pct + 1"


@pytest.fixture
def runs(make_run, tmp_path):
    """Two seeds of the four networks of the report, and a diverged run."""
    for arch, depth, accuracy in (
        ("plain", 20, 90.84), ("resnet", 20, 91.95), ("plain", 56, 86.71), ("resnet", 56, 93.25),
    ):  # fmt: skip
        for seed in range(2):
            path = tmp_path / "runs" / f"{arch}-{depth}-s{seed}"
            make_run(path, arch=arch, depth=depth, seed=seed, accuracy=accuracy - seed / 10, predictions=False)
    make_run(tmp_path / "runs" / "plain-110", arch="plain", depth=110, status="diverged")
    return str(tmp_path / "runs")


def _shown_at(width, report):
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(ReportView(report))
    return console.file.getvalue()


def test_compare_shows_results_published_values_and_excluded_runs(runs, capsys):
    assert run(["compare", runs]) == ExitCode.DONE
    out, err = capsys.readouterr()
    line = next(line for line in out.splitlines() if line.startswith("resnet-56 "))
    assert line.split() == [
        "resnet-56", "56", "0.85M", "2", "93.20", "±", "0.07", "93.30", "±", "0.07*", "93.25", "−0.05",
        *line.split()[12:15], "1", "min", "30", "s",
    ]  # fmt: skip
    assert "resnet-56 − plain-56" in out
    assert "20 → 56 layers" in out
    assert "plain-110" in out
    assert "the loss was not finite" in out
    assert err == ""


@pytest.mark.parametrize("format", ["table", "markdown", "latex"])
def test_seeds_are_shown_in_every_format_for_people(runs, format, capsys):
    assert run(["compare", runs, "--seeds-shown", "--format", format]) == ExitCode.DONE
    assert "93.25, 93.15" in capsys.readouterr().out


def test_notes_are_shown_below_the_tables(runs, make_run, tmp_path, capsys):
    make_run(tmp_path / "runs" / "other", depth=56, lr=0.05)
    assert run(["compare", runs]) == ExitCode.DONE
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "note: runs of 2 different datasets or settings are averaged separately"


def test_json_and_format_json_print_the_same_single_document(runs, capsys):
    options = ["--sort=-test_accuracy_pct", "--assert", HOLDS]
    assert run(["compare", runs, "--json", *options]) == ExitCode.DONE
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["schema_version"] == 1
    assert [row["network"] for row in document["networks"]] == ["resnet-56", "resnet-20", "plain-20", "plain-56"]
    assert [row["status"] for row in document["skipped"]] == ["diverged"]
    (assertion,) = document["assertions"]
    assert (assertion["assertion"], assertion["holds"]) == (HOLDS, True)
    assert (assertion["left"], assertion["right"]) == pytest.approx((93.2, 86.66))
    run(["compare", runs, "--format", "json", *options])
    assert capsys.readouterr().out == out


def test_compare_csv_on_stdout_contains_only_rows(runs, capsys):
    assert run(["compare", runs, "--format", "csv", "--assert", HOLDS]) == ExitCode.DONE
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert tuple(rows[0]) == NETWORK_COLUMNS
    assert len(rows) == 4
    assert "excluded runs: 1" in err
    assert f"holds: {HOLDS}" in err


@pytest.mark.parametrize(("format", "start"), [("markdown", "### Results: CIFAR-10"), ("latex", "% needs")])
def test_compare_prints_markdown_and_latex(runs, capsys, format, start):
    assert run(["compare", runs, "--format", format]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert out.startswith(start)
    assert err == ""


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("t.md", "### Results"), ("t.tex", "% needs"), ("t.csv", "arch,depth,"), ("t.json", "{\n"),
        ("t.txt", "Results: CIFAR-10"), ("T.MD", "### Results"),
    ],
)  # fmt: skip
def test_compare_out_writes_a_file_in_the_format_of_its_suffix(runs, tmp_path, capsys, name, start):
    assert run(["compare", runs, "--out", str(tmp_path / name)]) == ExitCode.DONE
    out, err = capsys.readouterr()
    text = (tmp_path / name).read_text()
    assert text.startswith(start)
    assert out == ""
    assert err.splitlines()[0] == f"wrote {tmp_path / name}"
    if name == "t.txt":
        assert "\x1b" not in text
        assert all(line == line.rstrip() and len(line) <= 120 for line in text.splitlines())


def test_compare_format_overrides_the_suffix_of_out(runs, tmp_path, capsys):
    assert run(["compare", runs, "--out", str(tmp_path / "t.txt"), "--format", "csv", "--quiet"]) == ExitCode.DONE
    assert (tmp_path / "t.txt").read_text().startswith("arch,depth,")
    assert capsys.readouterr().err == "warning: excluded runs: 1; --format table lists them with the reason\n"


def test_compare_out_with_json_writes_the_file_and_prints_the_document(runs, tmp_path, capsys):
    assert run(["compare", runs, "--json", "--out", str(tmp_path / "table")]) == ExitCode.DONE
    assert run(["compare", runs, "--json", "--out", str(tmp_path / "t.md"), "--quiet"]) == ExitCode.DONE
    assert json.loads((tmp_path / "table").read_text())["networks"]
    assert (tmp_path / "t.md").read_text().startswith("### Results")
    decoder = json.JSONDecoder()
    out = capsys.readouterr().out
    _, end = decoder.raw_decode(out)
    assert decoder.raw_decode(out[end:].lstrip())[0]["networks"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "nowhere/t.md"], "folder nowhere does not exist"),
        (["--out", "t.docx"], "unknown suffix of --out t.docx; use .md .tex"),
        (["--out", "runs"], "unknown suffix of --out runs"),
        (["--out", "runs", "--format", "csv"], "--out runs is a folder"),
        (["--json", "--format", "csv"], "--json and --format csv cannot be combined"),
        (["--sort=-accuracy"], "unknown column --sort=-accuracy; the closest columns are"),
        (["--assert", "resnet-56 > 1"], "--assert 'resnet-56 > 1': resnet is not a number, network.column"),
    ],
)
def test_compare_reports_wrong_options_before_it_reads_any_run(runs, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("resnet_cli.analysis.frames.load_study", lambda paths: pytest.fail("runs were read"))
    assert run(["compare", "runs", *options]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_the_outcome_of_every_assertion_follows_the_table_and_a_failure_exits_with_3(runs, capsys):
    assert run(["compare", runs, "--assert", HOLDS]) == ExitCode.DONE
    holds = f"holds: {HOLDS} (left 93.2, right 86.66)"
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == holds
    missing = "plain-20.val_error_pct > 0"
    arguments = ["compare", runs, "--assert", FAILS, "--assert", HOLDS, "--assert", missing]
    assert run(arguments) == ExitCode.CHECK_FAILED
    out, err = capsys.readouterr()
    assert out.rstrip().splitlines()[-3:] == [
        f"does not hold: {FAILS} (left 90.79, right 92.9)",
        holds,
        f"does not hold: {missing} (left no value, right 0: plain-20.val_error_pct was not measured)",
    ]
    assert err == f"error: 2 of 3 assertions do not hold: {FAILS} (left 90.79, right 92.9)\n"


def test_a_failing_assertion_exits_with_3_in_json_mode_too(runs, capsys):
    assert run(["compare", runs, "--json", "--assert", FAILS]) == ExitCode.CHECK_FAILED
    out, err = capsys.readouterr()
    assert json.loads(out)["assertions"][0]["holds"] is False
    assert "1 of 1 assertions does not hold" in err


def test_a_failing_assertion_does_not_prevent_writing_the_file(runs, tmp_path, capsys):
    assert run(["compare", runs, "--out", str(tmp_path / "t.md"), "--assert", FAILS]) == ExitCode.CHECK_FAILED
    assert (tmp_path / "t.md").exists()
    assert capsys.readouterr().out.startswith("does not hold")


def test_an_assertion_about_an_unknown_value_is_wrong_usage_and_nothing_is_printed(runs, capsys):
    assert run(["compare", runs, "--assert", "resnet-110.test_accuracy_pct > 1"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "no complete run of resnet-110" in err


def test_a_study_without_complete_runs_lists_them_and_exits_with_2(make_run, tmp_path, capsys):
    make_run(tmp_path / "a", status="incomplete")
    assert run(["compare", str(tmp_path)]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert "incomplete" in out
    assert err == "error: no complete run; found 1 incomplete; run the same resnet train command again to resume\n"
    assert run(["compare", str(tmp_path), "--json"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["skipped"][0]["status"] == "incomplete"
    assert run(["compare", str(tmp_path), "--format", "csv"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "no summary.json" in err


def test_compare_reports_a_missing_path_in_one_line(tmp_path, capsys):
    assert run(["compare", str(tmp_path / "nothing")]) == ExitCode.USAGE
    assert capsys.readouterr().err == f"error: {tmp_path / 'nothing'} does not exist\n"


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_compare_never_truncates_numbers_on_terminals_of_60_to_160_columns(runs, width):
    report = layout(study_document(load_study([runs])))
    text = _shown_at(width, report)
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text.replace("RUNS…", "")
    for cell in ("resnet-56 ", "93.20 ± 0.07", "resnet-56 − plain-56", "+6.54"):
        assert cell in text
    numbers = {line.split("  ")[0]: line for line in text.splitlines()}
    assert numbers["plain-20"].count("±") >= (1 if width < 80 else 3)


def test_a_narrow_terminal_hides_and_lists_the_least_important_columns(runs):
    report = layout(study_document(load_study([runs])))
    assert "Columns hidden at this width" not in _shown_at(160, report)
    text = " ".join(_shown_at(80, report).split())
    assert "Columns hidden at this width: layers, parameters, training time." in text


@pytest.mark.parametrize("width", [80, 160])
def test_columns_of_dashes_are_hidden_at_every_width(make_run, tmp_path, width):
    for arch in ("plain", "resnet"):
        make_run(tmp_path / arch, arch=arch, dataset="imagefolder")
    text = _shown_at(width, layout(study_document(load_study([tmp_path]))))
    assert "clean training" in " ".join(text.split())
    for header in ("published", "diff. pp", "95 % interval"):
        assert header not in text.partition("Published values")[0]


def test_text_columns_wrap_instead_of_being_truncated():
    words = " ".join(f"word{i}" for i in range(30))
    table = Table("t", (Column("run", "left", is_text=True), Column("n")), ((words, "12345"),))
    text = _shown_at(40, Report((table,), ()))
    assert [word for word in text.split() if word.startswith("word")] == words.split()


def test_a_terminal_too_narrow_for_any_table_still_shows_every_character():
    table = Table("t", (Column("network", "left"), Column("value")), (("resnet-56-B", "93.20 ± 0.07"),))
    text = "".join(_shown_at(16, Report((table,), ())).split())
    assert all(part in text for part in ("9", "3.20", "0.07", "resnet"))


def test_compare_imports_neither_torch_nor_pandas(runs):
    code = (
        "import sys; from resnet_cli.cli.compare import command; from pathlib import Path; "
        f"command([Path({runs!r})], json=True); "
        "print([name for name in ('torch', 'pandas', 'matplotlib') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_examples_in_the_help_of_compare_run(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = [line.strip() for line in HELP.splitlines() if line.startswith("  resnet compare")]
    assert len(examples) >= 5
    for example in examples:
        arguments = [
            str(path) for word in shlex.split(example.partition(" > networks")[0])[1:]
            for path in (sorted(tmp_path.glob(word)) if "*" in word and "/" in word else [word])
        ]  # fmt: skip
        assert run(arguments) in (ExitCode.DONE, ExitCode.CHECK_FAILED), example
    capsys.readouterr()
