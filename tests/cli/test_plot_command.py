"""`resnet plot`: files, output and error messages."""

import json
import os
import re

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
    kinds = ["fig1", "fig2", "fig3", "fig4", "degradation", "gradflow"]
    assert out.splitlines() == [f"figures/{kind}.png" for kind in kinds]
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == sorted(kinds)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "figures").iterdir())
    assert err == "skipped fig5 of digits (16×16), demo: 20 is the only depth, already shown by fig4\n"


def test_plot_json_is_one_document_with_drawn_and_skipped_figures(runs, make_run, capsys):
    make_run(runs / "alone", arch="plain", predictions=False)
    make_run(runs / "half", arch="plain", depth=56, status="incomplete")
    code, out, err = plot(capsys, runs, "--json", "--out", "a/b", "--kind", "fig1", "--format", "svg")
    document = json.loads(out)
    assert code == 0
    assert document["schema_version"] == 1
    assert document["figures"] == [
        {
            "kind": "fig1", "group": "digits (16×16), demo", "path": "a/b/digits-16-16-demo/fig1.svg",
            "networks": ["plain-20", "resnet-20"], "n_runs": 2,
        }
    ]  # fmt: skip
    assert document["skipped"] == [
        {"kind": "fig1", "group": "CIFAR-10, report2025", "reason": "no complete run of resnet-20"}
    ]
    (skipped,) = document["skipped_runs"]
    assert (skipped["path"], skipped["status"]) == (str(runs / "half"), "incomplete")
    assert skipped["reason"].startswith("no summary.json")
    assert "warning" in err


def test_plot_reports_unfinished_diverged_and_unreadable_runs_and_does_not_draw_them(runs, make_run, capsys):
    make_run(runs / "half", arch="plain", status="incomplete")
    make_run(runs / "wild", arch="plain", status="diverged")
    make_run(runs / "torn", arch="plain", seed=5).metrics_path.unlink()
    code, out, err = plot(capsys, runs, "--kind", "fig1", "--quiet", "--json")
    assert code == 0
    assert json.loads(out)["figures"][0]["n_runs"] == 2
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(err.splitlines()) == 3
    for name, status in (("half", "incomplete"), ("wild", "diverged"), ("torn", "unreadable")):
        assert any(str(runs / name) in line and status in line for line in warnings)


def test_plot_quiet_prints_only_the_paths(runs, capsys):
    code, out, err = plot(capsys, runs, "--quiet", "--kind", "fig2", "--kind", "fig1")
    assert (code, err) == (0, "")
    assert out == "figures/fig1.png\nfigures/fig2.png\n"


def test_a_single_figure_is_written_to_the_file_given_by_out(runs, capsys, tmp_path):
    code, out, _ = plot(capsys, runs, "--kind", "fig2", "--out", "paper/accuracy.PDF")
    assert (code, out) == (0, "paper/accuracy.PDF\n")
    assert (tmp_path / "paper" / "accuracy.PDF").read_bytes().startswith(b"%PDF")


def test_an_existing_folder_with_the_suffix_of_an_image_is_used_as_a_folder(runs, capsys, tmp_path):
    (tmp_path / "my.png").mkdir()
    assert plot(capsys, runs, "--kind", "fig2", "--out", "my.png")[:2] == (0, "my.png/fig2.png\n")


def test_plot_writes_figures_of_each_dataset_and_recipe_to_a_folder_of_their_own(runs, make_pair, capsys):
    make_pair("jpeg-", recipe="report2025", dataset="imagefolder", predictions=False)
    code, out, _ = plot(capsys, runs, "--kind", "fig1")
    assert code == 0
    assert out.splitlines() == ["figures/cifar-10-jpeg-report2025/fig1.png", "figures/digits-16-16-demo/fig1.png"]
    assert all(os.path.getsize(path) > 1000 for path in out.splitlines())


def test_plot_writes_figures_of_two_datasets_of_one_name_to_separate_folders(runs, make_pair, capsys):
    for folder in make_pair("other-", seed=1):
        record = folder.read_record()
        dataset = msgspec.structs.replace(record.dataset, fingerprint="f" * 64)
        write_atomic(folder.record_path, msgspec.json.encode(msgspec.structs.replace(record, dataset=dataset)))
    code, out, _ = plot(capsys, runs, "--kind", "fig1")
    assert code == 0
    first, second = out.splitlines()
    assert first == "figures/digits-16-16-demo/fig1.png"
    assert re.fullmatch(r"figures/digits-16-16-demo-[0-9a-f]{8}/fig1\.png", second)
    assert os.path.exists(first)
    assert os.path.exists(second)


def test_a_single_file_for_the_figures_of_two_recipes_is_wrong_usage(runs, make_pair, capsys, tmp_path):
    make_pair("slow-", lr=0.01)
    code, out, err = plot(capsys, runs, "--kind", "fig1", "--out", "a.png")
    assert (code, out) == (2, "")
    assert "--out a.png names one file, but there are several figures: digits (16×16), demo and digits (16×16)" in err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--kind", "fig9"], "unknown figure --kind fig9; use fig1, fig2"),
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
    code, out, err = plot(capsys, tmp_path)
    assert (code, out) == (2, "")
    assert str(tmp_path / "half") in err.splitlines()[0]
    assert "error: no complete run; found 1 incomplete" in err


def test_a_class_name_missing_from_the_font_causes_one_warning(runs, capsys):
    edit_records(runs, '"class 3"', '"猫"')
    code, _, err = plot(capsys, runs, "--kind", "fig4")
    assert code == 0
    assert err.splitlines() == [
        "warning: figures/fig4.png: the font lacks characters in a class name; use --format svg to keep them as text"
    ]
    assert plot(capsys, runs, "--kind", "fig4", "--format", "svg")[2] == ""


def test_the_help_of_plot_lists_every_figure_with_examples(capsys):
    from resnet_cli.analysis.figures import KINDS

    code, out, _ = plot(capsys, "--help")
    assert code == 0
    assert all(f"{kind}: " in out for kind in KINDS)
    assert "resnet plot runs/ --kind degradation --out degradation.png" in out
