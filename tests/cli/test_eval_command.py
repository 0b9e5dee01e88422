"""`resnet eval` on short real runs on the embedded digits and on weight files made from them."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save

from resnet_cli.analysis.metrics import evaluate_predictions
from resnet_cli.cli import evaluate as evaluate_command
from resnet_cli.cli.app import run
from resnet_cli.evaluation import EvalOptions, evaluate_saved
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import train
from resnet_cli.util.checksum import with_checksum

pytestmark = pytest.mark.usefixtures("one_thread")

DIGITS = ["--dataset", "digits", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete run whose best weights were chosen on the test set."""
    path = tmp_path_factory.mktemp("runs") / "resnet"
    config = make_config("demo", arch="resnet", depth=8, epochs=3, lr=0.1, limit_train=300, limit_test=120)
    train(config, path)
    return path


@pytest.fixture(scope="module")
def trained_on_pixel_mean(tmp_path_factory):
    """A complete run of a plain network with a validation split and pixel-mean normalisation."""
    path = tmp_path_factory.mktemp("runs") / "plain"
    fields = {"epochs": 2, "limit_train": 300, "val_size": 60, "normalization": "pixel-mean"}
    train(make_config("demo", arch="plain", depth=8, **fields), path)
    return path


def make_image_folder(root):
    """Write ten classes `digit 0` …, with two noisy 32×32 training images and two test images per class."""
    noise = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(10):
            folder = root / part / f"digit {label}"
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def copy(trained, tmp_path):
    """A run directory that a test may change."""
    return RunDir(shutil.copytree(trained, tmp_path / "copy"))


