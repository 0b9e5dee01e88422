"""`resnet plot`: files, output and error messages."""

import json
import os
import re
import shutil

import msgspec
import pytest

from resnet_cli.cli.app import run
from resnet_cli.util.files import write_atomic


@pytest.fixture
def make_pair(tmp_path, make_run):
    """Write runs of Plain-20 and ResNet-20 into `tmp_path / "runs"`; by default on the digits."""

    def build(prefix="", **fields):
        digits = {"recipe": "demo", "dataset": "digits"}
        return [
            make_run(tmp_path / "runs" / f"{prefix}{arch}", arch=arch, **{**digits, **fields})
            for arch in ("plain", "resnet")
        ]

    return build


@pytest.fixture
def runs(tmp_path, make_pair, monkeypatch):
    """A folder with a pair of runs that recorded gradient norms, inside the current folder."""
    monkeypatch.chdir(tmp_path)
    make_pair(gradflow=True)
    return tmp_path / "runs"


def edit_records(runs, old, new):
    """Replace text in run.json of both runs."""
    for path in (runs / "plain" / "run.json", runs / "resnet" / "run.json"):
        path.write_text(path.read_text().replace(old, new))


def plot(capsys, *args):
    """Exit code, stdout and stderr of `resnet plot`."""
    code = run(["plot", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_plot_draws_all_supported_figures_into_the_folder_figures_by_default(runs, capsys, tmp_path):
    code, out, err = plot(capsys, runs)
    assert code == 0
    kinds = ["curves", "convergence-20", "accuracy-20", "confusion-20", "degradation", "gradients-20"]
    assert out.splitlines() == [f"figures/{kind}.png" for kind in kinds]
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == sorted(kinds)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "figures").iterdir())
    assert err == ""


def test_plot_json_is_one_document_with_drawn_and_skipped_figures(runs, make_run, capsys):
    make_run(runs / "alone", arch="plain", predictions=False)
    make_run(runs / "half", arch="plain", depth=56, status="incomplete")
    code, out, err = plot(capsys, runs, "--json", "--out", "a/b", "--kind", "fig1", "--format", "svg")
    document = json.loads(out)
    assert code == 0
    assert document["schema_version"] == 1
    assert document["figures"] == [
        {
            "name": "convergence-20", "kind": "convergence", "report_figure": "fig1",
            "group": "digits (16×16), demo", "path": "a/b/digits-16-16-demo/convergence-20.svg",
            "networks": ["plain-20", "resnet-20"], "n_runs": 2,
        }
    ]  # fmt: skip
    assert document["skipped"] == [
        {
            "name": "convergence-20",
            "kind": "convergence",
            "group": "CIFAR-10, report2025",
            "reason": "no complete run of resnet-20",
        }
    ]
    (skipped,) = document["skipped_runs"]
    assert (skipped["path"], skipped["status"]) == (str(runs / "half"), "incomplete")
    assert skipped["reason"].startswith("no summary.json")
    assert err.splitlines() == [
        "runs that are not complete: 1 incomplete (not shown)",
        "not drawn: convergence-20 (no complete run of resnet-20)",
    ]


def test_plot_warns_of_unreadable_runs_and_counts_unfinished_ones_in_one_line(runs, make_run, capsys):
    digits = {"recipe": "demo", "dataset": "digits", "arch": "plain"}
    make_run(runs / "half", seed=3, status="incomplete", **digits)
    make_run(runs / "wild", seed=4, status="diverged", **digits)
    make_run(runs / "torn", seed=5, **digits).metrics_path.unlink()
    code, out, err = plot(capsys, runs, "--kind", "fig1", "--kind", "curves", "--json")
    assert code == 0
    assert {one["name"]: one["n_runs"] for one in json.loads(out)["figures"]} == {"curves": 4, "convergence-20": 2}
    warning, note = err.splitlines()
    assert warning.startswith(f"warning: skipped {runs / 'torn'} (unreadable)")
    assert note == "runs that are not complete: 1 diverged, 1 incomplete (shown by curves only)"
    statuses = {os.path.basename(one["path"]): one["status"] for one in json.loads(out)["skipped_runs"]}
    assert statuses == {"half": "incomplete", "wild": "diverged", "torn": "unreadable"}


def test_plot_draws_the_curves_of_a_run_that_is_still_training(runs, make_run, capsys, tmp_path):
    run = make_run(tmp_path / "training", status="incomplete")
    with run.lock():
        code, out, err = plot(capsys, run.path, "--format", "svg")
    assert (code, out) == (0, "figures/training/curves.svg\n")
    assert err == "runs that are not complete: 1 running (shown by curves only)\n"
    assert "still training" in (tmp_path / "figures" / "training" / "curves.svg").read_text()


def test_figures_of_single_runs_do_not_replace_each_other_and_name_network_and_seed(runs, make_run, capsys, tmp_path):
    other = make_run(runs / "again", seed=3, arch="plain", depth=56).path
    for path in (runs / "plain", other):
        code, out, _ = plot(capsys, path, "--kind", "curves", "--format", "svg")
        assert (code, out) == (0, f"figures/{path.name}/curves.svg\n")
    assert "plain-56, seed 3" in (tmp_path / "figures" / "again" / "curves.svg").read_text()
    assert "plain-20, seed 0" in (tmp_path / "figures" / "plain" / "curves.svg").read_text()


def test_copies_of_runs_are_not_counted_twice(runs, capsys):
    shutil.copytree(runs / "plain", runs / "copy")
    code, out, err = plot(capsys, runs, "--kind", "fig1", "--json")
    assert (code, json.loads(out)["figures"][0]["n_runs"]) == (0, 2)
    assert err == "1 duplicate (not counted twice)\n"


