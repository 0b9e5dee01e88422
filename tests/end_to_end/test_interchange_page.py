"""The examples in docs/interchange.md work."""

import re
import sys
import types
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from resnet_cli.cli.app import run
from resnet_cli.rundir import METRICS_COLUMNS, EpochMetrics, RunDir

PAGE = (Path(__file__).parents[2] / "docs" / "interchange.md").read_text()


def example(language, text):
    """The only code block of a language that contains `text`."""
    (block,) = [code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if text in code]
    return block


@pytest.fixture
def stand_in(monkeypatch):
    """A function that replaces a package by a recorder of calls, each (name, arguments, options)."""

    def replace(name):
        calls = []

        class Recorder(types.ModuleType):
            def __getattr__(self, attribute):
                if attribute.startswith("__"):
                    raise AttributeError(attribute)

                def function(*arguments, **options):
                    calls.append((attribute, arguments, options))
                    return self

                return function

        monkeypatch.setitem(sys.modules, name, Recorder(name))
        return calls

    return replace


@pytest.mark.usefixtures("one_thread")
def test_the_reporter_for_weights_and_biases_logs_every_epoch(stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = stand_in("wandb")
    exec(example("python", "import wandb"), {})  # noqa: S102
    (path,) = (tmp_path / "runs").iterdir()
    trained = RunDir(path)
    assert [name for name, _, _ in calls] == ["init", "log", "log", "finish"]
    assert calls[0][2]["config"] == trained.read_record().config.to_dict()
    assert calls[0][2]["id"] == trained.read_record().run_id
    logged = [(options["step"], values) for name, (values,), options in calls[1:3] if name == "log"]
    assert logged == [(row.epoch, msgspec.structs.asdict(row)) for row in trained.read_epochs()]


@pytest.mark.usefixtures("one_thread")
def test_the_reporter_for_mlflow_logs_every_measured_value(stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = stand_in("mlflow")
    exec(example("python", "import mlflow"), {})  # noqa: S102
    assert [name for name, _, _ in calls] == ["start_run", "log_params", "log_metrics", "log_metrics", "end_run"]
    (path,) = (tmp_path / "runs").iterdir()
    for (_, (values,), options), row in zip(calls[2:4], RunDir(path).read_epochs(), strict=True):
        assert options == {"step": row.epoch}
        assert values["test_error_pct"] == row.test_error_pct
        assert None not in values.values()


def test_the_examples_of_reporters_are_short():
    for package in ("wandb", "mlflow"):
        body = example("python", f"import {package}").split("class ")[1].split("\n\n\n")[0]
        assert len([line for line in body.splitlines() if line]) <= 10


def test_the_dvc_file_refers_to_files_and_columns_that_exist(make_run, tmp_path):
    trained = make_run(tmp_path / "run")
    stage, plots = example("yaml", "stages:").split("plots:")
    (summary,) = re.findall(r"- run/(.*):\n\s+cache: false", stage)
    assert RunDir("run").summary_path == Path("run") / summary
    assert (tmp_path / "run" / summary).is_file()
    assert RunDir("run").last_weights_path == Path(re.search(r"outs:\n\s+- (.*)", stage)[1])
    (table,) = re.findall(r"- run/(.*):", plots)
    columns = [*re.findall(r"x: (.*)", plots), *re.findall(r"^ {8}- (.*)", plots, re.MULTILINE)]
    assert len(columns) == 3
    assert set(columns) <= set(pd.read_csv(tmp_path / "run" / table).columns) == set(METRICS_COLUMNS)
    named = re.search(r"compares `last\.(\w+)`", PAGE)[1]
    assert named in EpochMetrics.__struct_fields__
    assert named in msgspec.json.decode(trained.summary_path.read_bytes())["last"]


def test_a_comparison_reads_straight_into_pandas(make_run, tmp_path, monkeypatch, capsys):
    for arch in ("plain", "resnet"):
        for depth in (20, 56):
            make_run(tmp_path / "runs" / f"{arch}-{depth}", arch=arch, depth=depth)
    monkeypatch.chdir(tmp_path)
    assert run(["compare", "runs/", "--format", "csv", "--out", "results.csv"]) == 0
    capsys.readouterr()
    names = {}
    exec(example("python", "read_csv"), names)  # noqa: S102
    table = names["results"].pivot(index="depth", columns="arch", values="train_clean_error_pct")
    assert table.shape == (2, 2)
    assert table.notna().all(axis=None)
    assert str(table) in capsys.readouterr().out
    formula = re.search(r"aggregate\((\w+) ~ (\w+) \+ (\w+)", example("r", "read.csv")).groups()
    assert set(formula) <= set(names["results"].columns)
