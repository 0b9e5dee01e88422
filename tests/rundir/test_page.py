"""README.md of a run directory: the result, and a command that repeats the run."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from resnet_cli.cli import train
from resnet_cli.cli.app import run as run_command
from resnet_cli.recipes import recipe_label, train_arguments
from resnet_cli.rundir import Decision
from resnet_cli.rundir.page import run_page


@pytest.fixture
def page(make_run, tmp_path):
    """The page of a run made with the given fields; `record` and `summary` replace fields of those."""

    def build(*, record=None, summary=None, **fields):
        run = make_run(tmp_path / "run", **fields)
        record = msgspec.structs.replace(run.read_record(), **(record or {}))
        location = record.dataset.location if record.dataset.name == "imagefolder" else None
        return run_page(
            record,
            msgspec.structs.replace(run.read_summary(), **(summary or {})),
            recipe=recipe_label(record.config),
            arguments=train_arguments(record.config, data_dir=location),
        )

    return build


def rows(page):
    """The cells of the two-column tables of a page, by their first."""
    cells = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    return {name.strip(): value.strip() for name, value in cells}


def command(page):
    (line,) = [line for line in page.splitlines() if line.startswith("    resnet ")]
    return shlex.split(line)


def test_the_page_of_a_run_shows_the_last_and_the_best_result_and_the_set_that_selected_the_best(page):
    results = rows(page(arch="plain", depth=56, accuracy=86.71, train_error=5.0))
    assert results["test accuracy, last epoch (3)"] == "86.71 %"
    assert results["test accuracy, best epoch (2), chosen on the test set"] == "86.81 %"
    assert results["training error, eval mode without augmentation"] == "5.00 %"
    assert results["training time, without evaluation"] == "1 min 30 s"


def test_the_page_of_a_run_without_weights_says_where_their_checksums_are(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    text = run_page(run.read_record(), run.read_summary(), recipe="demo", arguments=[], has_weights=False)
    assert "safetensors" not in text
    assert rows(text)["weights, checkpoints"] == "not included; summary.json has the SHA-256 of the weights"


def test_the_page_of_a_run_on_images_from_python_shows_the_call_that_repeats_it(page, tmp_path, monkeypatch):
    shown = page(dataset="arrays")
    assert "resnet train" not in shown.partition("To repeat")[2]
    calls = []
    monkeypatch.setattr("resnet_cli.train", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.chdir(tmp_path / "run")
    code = "\n".join(line.strip() for line in shown.splitlines() if line.startswith("    "))
    exec(code, {"train": "train images", "test": "test images"})  # noqa: S102
    ((config, out), kwargs) = calls[0]
    assert (config.dataset, out) == ("arrays", "repeated")
    assert kwargs == {"dataset": ("train images", "test images")}


def test_the_page_of_a_run_names_the_validation_set_when_it_selected_the_best_epoch(page):
    assert "test accuracy, best epoch (2), chosen on the val set" in rows(page(val_size=5000, accuracy=90.0))


def test_the_page_of_a_run_marks_a_training_error_that_was_not_measured(page, make_run, tmp_path):
    last = make_run(tmp_path / "other").read_summary().last
    text = page(summary={"last": msgspec.structs.replace(last, train_clean_error_pct=None)})
    assert rows(text)["training error, eval mode without augmentation"] == "not measured"


def test_the_page_of_a_run_opens_with_network_data_seed_and_recipe(page):
    text = page(arch="plain", depth=56, seed=3, recipe="demo", dataset="digits", lr=0.1)
    assert text.startswith("# plain-56 on digits (16×16), seed 3\n")
    assert "(version 0.1.0), recipe demo lr=0.1,\nfinished 2026-01-02T03:04:05Z." in text


def test_the_page_of_a_run_ends_with_data_and_machine(page):
    text = page(val_size=5000)
    assert text.endswith(
        "Trained on 45,000 images (5,000 for validation), tested on 10,000;\ntest CPU, torch 2.10.0, fp32.\n"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"arch": "plain", "depth": 56},
        {"recipe": "he2015", "depth": 110, "shortcut": "B", "seed": 4},
        {"recipe": "demo", "dataset": "digits", "epochs": 3, "gradflow_every": 1},
    ],
)
def test_the_command_on_the_page_gives_the_same_configuration(page, make_run, tmp_path, monkeypatch, fields):
    seen = []
    monkeypatch.setattr(train, "_run", lambda config, *_, **__: seen.append(config))
    program, *arguments = command(page(**fields))
    assert program == "resnet"
    assert run_command(arguments) == 0
    assert seen == [make_run(tmp_path / "same", **fields).read_record().config]


@pytest.mark.parametrize(("dataset", "written"), [("imagefolder", ["--data-dir", "/data/my images"]), ("cifar10", [])])
def test_the_command_on_the_page_names_a_data_folder_only_for_images(page, make_run, tmp_path, dataset, written):
    data = make_run(tmp_path / "other", dataset=dataset).read_record().dataset
    text = page(dataset=dataset, record={"dataset": msgspec.structs.replace(data, location="/data/my images")})
    arguments = command(text)
    at = arguments.index("--data-dir") if written else len(arguments)
    assert arguments[at:] == written


HOSTILE = "\x1b[31m\n# <img src=x onerror=alert(1)>\u202e[click](javascript:1)|`\\"


def test_names_from_elsewhere_add_no_markup_lines_or_control_characters_to_the_page(page, make_run, tmp_path):
    record = make_run(tmp_path / "other").read_record()
    harmless = page(dataset="imagefolder")
    shutil.rmtree(tmp_path / "run")
    text = page(dataset="imagefolder", record={
        "dataset": msgspec.structs.replace(record.dataset, name="imagefolder", display_name=HOSTILE, location=HOSTILE),
        "environment": {"device_name": HOSTILE, "torch": HOSTILE}, "tool_version": HOSTILE,
        "decisions": {"precision": Decision(HOSTILE, HOSTILE)},
    })  # fmt: skip
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == len(harmless.splitlines())
    assert "<img" not in text
    assert "](javascript" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [text.splitlines()[0]]


@pytest.mark.parametrize("name", ["/data/my images", "/a\nb\x1b[31m", os.fsdecode(b"/d\xff'\\"), "/\u2028é"])
def test_a_shell_reads_the_data_folder_on_the_page_as_it_is_named(page, make_run, tmp_path, name):
    data = make_run(tmp_path / "other", dataset="imagefolder").read_record().dataset
    text = page(dataset="imagefolder", record={"dataset": msgspec.structs.replace(data, location=name)})
    (line,) = [line for line in text.splitlines() if line.startswith("    resnet ")]
    said = subprocess.run(
        ["bash", "-c", line.replace("resnet", r"printf '%s\0'", 1)], capture_output=True, check=True
    ).stdout  # fmt: skip
    assert os.fsencode(name) in said.split(b"\0")


def test_every_file_named_on_the_page_is_a_path_of_the_run_directory(page, make_run, tmp_path):
    run = make_run(tmp_path / "other")
    ours = {str(path.relative_to(run.path)) for path in vars(run).values() if isinstance(path, Path)}
    named = [
        name
        for cell in rows(page())
        if cell.endswith(("json", "jsonl", "csv", "npz", "safetensors"))
        for name in cell.split(", ")
    ]
    assert len(named) == 8
    assert set(named) <= ours
