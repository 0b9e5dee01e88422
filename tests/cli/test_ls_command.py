"""`resnet ls` from the command line: columns, filters, order, formats and damaged runs."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from resnet_cli.analysis.overview import OVERVIEW_COLUMNS
from resnet_cli.cli.app import run
from resnet_cli.errors import ExitCode
from resnet_cli.util.text import printable

HEADERS = "status epoch network recipe changes seed test acc % clean err % age size path"


@pytest.fixture
def runs(make_run, tmp_path, monkeypatch):
    """A folder `runs` in the current folder: complete, incomplete, diverged and damaged runs."""
    monkeypatch.chdir(tmp_path)
    make_run("runs/a", arch="plain", depth=56, accuracy=86.0, train_error=5.0, predictions=False)
    make_run("runs/b", lr=0.05, milestones=(), seed=1, accuracy=91.0, train_error=2.0, predictions=False)
    make_run("runs/deep/c", status="incomplete", epochs=8, recipe="demo", dataset="digits")
    make_run("runs/d", status="diverged", depth=110, recipe="he2015")
    make_run("runs/bad")
    (tmp_path / "runs/bad/run.json").write_text('{"run_id": "\x1b[31m')
    for name, day in (("a", 3), ("b", 1), ("deep/c", 2), ("d", 4)):
        path = tmp_path / "runs" / name / "run.json"
        path.write_text(path.read_text().replace("2026-01-02T", f"2026-01-0{day}T"))


def listed(capsys, *arguments):
    assert run(["ls", *arguments]) == ExitCode.DONE
    return capsys.readouterr()


def paths(capsys, *arguments):
    return [row["path"] for row in json.loads(listed(capsys, *arguments, "--json").out)["runs"]]


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdout a terminal of a given width."""

    def of_width(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich then takes any stream for a terminal

    return of_width


def test_there_is_one_line_per_run_with_the_newest_first(runs, capsys):
    out, err = listed(capsys)
    header, *lines = out.splitlines()
    assert header.split() == HEADERS.split()
    assert [line.split()[-1] for line in lines] == ["runs/d", "runs/a", "runs/deep/c", "runs/b", "runs/bad"]
    fields = {line.split()[-1]: line.split() for line in lines}
    assert fields["runs/a"][:8] == ["complete", "3/200", "plain-56", "report2025", "—", "0", "86.00", "5.00"]
    assert fields["runs/b"][4:6] == ["lr=0.05", "milestones=none"]
    assert fields["runs/deep/c"][:4] == ["incomplete", "4/20", "resnet-20", "demo"]
    assert fields["runs/d"][:3] == ["diverged", "1/182", "resnet-110"]
    assert fields["runs/bad"][0] == "unreadable"
    assert err == f"warning: runs/bad: {reason_of(capsys, 'runs/bad')}\n"


def reason_of(capsys, path):
    (row,) = [row for row in json.loads(listed(capsys, "--json").out)["runs"] if row["path"] == path]
    return printable(row["reason"])


def test_numbers_are_aligned_on_the_right_and_no_line_ends_with_blanks(runs, capsys):
    header, *lines = listed(capsys, "--filter", "status!=unreadable").out.splitlines()
    end = header.index("test acc %") + len("test acc %")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines)
    assert all(line == line.rstrip() and "\t" not in line for line in [header, *lines])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--filter", "depth=56 status=complete"], ["runs/a"]),
        (["--filter", "lr<0.1", "--filter", "status=complete"], ["runs/b"]),
        (["--filter", "network=resnet-* test_accuracy_pct>0", "--sort", "test_accuracy_pct"],
         ["runs/d", "runs/deep/c", "runs/b"]),
        (["--sort=-test_accuracy_pct", "--filter", "status=complete"], ["runs/b", "runs/a"]),
        (["--sort", "path"], ["runs/a", "runs/b", "runs/bad", "runs/d", "runs/deep/c"]),
        (["--filter", "created_at>=2026-01-03"], ["runs/d", "runs/a"]),
        (["runs/deep", "runs/a"], ["runs/a", "runs/deep/c"]),
    ],
)  # fmt: skip
def test_runs_are_filtered_and_sorted_by_any_column(runs, capsys, arguments, expected):
    assert paths(capsys, *arguments) == expected


def test_the_json_document_has_every_column_of_every_run(runs, capsys):
    out, err = listed(capsys, "--json")
    document = json.loads(out)
    assert document["schema_version"] == 1
    assert all(tuple(row) == tuple(OVERVIEW_COLUMNS) for row in document["runs"])
    assert "runs/bad" in err


def test_the_csv_format_has_every_column(runs, capsys):
    rows = list(csv.DictReader(io.StringIO(listed(capsys, "--format", "csv").out)))
    assert tuple(rows[0]) == tuple(OVERVIEW_COLUMNS)
    assert [row["milestones"] for row in rows] == ["32000 48000", "80 120", "", "", ""]


