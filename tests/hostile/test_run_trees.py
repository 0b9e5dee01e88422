"""Hundreds of hostile run directories: commands name the runs that they exclude, and good runs keep their results."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from array_mutations import PREDICTIONS, TABLES
from mutations import all_mutations
from watch import watched

import resnet_cli
from resnet_cli.analysis.frames import load_study
from resnet_cli.rundir import find_runs
from resnet_cli.util.text import printable

NUM_TREES = 2
MUTATIONS = all_mutations()
KINDS = ("degradation", "gradients", "fig4")
SMALL = {"recipe": "demo", "dataset": "digits", "depth": 8, "limit_test": 40, "gradflow": True}
# mutated runs that may still be used have another recipe than the good runs, so that they are in other rows and figures
OTHER = {**SMALL, "lr": 0.03}
GOOD_RECIPE = "demo limit_test=40"
GOOD_FIGURES = "digits-16-16-demo-limit-test-40"


def is_of_figures(mutation):
    """Whether it damages a file that only figures are drawn from, so that the run stays in tables."""
    return mutation.name.startswith((*TABLES, PREDICTIONS))


def put(number, mutation, make_run, base):
    """Make a damaged run next to the good ones, with its own seed."""
    run = Path("runs") / f"m{number:03d}"
    make_run(run, arch="plain", seed=1000 + number, **base)
    (run / "attempts.jsonl").touch()
    (run / ".lock").touch()
    mutation.apply(run.absolute(), random.Random(number))  # noqa: S311 (damage, not a secret)


def test_hostile_run_trees_are_made_from_at_least_five_hundred_mutations():
    assert len(MUTATIONS) >= 500


@pytest.fixture
def tree(tmp_path, monkeypatch, make_run):
    """A folder with a good pair of networks and a pair of another recipe; everything below runs in it."""
    monkeypatch.chdir(tmp_path)
    for arch in ("plain", "resnet"):
        make_run(Path("runs") / f"good-{arch}", arch=arch, **SMALL)
        make_run(Path("runs") / f"other-{arch}", arch=arch, **OTHER)
    yield tmp_path
    subprocess.run(["rm", "-rf", *os.listdir(tmp_path)], cwd=tmp_path, check=True)  # deeper than Python's own can go


def good_part(document):
    """The rows of the good runs in a comparison."""
    parts = ("networks", "gaps", "depth_gaps", "amplification")
    return [json.dumps(row) for part in parts for row in document[part] if row["recipe"] == GOOD_RECIPE]


def good_figures():
    return {path.name: path.read_bytes() for path in Path("figures", GOOD_FIGURES).iterdir()}


def good_files():
    paths = [path for pattern in ("good-*", "other-*") for path in Path("runs").glob(f"{pattern}/**/*")]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def plot(capfd):
    kinds = [part for kind in KINDS for part in ("--kind", kind)]
    return watched(capfd, ["plot", "runs", "--format", "svg", "--json", *kinds])


_BASELINE: dict[str, object] = {}


def baseline(capfd):
    """Output of compare and plot for the good runs alone, made once, since it is the same in every tree."""
    if not _BASELINE:
        _BASELINE["table"] = good_part(json.loads(watched(capfd, ["compare", "runs", "--json"]).out))
        plot(capfd)
        _BASELINE["figures"] = good_figures()
        assert len(_BASELINE["table"]) == 4
        assert len(_BASELINE["figures"]) == len(KINDS)
        subprocess.run(["rm", "-rf", "figures"], check=True)
    return _BASELINE


@pytest.mark.parametrize("part", range(NUM_TREES))
def test_compare_and_plot_name_hostile_runs_and_show_good_runs_unchanged(tree, make_run, capfd, part):
    expected, before = baseline(capfd), good_files()
    mutations = MUTATIONS[part::NUM_TREES]
    for number, mutation in enumerate(mutations):
        is_nowhere = mutation.is_refused and not is_of_figures(mutation)
        put(number, mutation, make_run, SMALL if is_nowhere else OTHER)

    compared = watched(capfd, ["compare", "runs", "--json"])
    assert compared.code == 0, compared.err
    document = json.loads(compared.out)
    assert good_part(document) == expected["table"]
    # every run is either counted or named as excluded
    counted = len(load_study(["runs"]).runs)  # n counts seeds
    assert counted + len(document["skipped"]) == len(mutations) + 4

    table = watched(capfd, ["compare", "runs"])
    assert table.code == 0
    named = "".join(table.out.split())
    for skipped in document["skipped"]:
        assert skipped["reason"]
        assert len(skipped["reason"]) < 700
        assert "".join(printable(skipped["path"]).split())[:40] in named

    listed = watched(capfd, ["ls", "runs", "--json"])
    assert listed.code == 0, listed.err
    unreadable = [row for row in json.loads(listed.out)["runs"] if row["status"] == "unreadable"]
    assert all(row["reason"] for row in unreadable)
    codes = [watched(capfd, ["show", run.path, "--json"]).code for run in find_runs(["runs"])]
    assert sorted(set(codes)) == [0, 2]
    assert (len(codes), codes.count(2)) == (len(mutations) + 4, len(unreadable))

    plotted = plot(capfd)
    assert plotted.code == 0, plotted.err
    shown = json.loads(plotted.out)
    assert good_figures() == expected["figures"]
    named = " ".join([*(one["path"] for one in shown["skipped_runs"]), *shown["left_out"]])
    unnamed = [m.name for number, m in enumerate(mutations) if m.is_refused and f"runs/m{number:03d}" not in named]
    assert not unnamed
    unreadable = [one for one in shown["skipped_runs"] if one["status"] == "unreadable"]
    assert all(printable(one["path"]) in plotted.err for one in unreadable)
    assert all(printable(reason) in plotted.err for reason in shown["left_out"])

    assert good_files() == before


@pytest.mark.parametrize(
    ("file", "name"), [("metrics.csv", "degradation"), ("gradflow.csv", "gradients-8"), (PREDICTIONS, "confusion-8")]
)
def test_a_figure_omits_runs_whose_file_for_it_is_hostile(tree, make_run, capfd, file, name):
    expected = baseline(capfd)
    refused = [mutation for mutation in MUTATIONS if mutation.is_refused and mutation.name.startswith(file)]
    for number, mutation in enumerate(refused):
        put(number, mutation, make_run, SMALL)
    said = watched(capfd, ["plot", "runs", "--format", "svg", "--kind", name.partition("-")[0]])
    assert said.code == 0
    name = f"{name}.svg"
    assert good_figures()[name] == expected["figures"][name]
    assert [m.name for number, m in enumerate(refused) if f"runs/m{number:03d}" not in said.err] == []


def test_a_tree_of_only_hostile_runs_is_refused_in_one_line(tmp_path, monkeypatch, make_run, capfd):
    monkeypatch.chdir(tmp_path)
    refused = [mutation for mutation in MUTATIONS if mutation.name.startswith(("run.json is", "summary.json is"))]
    for number, mutation in enumerate(refused):
        run = make_run(Path("runs") / str(number), arch="plain", seed=number, **SMALL)
        mutation.apply(run.path.absolute(), random.Random(0))  # noqa: S311
    for command in (["compare", "runs"], ["compare", "runs", "--json"], ["plot", "runs", "--kind", "fig1"]):
        said = watched(capfd, command)
        assert said.code == 2
        assert f"found 1 incomplete, {len(refused) - 1} unreadable" in said.errors[0]


def test_figures_and_tables_of_hostile_names_contain_no_markup_and_no_control_characters(
    tmp_path, monkeypatch, make_run, capfd
):
    monkeypatch.chdir(tmp_path)
    name = "\x1b[31m<script>alert(1)</script>$\\frac|`[red]\u202e\x9b"
    for arch in ("plain", "resnet"):
        run = make_run(Path("runs") / arch, arch=arch, **SMALL)
        record = json.loads(run.record_path.read_bytes())
        record["dataset"] |= {"display_name": name, "classes": [f"{name}{i}" for i in range(10)]}
        record["environment"]["device_name"] = name
        run.record_path.write_text(json.dumps(record))
    make_run(Path("runs/other"), arch="plain", depth=8)  # figures of several groups are in folders with their names
    for suffix in ("md", "tex", "csv", "json", "txt"):
        assert watched(capfd, ["compare", "runs", "--out", f"table.{suffix}"]).code == 0
        text = Path(f"table.{suffix}").read_text()
        assert all(c.isprintable() or c == "\n" for c in text)
    for form in ("table", "markdown", "latex", "csv", "json"):
        assert watched(capfd, ["compare", "runs", "--format", form]).code == 0  # it looks for control characters
    assert "<script" not in Path("table.md").read_text()
    assert "<script" not in Path("table.tex").read_text()
    assert watched(capfd, ["plot", "runs", "--format", "svg"]).code == 0
    figures = list(Path("figures").rglob("*.svg"))
    assert {path.stem for path in figures} >= {"curves", "confusion-8", "degradation", "gradients-8"}
    for path in figures:
        assert "<script" not in path.read_text()
        assert {c for c in path.read_text() if not c.isprintable()} <= set("\n\N{NO-BREAK SPACE}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["", "run.json", "summary.json", "metrics.csv", "predictions.npz", "gradflow.csv"])
def test_runs_and_files_without_read_permission_are_named(tree, make_run, capfd, name):
    hidden = make_run(Path("runs/hidden"), arch="plain", seed=7, **OTHER).path / name
    mode = hidden.stat().st_mode
    hidden.chmod(0)
    try:
        said = plot(capfd)
    finally:
        hidden.chmod(mode)
    assert said.code == 0
    assert "runs/hidden" in said.err
    assert "Permission denied" in said.err


@pytest.mark.parametrize("where", ["deep", "loops", "long"])
def test_a_folder_tree_of_any_shape_is_searched_completely(tree, capfd, where):
    here = os.getcwd()
    if where == "loops":
        for name, target in (("loop", "."), ("up", ".."), ("ping", "pong"), ("pong", "ping"), ("a-run", "runs")):
            Path("runs", name).symlink_to(target)
    else:
        os.chdir("runs")
        for _ in range(950 if where == "deep" else 10):
            folder = "d" if where == "deep" else "n" * 255
            os.mkdir(folder)
            os.chdir(folder)
        os.chdir(here)
    said = watched(capfd, ["compare", "runs", "--json"])
    assert said.code == 0
    assert len(json.loads(said.out)["networks"]) == 4


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_outside_the_encoding_of_the_output_are_escaped(tree, make_run, encoding):
    Path("runs/good-plain").rename("runs/\U0001f600 – π")
    command = [sys.executable, "-m", "resnet_cli", "compare", "runs"]
    bare = subprocess.run(command, env=environment(encoding), capture_output=True, check=True)
    assert bare.stderr == b""
    assert b"resnet-8 \\u2212 plain-8" in bare.stdout
    run = make_run(Path("runs/\U0001f601"), status="incomplete", **SMALL)
    said = subprocess.run([*command, "--json"], env=environment(encoding), capture_output=True, check=True)
    assert json.loads(said.stdout.decode(encoding))["skipped"][0]["path"] == str(run.path)


def environment(encoding):
    return {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(resnet_cli.__file__).parents[1])}
