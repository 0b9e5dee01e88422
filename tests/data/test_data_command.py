"""`resnet data` fetches, verifies and describes datasets, for people and for programs."""

import json
import os
import subprocess
import sys

import pytest

from resnet_cli.cli.app import run

DIGITS = "b008b9b015fca5e3ac39e30086785e6a23ffdf3071047da60b8357ec956256fc"


@pytest.fixture
def data(capsys):
    """Runs `resnet data` with arguments; returns its exit code, stdout and stderr."""

    def call(*args):
        code = run(["data", *(str(arg) for arg in args)])
        return code, *capsys.readouterr()

    return call


def test_data_show_describes_the_embedded_digits_in_every_mode(data):
    code, out, err = data("show", "digits")
    assert (code, err) == (0, "")
    for text in (DIGITS, "digits (16×16)", "1,437 training, 0 validation, 360 test", "16×16 RGB", "0.3056", "embedded"):
        assert text in out
    assert data("show", "digits", "--quiet") == (code, out, err)
    code, out, err = data("show", "digits", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document.pop("classes")[9] == {"name": "9", "num_train": 144, "num_val": 0, "num_test": 36}
    assert document == {
        "schema_version": 1, "dataset": "digits", "display_name": "digits (16×16)", "fingerprint": DIGITS,
        "location": None, "image_size": 16, "num_train": 1437, "num_val": 0, "num_test": 360, "num_classes": 10,
        "mean": [0.3056] * 3, "std": [0.376] * 3,
    }  # fmt: skip


def test_data_show_applies_the_limits_and_the_split_of_a_run(data):
    options = ("--limit-train", "200", "--limit-test", "50", "--val-size", "40", "--seed", "3")
    document = json.loads(data("show", "digits", *options, "--json")[1])
    assert [document[f"num_{split}"] for split in ("train", "val", "test")] == [160, 40, 50]
    assert sum(row["num_val"] for row in document["classes"]) == 40
    assert document["fingerprint"] != DIGITS, "a subset is another dataset"


def test_data_show_lists_the_classes_of_an_image_folder(data, tree):
    code, out, err = data("show", "imagefolder", "--data-dir", tree)
    assert code == 0
    rows = [line.split() for line in out.splitlines()[-2:]]
    assert rows == [["0", "cat", "2", "0", "1"], ["1", "dog", "1", "0", "1"]]
    assert str(tree) in out
    assert "decoding images: 5 of 5 images" in err
    assert data("show", "imagefolder", "--data-dir", tree)[2] == "", "the images are read from the cache"


def test_a_class_name_cannot_control_the_terminal(data, tree):
    for split in ("train", "test"):
        (tree / split / "dog").rename(tree / split / "dog\x1b]0;title\x07")
    out = data("show", "imagefolder", "--data-dir", tree)[1]
    assert "\x1b" not in out
    assert "dog\\x1b]0;title\\x07" in out


def test_data_fetch_downloads_once_and_resumes_an_interrupted_download(data, published, server, tmp_path):
    server.cut_after = [4000, 0, 0]
    code, out, err = data("fetch", "cifar10", "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {server.url}: the connection was lost after 4,000 of ")
    code, out, err = data("fetch", "cifar10", "--data-dir", tmp_path)
    assert code == 0
    assert f"CIFAR-10: ready, 20 training and 6 test images, in {tmp_path}\n" in out
    assert "downloading cifar-10-python.tar.gz" in err
    assert sum(server.sent) == len(server.content)
    code, again, err = data("fetch", "cifar10", "--data-dir", tmp_path)
    assert (code, again) == (0, out)
    assert "downloading" not in err


def test_data_fetch_has_nothing_to_do_for_the_embedded_digits(data):
    sentence = "digits (16×16): nothing to fetch, 1,437 training and 360 test images, embedded\n"
    assert data("fetch", "digits") == (0, f"{sentence}fingerprint {DIGITS}\n", "")


def test_data_fetch_decodes_an_image_folder_and_warns_if_it_cannot_be_cached(data, tree, tmp_path):
    cache = tmp_path / "user-cache"
    assert data("fetch", "imagefolder", "--data-dir", tree)[0] == 0
    assert len(list(cache.rglob("*.npz"))) == 1
    cache.rename(tmp_path / "moved")
    cache.write_text("a file where the folder should be")
    code, _, err = data("fetch", "imagefolder", "--data-dir", tree, "--quiet")
    assert code == 0
    assert err.startswith("warning: ")
    assert "decoded again next time" in err


def test_data_verify_confirms_an_intact_archive_and_names_a_damaged_one(data, published, server, tmp_path):
    data("fetch", "cifar10", "--data-dir", tmp_path)
    code, out, _ = data("verify", "cifar10", "--data-dir", tmp_path)
    assert (code, out.split(",")[0]) == (0, "CIFAR-10: OK")
    document = json.loads(data("verify", "cifar10", "--data-dir", tmp_path, "--json")[1])
    assert (document["ok"], document["num_train"], document["num_test"]) == (True, 20, 6)
    assert document["fingerprint"] in out
    (archive,) = tmp_path.glob("*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")
    code, out, err = data("verify", "cifar10", "--data-dir", tmp_path, "--json")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {archive} is damaged: SHA-256 is ")
    assert f"; delete it and run: resnet data fetch cifar10 --data-dir {tmp_path}\n" in err


@pytest.mark.parametrize("command", ["verify", "show"])
def test_only_data_fetch_downloads(command, data, published, server, tmp_path):
    code, out, err = data(command, "cifar10", "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"error: CIFAR-10 not found in {tmp_path}; run: resnet data fetch cifar10 --data-dir {tmp_path}\n"
    assert server.requests == []


def test_data_verify_compares_an_image_folder_with_its_cache(data, tree, tmp_path):
    assert data("verify", "imagefolder", "--data-dir", tree)[0] == 0
    data("fetch", "imagefolder", "--data-dir", tree)
    (cache,) = (tmp_path / "user-cache").rglob("*.npz")
    cache.write_bytes(b"damaged")
    code, _, err = data("verify", "imagefolder", "--data-dir", tree, "--quiet")
    assert (code, err) == (
        2, f"error: {cache} does not match the images in {tree}; delete it; it will be rebuilt\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show", "mnist"], "'mnist' is not one of 'cifar10', 'cifar100', 'imagefolder', 'digits'"),
        (["show", "imagefolder"], "imagefolder needs a folder; use --data-dir FOLDER or set RESNET_DATA"),
        (["show", "digits", "--limit-train", "9999"], "--limit-train must be between 10"),
        (["show", "digits", "--val-size", "3"], "--val-size must be between 10"),
        (["show", "digits", "--limit-test", "0"], "--limit-test"),
    ],
)
def test_wrong_usage_of_data_is_one_line_and_exit_code_2(args, message, data):
    code, out, err = data(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_describing_a_dataset_imports_no_torch():
    code = (
        "import sys; from resnet_cli.cli.app import run\n"
        "code = run(['data', 'show', 'digits', '--quiet']); print(code, 'torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "0 False"
