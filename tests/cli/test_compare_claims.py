"""`resnet compare --claims`: verdicts in every format, required claims and explanations."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import scipy.stats

from resnet_cli.analysis.claims import CLAIM_COLUMNS
from resnet_cli.analysis.claims.catalogue import CLAIMS
from resnet_cli.cli.app import run
from resnet_cli.errors import ExitCode

PUBLISHED = Path(__file__).parents[2] / "runs" / "reference" / "demo"


@pytest.fixture
def runs(make_run, tmp_path):
    """Three seeds of the four networks of the report, in which the gap and scaling are clear."""
    for arch, depth, accuracy in (
        ("plain", 20, 90.84), ("resnet", 20, 91.95), ("plain", 56, 86.71), ("resnet", 56, 93.25),
    ):  # fmt: skip
        for seed in range(3):
            path = tmp_path / "runs" / f"{arch}-{depth}-s{seed}"
            make_run(path, arch=arch, depth=depth, seed=seed, accuracy=accuracy + seed / 10, predictions=False)
    return str(tmp_path / "runs")


def test_every_claim_has_a_line_with_its_verdict(runs, capsys):
    assert run(["compare", runs, "--claims"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert all(claim.name in lines for claim in CLAIMS)
    assert "supported" in lines["gap"]
    assert "not measured" in lines["degradation"]
    assert "underpowered" not in lines["scaling"]
    assert err == ""


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdout a terminal of a given width."""

    def of_width(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich then takes any stream for a terminal

    return of_width


def unstyled(text):
    return re.sub("\x1b\\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", [80, 120])
def test_common_terminals_show_effect_with_unit_interval_n_p_and_reason(runs, width, capsys, terminal):
    terminal(width)
    assert run(["compare", runs, "--claims"]) == ExitCode.DONE
    lines = unstyled(capsys.readouterr().out).splitlines()
    gap = next(index for index, line in enumerate(lines) if line.startswith("gap"))
    cells = [" ".join(cell.split()) for cell in re.split("  +", lines[gap].strip())]
    assert cells == ["gap", "supported", "+6.54 pp", "[+6.31, +6.77]", "3", "<0.001"]
    assert lines[gap + 1] == "    above 0.2 pp"
    text = " ".join(" ".join(lines).split())
    assert "measure it: resnet probe bn RUNS" in text
    assert "hidden" not in text
    assert all(len(line) <= width for line in lines)


def test_a_narrow_terminal_says_which_numbers_it_hides(runs, capsys, terminal):
    terminal(60)
    assert run(["compare", runs, "--claims"]) == ExitCode.DONE
    out = unstyled(capsys.readouterr().out)
    assert "Columns hidden at this width: 95 % interval." in out
    assert all(len(line) <= 60 for line in out.splitlines())


def test_json_is_one_document_with_the_data_of_every_seed(runs, capsys):
    assert run(["compare", runs, "--claims", "--json"]) == ExitCode.DONE
    document = json.loads(capsys.readouterr().out)
    gap = next(row for row in document["claims"] if row["claim"] == "gap")
    assert document["schema_version"] == 1
    assert gap["seeds"]["plain-56"] == pytest.approx([86.71, 86.81, 86.91])
    assert (gap["status"], gap["n"], gap["margin"]) == ("supported", 3, 0.2)
    assert set(CLAIM_COLUMNS) <= set(gap)


def test_csv_has_one_row_per_claim(runs, capsys):
    assert run(["compare", runs, "--claims", "--format", "csv"]) == ExitCode.DONE
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["claim"] for row in rows] == [claim.name for claim in CLAIMS]
    assert tuple(rows[0]) == CLAIM_COLUMNS


