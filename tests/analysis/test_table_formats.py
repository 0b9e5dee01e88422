"""The comparison as Markdown, LaTeX, CSV and JSON, and the format of its numbers."""

# ruff: noqa: E501 - snapshots contain long lines

import csv
import io
import json

import pytest
from inline_snapshot import snapshot

from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.tables import NETWORK_COLUMNS, render, study_document
from resnet_cli.analysis.tables.layout import plus_minus, signed


def test_a_csv_table_has_one_row_per_network_and_empty_cells_for_missing_values(make_study):
    study = make_study(seeds=2)
    rows = list(csv.DictReader(io.StringIO(render(study_document(study), "csv"))))
    assert tuple(rows[0]) == NETWORK_COLUMNS
    assert [row["arch"] + row["depth"] for row in rows] == ["plain20", "resnet20", "plain56", "resnet56"]
    assert float(rows[3]["test_accuracy_pct"]) == pytest.approx(93.35)
    assert (rows[3]["seeds"], rows[3]["val_error_pct"], rows[3]["published_accuracy_pct_std"]) == ("0 1", "", "")


def test_a_dataset_named_like_a_formula_is_text_in_a_csv_table(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run")
    record = json.loads(run.record_path.read_bytes())
    record["dataset"]["display_name"] = '=HYPERLINK("http://example.org")'
    run.record_path.write_text(json.dumps(record))
    (row,) = csv.DictReader(io.StringIO(render(study_document(load_study(["."])), "csv")))
    assert row["dataset"] == '\'=HYPERLINK("http://example.org")'


def test_a_json_table_contains_the_whole_document(make_study):
    study = make_study()
    document = json.loads(render(study_document(study), "json"))
    assert document == study_document(study)
    assert list(document) == [
        "schema_version", "networks", "gaps", "depth_gaps", "amplification", "skipped", "notes", "assertions",
    ]  # fmt: skip


def test_a_markdown_table_shows_single_runs_with_published_values(make_study, make_run, tmp_path, monkeypatch):
    make_study()
    make_run(tmp_path / "x|y", status="diverged")
    monkeypatch.chdir(tmp_path)
    assert render(study_document(load_study(["."])), "markdown") == snapshot("""\
### Results: CIFAR-10, report2025

| network | layers | parameters | n | test accuracy % | best % | published % | diff. pp | clean training error % | training time |
|:---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| plain-20 | 20 | 0.27M | 1 | 90.84 | 90.94\\* | 90.84 | 0.00 | 6.00 | 1 min 30 s |
| resnet-20 | 20 | 0.27M | 1 | 91.95 | 92.05\\* | 91.95 | 0.00 | 2.00 | 1 min 30 s |
| plain-56 | 56 | 0.85M | 1 | 86.71 | 86.81\\* | 86.71 | 0.00 | 7.80 | 1 min 30 s |
| resnet-56 | 56 | 0.85M | 1 | 93.25 | 93.35\\* | 93.25 | 0.00 | 3.80 | 1 min 30 s |

One run per network, last epoch; the deviation between seeds was not measured.\\
\\* best epoch selected on the test set, so optimistically biased.\\
Published: Shinde 2025, Table 1.\\
Best test accuracy of another implementation with another schedule (akamaster/pytorch\\_resnet\\_cifar10, README): resnet-20 91.73, resnet-56 93.39.

### Differences in percentage points: CIFAR-10, report2025

| difference | test accuracy pp | n | diverged | published pp | clean training error pp |
|:---|---:|---:|---:|---:|---:|
| resnet-20 − plain-20 | −39.87 | 1 | 1 | +1.11 | +40.00 |
| resnet-56 − plain-56 | +6.54 | 1 | — | +6.54 | −4.00 |
| plain-56 − plain-20 | −4.13 | 1 | — | −4.13 | +1.80 |
| resnet-56 − resnet-20 | +42.27 | 1 | 1 | +1.30 | −42.20 |

No interval with one seed.\\
Diverged runs (of all networks in a row) count as guessing at random here, but not in the means of the results and the SE of test images.

### Amplification of the residual gap: CIFAR-10, report2025

| change of the residual gap | pp | n | diverged | ratio | published ratio |
|:---|---:|---:|---:|---:|---:|
| 20 → 56 layers | +46.41 | 1 | 1 | −0.16 | 5.89 |

No interval with one seed.\\
Diverged runs (of all networks in a row) count as guessing at random here, but not in the means of the results and the SE of test images.

### Excluded runs: 1

| run | status | reason |
|:---|:---|:---|
| x\\|y | diverged | the loss was not finite in epoch 2, step 392, at lr 0.1 |
""")


def test_latex_tables_use_booktabs_and_escape_names(make_run, tmp_path, monkeypatch):
    for arch, accuracy in (("plain", 90.84), ("resnet", 91.95)):
        for seed in range(2):
            make_run(tmp_path / f"{arch}{seed}", arch=arch, seed=seed, accuracy=accuracy + seed / 10, train_error=5.0)
    make_run(tmp_path / "50%_a&b", seed=5, status="incomplete", environment={"torch": "2.11"})
    monkeypatch.chdir(tmp_path)
    assert render(study_document(load_study(["."])), "latex") == snapshot("""\
% needs \\usepackage{booktabs}, \\usepackage{textcomp} and a text width of 16 cm

\\begin{table}
\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}
\\caption{Results: CIFAR-10, report2025}
\\begin{tabular}{lrrrrrrrrr}
\\toprule
network & layers & parameters & n & \\shortstack[r]{test \\\\ accuracy \\%} & best \\% & published \\% & diff. pp & \\shortstack[r]{clean \\\\ training \\\\ error \\%} & \\shortstack[r]{training \\\\ time} \\\\
\\midrule
plain-20 & 20 & 0.27M & 2 & 90.89 $\\pm$ 0.07 & 90.99 $\\pm$ 0.07* & 90.84 & +0.05 & 5.00 $\\pm$ 0.00 & 1 min 30 s \\\\
resnet-20 & 20 & 0.27M & 2 & 92.00 $\\pm$ 0.07 & 92.10 $\\pm$ 0.07* & 91.95 & +0.05 & 5.00 $\\pm$ 0.00 & 1 min 30 s \\\\
\\bottomrule
\\end{tabular}

\\smallskip
Mean $\\pm$ standard deviation over n seeds at the last epoch; training time is the mean per run.\\par
* best epoch selected on the test set, so optimistically biased.\\par
Published: Shinde 2025, Table 1.\\par
Best test accuracy of another implementation with another schedule (akamaster/pytorch\\_resnet\\_cifar10, README): resnet-20 91.73.\\par
\\end{table}

\\begin{table}
\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}
\\caption{Differences in percentage points: CIFAR-10, report2025}
\\begin{tabular}{lrrrrrrr}
\\toprule
difference & \\shortstack[r]{test \\\\ accuracy pp} & \\shortstack[r]{95 \\% \\\\ interval} & n & \\shortstack[r]{SE of \\\\ test \\\\ images} & published pp & \\shortstack[r]{clean \\\\ training \\\\ error pp} & \\shortstack[r]{error 95 \\% \\\\ interval} \\\\
\\midrule
resnet-20 $-$ plain-20 & +1.11 & {[}+0.81, +1.41] & 2 & 0.28 & +1.11 & 0.00 & {[}$-$0.01, +0.01] \\\\
\\bottomrule
\\end{tabular}

\\smallskip
n counts seeds. Intervals: Welch's t, not narrower than half a test image.\\par
SE of test images: standard error, not an interval, due to the choice of test images, which both networks share.\\par
\\end{table}

\\begin{table}
\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}
\\caption{Excluded runs: 1}
\\begin{tabular}{p{0.4\\linewidth}lp{0.4\\linewidth}}
\\toprule
run & status & reason \\\\
\\midrule
50\\%\\_a\\&b & incomplete & no summary.json; run the same resnet train command again to resume \\\\
\\bottomrule
\\end{tabular}
\\end{table}
""")


@pytest.mark.parametrize(
    ("format", "expected_heading", "expected_note"),
    [
        (
            "markdown",
            "### Results: \\|&lt;b>\\`\\*\\_\\~\\\\{}$&amp;#^%\\\\x1b[31m\\\\n, report2025",
            "- \\|&lt;b>\\`\\*\\_\\~\\\\{}$&amp;#^%\\\\x1b[31m\\\\n, report2025: torch version differs between runs: -- [x]\\(y) é 中 \\\\end{tabular} (1 run), 2.10.0 (1 run)",
        ),
        (
            "latex",
            "\\caption{Results: \\textbar{}\\textless{}b\\textgreater{}\\textasciigrave{}*\\_\\textasciitilde{}\\textbackslash{}\\{\\}\\$\\&\\#\\textasciicircum{}\\%\\textbackslash{}x1b{[}31m\\textbackslash{}n, report2025}",
            "\\item \\textbar{}\\textless{}b\\textgreater{}\\textasciigrave{}*\\_\\textasciitilde{}\\textbackslash{}\\{\\}\\$\\&\\#\\textasciicircum{}\\%\\textbackslash{}x1b{[}31m\\textbackslash{}n, report2025: torch version differs between runs: -{}- {[}x](y) é \\textbackslash{}u4e2d \\textbackslash{}end\\{tabular\\} (1 run), 2.10.0 (1 run)",
        ),
    ],
)
def test_names_from_files_cannot_break_out_of_a_table(make_run, tmp_path, format, expected_heading, expected_note):
    run = make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, environment={"torch": "-- [x](y) é 中 \\end{tabular}"})
    name = "|<b>`*_~\\\\{}$&#^%\\u001b[31m\\n"
    for path in tmp_path.rglob("run.json"):
        path.write_text(path.read_text().replace('"CIFAR-10"', f'"{name}"'))
    assert load_study([run.path]).runs
    lines = render(study_document(load_study([tmp_path])), format).splitlines()
    assert "\x1b" not in "".join(lines)
    assert next(line for line in lines if "Results" in line) == expected_heading
    assert next(line for line in lines if "torch version" in line) == expected_note


def test_tables_show_the_sign_of_differences_and_the_deviation_of_means():
    assert [signed(x) for x in (1.114, -4.126, -0.001, None)] == ["+1.11", "−4.13", "0.00", "—"]
    means = [plus_minus({"x": mean, "x_std": std}, "x") for mean, std in ((93.39, 0.16), (93.25, None), (None, None))]
    assert means == ["93.39 ± 0.16", "93.25", "—"]