def test_plot_quiet_prints_only_the_paths(runs, capsys):
    code, out, err = plot(capsys, runs, "--quiet", "--kind", "fig2", "--kind", "fig1")
    assert (code, err) == (0, "")
    assert out == "figures/convergence-20.png\nfigures/accuracy-20.png\n"


def test_a_single_figure_is_written_to_the_file_given_by_out(runs, capsys, tmp_path):
    code, out, _ = plot(capsys, runs, "--kind", "fig2", "--out", "paper/accuracy.PDF")
    assert (code, out) == (0, "paper/accuracy.PDF\n")
    assert (tmp_path / "paper" / "accuracy.PDF").read_bytes().startswith(b"%PDF")


def test_an_existing_folder_with_the_suffix_of_an_image_is_used_as_a_folder(runs, capsys, tmp_path):
    (tmp_path / "my.png").mkdir()
    assert plot(capsys, runs, "--kind", "fig2", "--out", "my.png")[:2] == (0, "my.png/accuracy-20.png\n")


def test_plot_writes_figures_of_each_dataset_and_recipe_to_a_folder_of_their_own(runs, make_pair, capsys):
    make_pair("jpeg-", recipe="report2025", dataset="imagefolder", predictions=False)
    code, out, _ = plot(capsys, runs, "--kind", "fig1")
    assert code == 0
    assert out.splitlines() == [
        "figures/cifar-10-jpeg-report2025/convergence-20.png",
        "figures/digits-16-16-demo/convergence-20.png",
    ]
    assert all(os.path.getsize(path) > 1000 for path in out.splitlines())


def test_plot_writes_figures_of_two_datasets_of_one_name_to_separate_folders(runs, make_pair, capsys):
    for folder in make_pair("other-", seed=1):
        record = folder.read_record()
        dataset = msgspec.structs.replace(record.dataset, fingerprint="f" * 64)
        write_atomic(folder.record_path, msgspec.json.encode(msgspec.structs.replace(record, dataset=dataset)))
    code, out, _ = plot(capsys, runs, "--kind", "fig1")
    assert code == 0
    first, second = out.splitlines()
    assert first == "figures/digits-16-16-demo/convergence-20.png"
    assert re.fullmatch(r"figures/digits-16-16-demo-[0-9a-f]{8}/convergence-20\.png", second)
    assert os.path.exists(first)
    assert os.path.exists(second)


def test_a_single_file_for_the_figures_of_two_recipes_is_wrong_usage(runs, make_pair, capsys, tmp_path):
    make_pair("fast-", lr=0.07)
    code, out, err = plot(capsys, runs, "--kind", "fig1", "--out", "a.png")
    assert (code, out) == (2, "")
    assert "--out a.png names one file, but there are several figures: digits (16×16), demo and digits (16×16)" in err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--kind", "fig9"], "unknown figure --kind fig9; use curves, convergence"),
        (["--depths", "20,44"], "no complete run of plain-44 and resnet-44"),
        (["--depths", "21"], "depth 21 is not 6n+2"),
        (["--depths", "8,20,56"], "--depths must be one or two depths (got 8,20,56); use --depths 20,56"),
        (["--depths", "deep"], "--depths must be one or two depths (got deep)"),
        (["--out", "a.jpg"], "unsupported format --out a.jpg; use .png, .svg or .pdf"),
        (["--out", "notes.txt"], "--out notes.txt is a file, not a folder"),
        (["--out", "a.png", "--format", "pdf"], "--format pdf does not match --out a.png"),
        (["--out", "a.png", "--kind", "fig1"], "--out a.png names one file, but several figures were requested"),
        (["--out", "a.png", "--kind", "all"], "--out a.png names one file, but several figures were requested"),
        (["--format", "gif"], "gif"),
    ],
)
def test_wrong_usage_of_plot_is_one_line_and_exit_code_2(runs, capsys, tmp_path, args, message):
    (tmp_path / "notes.txt").write_text("mine")
    code, out, err = plot(capsys, runs, "--kind", "fig2", *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "figures").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_missing_path_and_unfinished_runs_are_unusable_input_of_plot(make_run, capsys, tmp_path):
    code, _, err = plot(capsys, tmp_path / "nowhere")
    assert code == 2
    assert f"{tmp_path / 'nowhere'} does not exist" in err
    make_run(tmp_path / "half", status="incomplete")
    code, out, err = plot(capsys, tmp_path, "--kind", "degradation")
    assert (code, out) == (2, "")
    assert err.startswith("error: no complete run; found 1 incomplete")


def test_a_class_name_missing_from_the_font_causes_one_warning(runs, capsys):
    edit_records(runs, '"class 3"', '"猫"')
    code, _, err = plot(capsys, runs, "--kind", "fig4")
    assert code == 0
    assert err.splitlines() == [
        "warning: figures/confusion-20.png: the font lacks characters in a class name; "
        "use --format svg to keep them as text"
    ]
    assert plot(capsys, runs, "--kind", "fig4", "--format", "svg")[2] == ""


def test_the_help_of_plot_lists_every_figure_with_examples(capsys):
    from resnet_cli.analysis.figures import KINDS

    code, out, _ = plot(capsys, "--help")
    assert code == 0
    assert all(re.search(rf"^ *{kind}( \(fig.*\))?: ", out, re.MULTILINE) for kind in KINDS)
    assert "confusion (fig4, fig5): " in out
    assert "resnet plot runs/ --kind degradation --out degradation.png" in out