@pytest.fixture
def call(capsys):
    """Run a command line and return (exit code, stdout, stderr)."""

    def call_(*arguments):
        code = run(["eval", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call_


@pytest.fixture
def document(call):
    """Run a command line with --json, which must succeed, and return its document."""

    def document_(*arguments):
        code, out, err = call(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return document_


@pytest.fixture
def rejection(call):
    """Run a command line that must exit with code 2 and one line on stderr, and return the line."""

    def rejection_(*arguments):
        code, out, err = call(*arguments, "--quiet")
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("error: ") == 1
        assert "\\n" not in err  # an escaped line break inside the message
        return " ".join(err.split())  # without the line breaks from wrapping

    return rejection_


def edit_record(run_dir, change):
    record = json.loads(run_dir.record_path.read_text())
    change(record)
    run_dir.record_path.write_text(json.dumps(record))


@pytest.fixture
def akamaster(trained, tmp_path):
    """The last weights of the run, saved as the code of akamaster saves them."""
    state = load_file(trained / "weights" / "last.safetensors")
    theirs = {f"module.{name.replace('fc.', 'linear.')}": state[name] for name in state if "num_batches" not in name}
    path = tmp_path / "resnet8.th"
    torch.save({"state_dict": theirs, "best_prec1": 9.0}, path, _use_new_zipfile_serialization=False)
    return path


def test_eval_of_the_last_weights_gives_the_metrics_that_training_recorded(trained, document):
    summary, predictions = RunDir(trained).read_summary(), RunDir(trained).read_predictions()
    result = document(trained)
    assert result["error_pct"] == summary.last.test_error_pct
    assert result["loss"] == pytest.approx(summary.last.test_loss, rel=1e-6)
    expected = evaluate_predictions(predictions.logits, predictions.labels, "0123456789")
    assert result["confusion_matrix"] == expected.confusion_matrix.tolist()
    assert (result["weights"]["which"], result["best_chosen_on"]) == ("last", None)


def test_eval_of_the_best_weights_gives_the_best_metrics_and_names_the_set_that_selected_them(trained, call, document):
    result = document(trained, "--which", "best")
    assert result["error_pct"] == RunDir(trained).read_summary().best.test_error_pct
    assert result["best_chosen_on"] == "test"
    _, out, err = call(trained, "--which", "best")
    assert "(best, chosen on the test set)" in out
    assert "the best weights were chosen on the test set" in err
    assert call(trained, "--which", "best", "--quiet") == (0, out, "")


def test_eval_which_selects_the_weights_of_a_run(copy, document):
    with safe_open(copy.best_weights_path, "pt") as file:
        metadata = file.metadata()
    constant = load_file(copy.best_weights_path)
    constant["fc.weight"].zero_()
    constant["fc.bias"].copy_(torch.arange(10.0))
    copy.best_weights_path.write_bytes(with_checksum(save(constant, metadata)))
    assert [one["num_predicted"] for one in document(copy.path, "--which", "best")["per_class"]] == [0] * 9 + [120]
    assert document(copy.path)["per_class"][9]["num_predicted"] < 120
    assert document(copy.path) == document(copy.path, "--which", "last")


def test_eval_json_is_one_document_with_the_counts_at_the_top(trained, call):
    code, out, err = call(trained, "--json", "--quiet")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert list(result)[:4] == ["schema_version", "accuracy_pct", "num_correct", "num_examples"]
    assert result["num_examples"] == 120
    assert result["accuracy_pct"] == 100 * result["num_correct"] / 120
    assert result["network"] == {"name": "resnet-8", "arch": "resnet", "depth": 8, "shortcut": "A", "num_classes": 10}
    assert result["dataset"]["name"] == "digits"
    assert result["dataset"]["matches_run"] is True
    assert len(result["per_class"]) == len(result["confusion_matrix"]) == 10


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_counts_of_eval_do_not_depend_on_the_batch_size(trained, document, batch_size):
    whole, pieces = document(trained), document(trained, "--batch-size", batch_size)
    for key in ("num_correct", "num_examples", "accuracy_pct", "confusion_matrix"):
        assert pieces[key] == whole[key]
    assert pieces["loss"] == pytest.approx(whole["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("split", "num_examples", "recorded"),
    [("train", 240, "train_clean_error_pct"), ("val", 60, "val_error_pct"), ("test", 360, "test_error_pct")],
)
def test_each_split_of_a_pixel_mean_run_gives_the_recorded_error(
    trained_on_pixel_mean, document, split, num_examples, recorded
):
    result = document(trained_on_pixel_mean, "--split", split)
    assert result["num_examples"] == num_examples
    assert result["error_pct"] == getattr(RunDir(trained_on_pixel_mean).read_summary().last, recorded)
    assert result["normalization"]["kind"] == "pixel-mean"


def test_the_best_weights_of_a_run_with_a_validation_split_were_chosen_on_it(trained_on_pixel_mean, document):
    assert document(trained_on_pixel_mean, "--which", "best")["best_chosen_on"] == "val"


def test_limit_test_selects_from_the_test_set_of_the_run(trained, document):
    result = document(trained, "--limit-test", 50)
    assert result["num_examples"] == 50
    assert result["dataset"]["matches_run"] is True


def test_an_unfinished_run_is_evaluated_with_a_note(copy, document):
    copy.summary_path.unlink()
    assert document(copy.path)["notes"] == ["the run is not complete (incomplete); these are the weights saved so far"]


def test_data_that_differ_from_the_run_are_rejected_unless_allowed(copy, rejection, document):
    edit_record(copy, lambda record: record["dataset"].update(fingerprint="0123456789abcdef"))
    message = rejection(copy.path)
    assert "0123456789ab" in message
    real = document(copy.path, "--allow-other-data")
    assert real["dataset"]["matches_run"] is False
    assert real["dataset"]["fingerprint"][:12] in message
    assert any("not on the data of the run" in note for note in real["notes"])


def test_another_dataset_than_that_of_the_run_is_rejected_unless_allowed(
    trained, rejection, call, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = ["--dataset", "imagefolder", "--data-dir", make_image_folder(tmp_path / "images")]
    assert "was trained on digits" in rejection(trained, *other)
    code, out, err = call(trained, *other, "--allow-other-data")
    assert (code, "20 images" in out) == (0, True)
    assert "the names of the classes differ" in err


def test_an_image_folder_is_found_in_its_recorded_or_its_current_location(tmp_path, document, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before, now = make_image_folder(tmp_path / "before"), tmp_path / "now"
    config = make_config(arch="plain", depth=8, dataset="imagefolder", epochs=1, batch_size=20, milestones=())
    monkeypatch.setenv("RESNET_DATA", str(before))
    result = train(config, tmp_path / "run")
    monkeypatch.delenv("RESNET_DATA")
    first = document(tmp_path / "run")
    assert first["error_pct"] == result.summary.last.test_error_pct
    before.rename(now)
    monkeypatch.setenv("RESNET_DATA", str(now))
    assert document(tmp_path / "run")["confusion_matrix"] == first["confusion_matrix"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--depth", 20], ("--depth 20", "8 layers")),
        (["--arch", "plain"], ("--arch plain", "a residual (shortcut A) network")),
        (["--shortcut", "B"], ("--shortcut B", "shortcut A")),
        (["--split", "val"], ("no validation split",)),
        (["--limit-test", 3], ("--limit-test must be between", "(got 3)")),
        (["--limit-test", 50, "--split", "train"], ("--limit-test does not apply",)),
        (["--batch-size", 0], ("--batch-size must be at least 1 (got 0)",)),
        (["--mean", "0.5,0.5,0.5"], ("--mean and --std must be given together",)),
        (["--mean", "0.5,0.5", "--std", "1,1,1"], ("--mean must be three numbers (got '0.5,0.5')",)),
        (["--mean", "a,b,c", "--std", "1,1,1"], ("'a,b,c'",)),
        (["--mean", "125,123,114", "--std", "63,62,67"], ("--mean 125,123,114", "by 255")),
        (["--mean", "0.5,0.5,0.5", "--std", "0.2,0,0.2"], ("--std 0.2,0,0.2",)),
        (["--mean", "nan,0.5,0.5", "--std", "1,1,1"], ("--mean nan,0.5,0.5",)),
        (["--device", "abacus"], ("abacus",)),
    ],
)
def test_an_option_of_eval_that_does_not_fit_the_run_is_rejected(trained, rejection, options, words):
    message = rejection(trained, *options)
    assert all(word in message for word in words)


def test_an_unsupported_device_is_refused_before_the_images_are_read(trained, rejection, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("resnet_cli.evaluation.open_data", None)
    assert "--device mps is not available on this machine" in rejection(trained, "--device", "mps")


@pytest.mark.parametrize("options", [[], ["--which", "best"]])
def test_a_path_that_does_not_exist_is_rejected(tmp_path, rejection, options):
    message = rejection(tmp_path / "none", *options)
    assert f"{tmp_path / 'none'} does not exist; pass a run directory or a weight file" in message


def test_the_error_for_missing_weights_of_a_run_names_the_available_ones(copy, rejection):
    copy.best_weights_path.unlink()
    assert "--which last" in rejection(copy.path, "--which", "best")
    copy.last_weights_path.unlink()
    copy.summary_path.unlink()
    message = rejection(copy.path)
    assert "last.safetensors is missing" in message
    assert "incomplete" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["config"].update(seed=1),
        lambda record: (record["dataset"]["classes"].append("eleven"), record["model"].update(num_classes=11)),
    ],
    ids=["configuration", "classes"],
)
def test_weights_that_do_not_belong_to_the_run_are_rejected(copy, rejection, change):
    edit_record(copy, change)
    assert "does not belong to the run" in rejection(copy.path)


def test_a_weight_file_of_a_run_gives_the_same_counts_as_the_run(trained, document):
    of_file = document(trained / "weights" / "best.safetensors", "--limit-test", 120)
    assert of_file["confusion_matrix"] == document(trained, "--which", "best")["confusion_matrix"]
    assert (of_file["weights"]["format"], of_file["weights"]["which"]) == ("resnet-cli", None)
    assert of_file["dataset"]["matches_run"] is None
    on_train = document(trained / "weights" / "last.safetensors", "--split", "train")
    last = RunDir(trained).read_summary().last
    assert (on_train["num_examples"], on_train["error_pct"]) == (300, last.train_clean_error_pct)


def test_a_weight_file_trained_on_pixel_mean_images_needs_its_run_or_a_mean(trained_on_pixel_mean, rejection, document):
    weights = trained_on_pixel_mean / "weights" / "last.safetensors"
    assert "evaluate its run directory" in rejection(weights)
    result = document(weights, "--mean", "0.3,0.3,0.3", "--std", "1,1,1")
    assert result["normalization"] == {
        "kind": "channel", "mean": [0.3] * 3, "std": [1.0] * 3, "source": "--mean and --std",
    }  # fmt: skip


def test_a_pixel_mean_run_is_not_evaluated_on_other_data(trained_on_pixel_mean, tmp_path, rejection):
    copied = RunDir(shutil.copytree(trained_on_pixel_mean, tmp_path / "copy"))
    edit_record(copied, lambda record: record["dataset"].update(fingerprint="0"))
    assert "mean image" in rejection(copied.path, "--allow-other-data")


def test_an_akamaster_file_is_evaluated_with_its_own_normalisation(akamaster, call, document):
    result = document(akamaster, *DIGITS)
    assert (result["weights"]["format"], result["network"]["name"]) == ("akamaster", "resnet-8")
    assert result["normalization"]["mean"] == [0.485, 0.456, 0.406]
    assert result["normalization"]["std"] == [0.229, 0.224, 0.225]
    assert "recognised as a network from akamaster" in call(akamaster, *DIGITS)[2]


def test_a_given_mean_and_std_override_those_of_the_format(trained, akamaster, document):
    record = RunDir(trained).read_record().dataset
    mean, std = (",".join(map(str, values)) for values in (record.mean, record.std))
    given = document(akamaster, *DIGITS, "--mean", mean, "--std", std, "--limit-test", 120)
    assert given["confusion_matrix"] == document(trained)["confusion_matrix"]


def test_a_plain_state_dict_needs_its_architecture_and_uses_the_statistics_of_the_dataset(
    trained, tmp_path, call, rejection
):
    weights = tmp_path / "weights.pt"
    torch.save(load_file(trained / "weights" / "last.safetensors"), weights)
    assert "--arch plain or --arch resnet" in rejection(weights, *DIGITS)
    _, out, err = call(weights, *DIGITS, "--arch", "resnet", "--depth", 8, "--shortcut", "A")
    assert "does not record the normalisation" in err
    assert "(digits (16×16))" in out


def test_a_network_with_more_outputs_than_classes_is_rejected(tmp_path, rejection):
    torch.save(build_model("resnet", 8, "B", num_classes=100).state_dict(), tmp_path / "hundred.pt")
    assert "100 outputs, but digits (16×16) has 10 classes" in rejection(tmp_path / "hundred.pt", *DIGITS)


def test_weights_whose_outputs_overflow_are_rejected(tmp_path, rejection):
    state = build_model("plain", 8).state_dict()
    state["fc.weight"].fill_(3e38)
    state["bn1.bias"].fill_(1e3)
    torch.save(state, tmp_path / "huge.pt")
    assert "not finite" in rejection(tmp_path / "huge.pt", *DIGITS, "--arch", "plain")


def test_a_path_without_run_or_weights_is_rejected(tmp_path, rejection):
    text = tmp_path / "notes.txt"
    text.write_text("not weights at all\n")
    assert "it starts with b'not weights" in rejection(text)
    assert "has no run.json" in rejection(tmp_path)
    assert "omit --which" in rejection(text, "--which", "best")


@pytest.fixture
def page(trained):
    """Lay out an evaluation of the run, with other metrics in place of its own, in 80 columns."""

    def page_(metrics):
        report = evaluate_saved(trained, EvalOptions(device="cpu"))
        console = Console(file=io.StringIO(), width=80, markup=False, highlight=False)
        console.print(evaluate_command._page(report._replace(metrics=metrics), 80))
        return console.file.getvalue()

    return page_


def test_eval_shows_all_metrics_within_eighty_columns(trained, page):
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    predictions = RunDir(trained).read_predictions()
    metrics = evaluate_predictions(predictions.logits, predictions.labels, names)
    text = page(metrics)
    assert max(map(len, text.splitlines())) <= 80
    for words in "accuracy", "error", "cross-entropy (NLL)", "Brier", "ECE (15 bins)", "precision", "recall", "F1":
        assert words in text
    assert f"{metrics.accuracy_pct:.2f} %" in text
    matrix_row = next(line for line in text.splitlines() if line.startswith("automobile  ") and "–" not in line)
    counts = [0 if cell == "·" else int(cell) for cell in matrix_row.split()[1:]]
    assert counts == metrics.confusion_matrix[1].tolist()


def test_a_confusion_matrix_too_wide_for_the_terminal_becomes_a_list_of_frequent_confusions(page):
    labels = np.repeat(np.arange(100), 3)
    logits = np.eye(100)[labels]
    logits[[0, 1, 21], 1] = 5.0  # two of class 0 and one of class 7 are taken for class 1
    text = page(evaluate_predictions(logits, labels, [f"class {n}" for n in range(100)]))
    lines = [line.split() for line in text.partition("most frequent confusions")[2].splitlines()]
    assert lines[2:] == [["class", "0", "class", "1", "2"], ["class", "7", "class", "1", "1"]]


def test_similar_class_names_are_numbered_and_undefined_metrics_are_dashes(page):
    text = page(evaluate_predictions(np.eye(3)[[0, 0]], np.array([0, 1]), ("class a", "class b", "class\x1b[2J c")))
    assert "0 class a" in text
    assert "\x1b" not in text
    absent = next(line for line in text.splitlines() if line.startswith("class\\x1b"))
    assert absent.split()[2:] == ["0", "—", "—", "—", "—", "—"]