def test_text_that_a_spreadsheet_would_run_is_quoted_in_csv(make_run, tmp_path, capsys):
    path = make_run(tmp_path / "a").record_path
    path.write_text(path.read_text().replace('"CIFAR-10"', '"=1+1"'))
    (row,) = csv.DictReader(io.StringIO(listed(capsys, str(tmp_path), "--format", "csv").out))
    assert row["dataset_display_name"] == "'=1+1"


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_lines_fit_the_terminal_and_hidden_columns_are_named(runs, capsys, terminal, width):
    terminal(width)
    out, err = listed(capsys, "--filter", "status!=unreadable")
    assert all(cell_len(line) <= width for line in out.splitlines())
    assert out.count("runs/") == 4
    assert "86.00" in out
    assert ("columns hidden at this width: " in err) == (width < 100)


@pytest.mark.parametrize("width", [60, 80])
def test_long_paths_are_shortened_in_the_middle_before_columns_are_hidden(
    make_run, tmp_path, monkeypatch, capsys, terminal, width
):
    monkeypatch.chdir(tmp_path)
    path = f"runs/{'a-folder-with-a-long-name/' * 3}plain-56-seed7"
    make_run(path, arch="plain", depth=56, seed=7, predictions=False)
    terminal(width)
    out, _ = listed(capsys)
    header, line = out.splitlines()[-2:]
    assert "network" in header
    assert "plain-56 " in line
    assert re.search(r" runs\S*…\S*-seed7$", line)
    assert len(line) <= width
    terminal(400)
    assert listed(capsys).out.splitlines()[-1].endswith(path)


def test_an_unfinished_run_shows_the_step_of_its_checkpoint(make_run, tmp_path, capsys):
    run = make_run(tmp_path / "a", status="incomplete", epochs=8)
    metadata = {"format": "resnet-cli checkpoint", "state": json.dumps({"step": 1600})}
    header = json.dumps({"__metadata__": metadata}).encode()
    run.checkpoint_path.write_bytes(len(header).to_bytes(8, "little") + header + b"tensors")
    out = listed(capsys, str(tmp_path)).out
    assert "saved step" in out
    assert "  1600  " in out
    assert json.loads(listed(capsys, str(tmp_path), "--json").out)["runs"][0]["saved_step"] == 1600
    run.checkpoint_path.write_bytes(b"\xff" * 30)
    assert "saved step" not in listed(capsys, str(tmp_path)).out


def test_long_lists_of_changes_are_shortened_at_a_blank(make_run, tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.chdir(tmp_path)
    make_run("runs/a", lr=0.05, momentum=0.8, weight_decay=0.0, batch_size=64, augment="none")
    assert "augment=none batch_size=64 lr=0.05 momentum=0.8 weight_decay=0.0  " in listed(capsys).out
    terminal(125)
    assert "  augment=none batch_size=64 lr=0.05 +2  " in listed(capsys).out
    terminal(105)
    assert "  augment=none +4  " in listed(capsys).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "acc"], "unknown column --sort=acc; the closest columns are"),
        (["--filter", "deph=56"], "unknown column deph; the closest columns are depth"),
        (["--json", "--format", "csv"], "--json and --format csv cannot be combined"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_usage_is_one_line(runs, capsys, arguments, message):
    assert run(["ls", *arguments]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_without_the_default_folder_has_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert listed(capsys) == ("", "no runs yet; start one with resnet train\n")
    assert json.loads(listed(capsys, "--json").out)["runs"] == []


def test_a_damaged_table_of_an_unfinished_run_is_a_warning_and_the_run_is_listed(runs, tmp_path, capsys):
    (tmp_path / "runs/deep/c/metrics.csv").write_text("nonsense\n")
    out, err = listed(capsys, "--filter", "recipe=demo")
    assert out.splitlines()[1].split()[:2] == ["incomplete", "0/20"]
    assert err.startswith("warning: runs/deep/c: metrics.csv does not have the columns")


def test_a_filter_that_no_run_fulfils_prints_nothing_on_stdout(runs, capsys):
    assert listed(capsys, "--filter", "depth=8") == ("", "no run matches --filter\n")


@pytest.mark.parametrize("date", ["never", "2026-01-02", "9999-12-31T23:59:59Z", ""])
def test_an_odd_creation_time_is_no_obstacle(make_run, tmp_path, capsys, date):
    run = make_run(tmp_path / "a")
    run.record_path.write_text(run.record_path.read_text().replace("2026-01-02T03:04:05Z", date))
    assert "complete" in listed(capsys, str(tmp_path)).out


def test_reading_runs_imports_neither_torch_nor_pandas(runs):
    code = (
        "import sys; from resnet_cli.cli.app import run; "
        "codes = [run(['ls']), run(['show', 'runs/a']), run(['show', 'runs/a', '--toml']), "
        "run(['diff', 'runs/a', 'runs/b'])]; "
        "print(codes, [name for name in ('torch', 'pandas', 'matplotlib') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[0, 0, 0, 0] []"