@pytest.mark.parametrize(("format", "mark"), [("markdown", "| gap | supported |"), ("latex", "gap & supported &")])
def test_papers_get_a_table_with_sentence_measure_margin_and_source(runs, format, mark, capsys):
    assert run(["compare", runs, "--claims", "--format", format]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert mark in out
    assert "The performance gap increased to 6.54 percentage points" in out
    assert "report, 3.2" in out
    assert "margin" in out


def test_out_writes_the_format_of_its_suffix(runs, tmp_path, capsys):
    out = tmp_path / "claims.md"
    assert run(["compare", runs, "--claims", "--out", str(out)]) == ExitCode.DONE
    assert out.read_text().count("| gap |") == 1
    assert capsys.readouterr().out == ""


def test_a_required_claim_that_is_supported_passes(runs):
    assert run(["compare", runs, "--require", "gap", "--require", "scaling"]) == ExitCode.DONE


def test_a_required_claim_that_is_not_supported_exits_with_3_after_the_table(runs, capsys):
    assert run(["compare", runs, "--require", "gap", "--require", "degradation"]) == ExitCode.CHECK_FAILED
    out, err = capsys.readouterr()
    assert "supported" in out
    assert err.strip().splitlines()[-1].endswith("not supported: degradation (not measured)")


def test_a_required_claim_fails_also_if_only_another_one_is_explained(runs, capsys):
    args = ["compare", runs, "--explain", "gap", "--require", "degradation"]
    assert run(args) == ExitCode.CHECK_FAILED
    assert "degradation: " not in capsys.readouterr().out


def test_an_explanation_gives_sentence_measure_rule_data_and_verdict(runs, capsys):
    assert run(["compare", runs, "--explain", "gap"]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert out.startswith("gap: supported; above 0.2 pp")
    for part in ("report, 3.2", "deep residual − deep plain network", "refuted if below 0 pp or within ±0.2 pp",
                 "86.71, 86.81, 86.91", "95 % interval", "n = 3", "Holm"):  # fmt: skip
        assert part in out


def test_the_interval_of_an_explanation_follows_from_its_standard_error_and_degrees_of_freedom(
    runs, tmp_path, make_run, capsys
):
    # the standard deviations over three seeds are 1 (plain) and 0.1
    for seed in range(3):
        shutil.rmtree(tmp_path / "runs" / f"plain-56-s{seed}")
        make_run(tmp_path / "runs" / f"plain-56-s{seed}", arch="plain", depth=56, seed=seed, accuracy=86 + seed)
    assert run(["compare", runs, "--explain", "gap"]) == ExitCode.DONE
    line = "standard error of the effect: 0.58; degrees of freedom: 2.04 (Welch, Satterthwaite)"
    assert f"  precision  {line}\n" in capsys.readouterr().out
    assert run(["compare", runs, "--claims", "--json"]) == ExitCode.DONE
    (row,) = (row for row in json.loads(capsys.readouterr().out)["claims"] if row["claim"] == "gap")
    expected = scipy.stats.ttest_ind([93.25, 93.35, 93.45], [86.0, 87.0, 88.0], equal_var=False)
    assert (row["value"] / row["standard_error"], row["freedom"]) == pytest.approx((expected.statistic, expected.df))
    assert [row["low"], row["high"]] == pytest.approx([*expected.confidence_interval()])


def test_an_explanation_says_that_a_ratio_has_the_standard_error_of_its_logarithm(capsys):
    explained = ["--explain", "convergence", "--explain", "identity-mapping"]
    assert run(["compare", str(PUBLISHED), *explained]) == ExitCode.DONE
    of_two, of_one = re.findall("standard error of its logarithm: .*", capsys.readouterr().out)
    assert of_two.endswith(" (Welch, Satterthwaite)")
    assert of_one.endswith("degrees of freedom: 4")


def test_one_seed_has_no_standard_error(make_run, tmp_path, capsys):
    for arch in ("plain", "resnet"):
        make_run(tmp_path / arch, arch=arch, depth=56)
    assert run(["compare", str(tmp_path), "--explain", "gap"]) == ExitCode.DONE
    assert "precision" not in capsys.readouterr().out


def test_an_explanation_of_a_missing_measurement_gives_the_command(runs, capsys):
    assert run(["compare", runs, "--explain", "shattering"]) == ExitCode.DONE
    assert "measure it resnet probe shattering RUNS" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--require", "--explain"])
def test_an_unknown_claim_is_refused_before_runs_are_read_with_the_nearest_name(option, capsys):
    assert run(["compare", "nowhere", option, "degradatoin"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "unknown claim 'degradatoin'" in err
    assert "did you mean degradation" in err


@pytest.mark.parametrize("option", [["--sort", "network"], ["--assert", "1 > 0"]])
def test_options_of_results_cannot_be_combined_with_claims(runs, option, capsys):
    assert run(["compare", runs, "--claims", *option]) == ExitCode.USAGE
    assert f"omit {option[0]}" in capsys.readouterr().err


def test_more_looks_make_the_level_of_a_test_stricter(runs, capsys):
    levels = []
    for looks in ("1", "3"):
        run(["compare", runs, "--claims", "--json", "--looks", looks])
        levels.append(json.loads(capsys.readouterr().out)["alpha"])
    assert levels == [0.05, 0.02]
