"""`resnet show` from the command line."""

import json
import re
import tomllib

import pytest

from resnet_cli.cli.app import run
from resnet_cli.config import RunConfig
from resnet_cli.errors import ExitCode
from resnet_cli.rundir import Attempt


@pytest.fixture
def incomplete(make_run, tmp_path, monkeypatch):
    """An incomplete run at runs/a, with one attempt."""
    monkeypatch.chdir(tmp_path)
    made = make_run("runs/a", arch="plain", depth=56, lr=0.05, epochs=8, status="incomplete")
    record = made.read_record()
    made.append_attempt(Attempt(
        started_at="2026-01-02T03:04:05Z", argv=("resnet",), tool_version="0.1.0", step=77,
        environment=record.environment, decisions=record.decisions,
    ))  # fmt: skip
    return made


def shown(capsys, *arguments):
    assert run(["show", *arguments]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_an_incomplete_run_is_shown_with_its_progress_and_the_command_that_resumes_it(incomplete, capsys):
    out = shown(capsys, "runs/a")
    assert out.splitlines()[0] == "plain-56 on CIFAR-10, seed 0"
    assert "incomplete: epoch 4 of 200, about 1 h 47 min left at 33 s per epoch" in out
    assert re.search(r"lr +0\.05 +recipe: 0\.1", out)
    assert re.search(r"batch_size +128 *\n", out)
    assert re.search(r"2026-01-02T03:04:05Z +from step 77, version 0\.1\.0, torch 2\.10\.0, test CPU", out)
    assert re.search(r"metrics\.csv +\d+ bytes", out)
    assert out.endswith("  resume  resnet train --from runs/a --out runs/a\n  repeat  resnet train --from runs/a\n")


def test_a_complete_run_is_shown_with_last_and_best_results(make_run, tmp_path, capsys):
    out = shown(capsys, str(make_run(tmp_path / "a", accuracy=91.0).path))
    assert "complete: 3 epochs, trained for 1 min 30 s, evaluated for 9.0 s" in out
    assert "Results (* chosen on the test set)" in out
    assert re.search(r"test accuracy +91\.00 % +91\.10 %", out)
    assert "resume" not in out


def test_an_interrupted_run_shows_the_epoch_and_the_step_of_its_checkpoint(make_run, tmp_path, capsys):
    run = make_run(tmp_path / "a", status="incomplete", epochs=8)
    header = json.dumps({"__metadata__": {"state": json.dumps({"step": 1600})}}).encode()
    run.checkpoint_path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "incomplete: epoch 4 of 200, saved at step 1,600 of 78,200" in shown(capsys, str(run.path))


def test_a_diverged_run_is_shown_with_the_reason(make_run, tmp_path, capsys):
    out = shown(capsys, str(make_run(tmp_path / "a", status="diverged").path))
    assert "diverged: the loss was not finite in epoch 2, step 392, at lr 0.1" in out


def test_the_toml_text_is_the_configuration(incomplete, capsys):
    values = tomllib.loads(shown(capsys, "runs/a", "--toml"))
    assert RunConfig.from_dict({"epochs": None, **values}) == incomplete.read_record().config


def test_the_json_document_contains_everything(incomplete, capsys):
    document = json.loads(shown(capsys, "runs/a", "--json"))
    assert (document["schema_version"], document["status"], document["epoch"]) == (1, "incomplete", 4)
    assert document["run"]["config"]["lr"] == 0.05
    assert document["recipe_differences"] == {"lr": {"value": 0.05, "recipe": 0.1}}
    assert document["attempts"][0]["step"] == 77
    assert document["files"]["metrics.csv"] == incomplete.metrics_path.stat().st_size
    assert document["commands"]["resume"] == "resnet train --from runs/a --out runs/a"


def test_a_run_on_images_from_python_has_no_command(make_run, tmp_path, capsys):
    out = shown(capsys, str(make_run(tmp_path / "a", dataset="arrays").path))
    assert "resnet_cli.train(config, dataset=(train, test))" in out
    assert "resnet train" not in out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_commands_are_not_wrapped_and_all_else_fits_the_terminal(make_run, tmp_path, monkeypatch, capsys, width):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    path = "runs/" + "-".join(["long"] * 12)
    make_run(path, status="incomplete")
    above, _, commands = re.sub(r"\x1b\[[\d;]*m", "", shown(capsys, path)).partition("Commands\n")
    assert all(len(line) <= width for line in above.splitlines())
    assert commands.splitlines()[0] == f"  resume  resnet train --from {path} --out {path}"


def test_names_from_files_cannot_control_the_terminal(make_run, tmp_path, capsys):
    made = make_run(tmp_path / "a\x1b[2J", environment={"device_name": "\x1b[31m[red]x[/red]"})
    made.record_path.write_text(made.record_path.read_text().replace('"CIFAR-10"', '"\\u001b[2J"'))
    (made.path / "weights" / "\x9b31m").write_text("")
    out = shown(capsys, str(made.path))
    assert {c for c in out if not c.isprintable()} == {"\n"}
    assert r"\x1b[31m[red]x[/red]" in out


def test_a_run_with_thousands_of_files_is_shown_in_few_lines(make_run, tmp_path, capsys):
    made = make_run(tmp_path / "a")
    for number in range(100):
        (made.path / f"{number}.txt").touch()
    out = shown(capsys, str(made.path))
    assert "and 56 more" in out
    assert len(out.splitlines()) < 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing does not exist"),
        (["."], ". is not a run directory: it has no run.json"),
        (["bad"], "bad/run.json cannot be read"),
        (["bad", "--toml"], "bad/run.json cannot be read"),
        (["bad", "--toml", "--json"], "--toml and --json cannot be combined"),
    ],
)
def test_an_unusable_run_is_one_line(make_run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    make_run("bad").record_path.write_text("{")
    assert run(["show", *arguments]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
