"""`resnet power` from the command line."""

import json
import shlex

import pytest

from resnet_cli.cli.app import run
from resnet_cli.cli.power import HELP
from resnet_cli.errors import ExitCode


def test_a_given_spread_gives_the_effects_of_3_5_and_10_seeds(capsys):
    assert run(["power", "--claim", "gap", "--sigma", "1"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line.split()[:1] in (["3"], ["5"], ["10"])]
    assert [row[:3] for row in rows] == [["3", "2.68", "pp"], ["5", "1.92", "pp"], ["10", "1.36", "pp"]]
    assert "Seeds per network needed to detect 1 pp: 21 for the claim alone" in out
    assert "σ = 1 pp, given" in out
    assert err == ""


def test_the_spread_of_a_ratio_is_that_of_its_logarithm_and_effects_are_factors(capsys):
    assert run(["power", "--claim", "convergence-2x", "--sigma", "0.1", "--n", "5"]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert "σ = 0.1 (natural logarithm), given" in out
    assert "Supported: between ×1.6 and ×2.5; refuted if outside." in out
    assert "needed to detect ×2:" in out


def test_json_is_one_document(capsys):
    assert run(["power", "--claim", "gap", "--sigma", "1", "--n", "4", "--json"]) == ExitCode.DONE
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["claim"], document["family_size"]) == (1, "gap", 4)
    assert [row["seeds"] for row in document["plans"][0]["detectable"]] == [4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "missing option --claim; for example: resnet power --claim gap --sigma 0.3"),
        (["--claim", "gap"], "missing option --sigma, or --runs to measure the spread over seeds; for example: "),
        (["--claim", "gap", "--sigma", "1", "--runs", "x"], "--runs and --sigma"),
        (["--claim", "gap", "--sigma", "0"], "--sigma must be above 0"),
        (["--claim", "gaps", "--sigma", "1"], "did you mean gap?"),
        (["--claim", "capacity", "--sigma", "1"], "involves no chance"),
        (["--claim", "gap", "--runs", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_one_line_with_a_hint(options, message, capsys):
    assert run(["power", *options]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_examples_in_the_help_run(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arch, depth in (("plain", 20), ("resnet", 20), ("plain", 56), ("resnet", 56)):
        for seed in range(2):
            make_run(f"runs/{arch}-{depth}-{seed}", arch=arch, depth=depth, seed=seed, predictions=False)
    examples = [line.strip() for line in HELP.splitlines() if line.startswith("  resnet ")]
    assert len(examples) == 3
    for example in examples:
        assert run(shlex.split(example)[1:]) == ExitCode.DONE
        assert "σ" in capsys.readouterr().out
