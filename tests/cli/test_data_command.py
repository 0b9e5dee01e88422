"""`resnet data` fetches, verifies and describes datasets, for people and for programs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny_cifar
from PIL import Image

from resnet_cli.cli.app import run
from resnet_cli.data import cifar, download

DIGITS = "b008b9b015fca5e3ac39e30086785e6a23ffdf3071047da60b8357ec956256fc"


@pytest.fixture(autouse=True)
def private_places(tmp_path, monkeypatch):
    """No test reads or writes the user's own data."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.delenv("RESNET_DATA", raising=False)
    monkeypatch.delenv("RESNET_DEBUG", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0,))


@pytest.fixture
def server(monkeypatch):
    """A server with a tiny CIFAR-10, which stands in for the published one."""
    tiny = tiny_cifar.TinyCifar()
    monkeypatch.setitem(cifar.SPECS, "cifar10", tiny.spec)
    with tiny_cifar.Server(tiny.archive).running() as running:
        monkeypatch.setenv("RESNET_CIFAR10_URL", running.url)
        yield running


@pytest.fixture
def images(tmp_path):
    """An image folder of two classes."""
    for i, path in enumerate(["train/ant/0", "train/ant/1", "train/bee/0", "test/ant/0", "test/bee/0"]):
        file = tmp_path / "insects" / f"{path}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    return tmp_path / "insects"


@pytest.fixture
def resnet(capsys):
    """Runs a command line; gives its exit code, stdout and stderr."""

    def call(*args):
        code = run([str(arg) for arg in args])
        return code, *capsys.readouterr()

    return call


def test_show_describes_the_embedded_digits_in_every_mode(resnet):
    code, out, err = resnet("data", "show", "digits")
    assert (code, err) == (0, "")
    for text in (DIGITS, "digits (16×16)", "1,437 training, 0 validation, 360 test", "16×16 RGB", "0.3056", "embedded"):
        assert text in out
    assert resnet("data", "show", "digits", "--quiet") == (code, out, err)
    code, out, err = resnet("data", "show", "digits", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document | {"classes": None} == {
        "schema_version": 1, "dataset": "digits", "display_name": "digits (16×16)", "fingerprint": DIGITS,
        "location": None, "image_size": 16, "num_train": 1437, "num_val": 0, "num_test": 360,
        "mean": [0.3056] * 3, "std": [0.376] * 3, "classes": None,
    }  # fmt: skip
    assert document["classes"][9] == {"name": "9", "num_train": 144, "num_val": 0, "num_test": 36}


def test_show_applies_the_limits_and_the_split_of_a_run(resnet):
    options = ("--limit-train", "200", "--limit-test", "50", "--val-size", "40", "--seed", "3")
    document = json.loads(resnet("data", "show", "digits", *options, "--json")[1])
    assert [document[f"num_{split}"] for split in ("train", "val", "test")] == [160, 40, 50]
    assert sum(row["num_val"] for row in document["classes"]) == 40
    assert document["fingerprint"] != DIGITS, "a subset is another dataset"


def test_show_of_an_image_folder_lists_its_classes(resnet, images):
    code, out, err = resnet("data", "show", "imagefolder", "--data-dir", images)
    assert code == 0
    assert [line.split() for line in out.splitlines()[-2:]] == [
        ["0", "ant", "2", "0", "1"],
        ["1", "bee", "1", "0", "1"],
    ]
    assert str(images) in out
    assert "decoding images: 5 images of 5 images" in err
    assert resnet("data", "show", "imagefolder", "--data-dir", images)[2] == "", "nothing is decoded again"


def test_a_class_name_cannot_control_the_terminal(resnet, images):
    for split in ("train", "test"):
        (images / split / "bee").rename(images / split / "bee\x1b]0;title\x07")
    out = resnet("data", "show", "imagefolder", "--data-dir", images)[1]
    assert "\x1b" not in out
    assert "bee\\x1b]0;title\\x07" in out


def test_fetch_downloads_once_and_then_finds_the_archive(resnet, server, tmp_path):
    code, out, err = resnet("data", "fetch", "cifar10", "--data-dir", tmp_path)
    assert code == 0
    assert f"CIFAR-10: ready, 20 training and 6 test images, in {tmp_path}\n" in out
    assert "downloading cifar-10-python.tar.gz" in err
    code, again, err = resnet("data", "fetch", "cifar10", "--data-dir", tmp_path)
    assert (code, again) == (0, out)
    assert "downloading" not in err
    assert len(server.requests) == 1


def test_fetch_resumes_what_broke_off(resnet, server, tmp_path):
    server.cut_after, server.content = [4000, 0], server.content
    code, out, err = resnet("data", "fetch", "cifar10", "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {server.url}: the connection was lost after 4,000 of ")
    assert resnet("data", "fetch", "cifar10", "--data-dir", tmp_path)[0] == 0
    assert sum(server.sent) == len(server.content)


def test_fetch_of_the_embedded_digits_has_nothing_to_do(resnet):
    code, out, err = resnet("data", "fetch", "digits")
    assert (code, err) == (0, "")
    assert (
        out == f"digits (16×16): nothing to fetch, 1,437 training and 360 test images, embedded\nfingerprint {DIGITS}\n"
    )


def test_fetch_of_an_image_folder_decodes_it_for_later(resnet, images, tmp_path):
    assert resnet("data", "fetch", "imagefolder", "--data-dir", images)[0] == 0
    assert len(list((tmp_path / "user-cache").rglob("*.npz"))) == 1


def test_fetch_warns_when_the_decoded_images_cannot_be_kept(resnet, images, tmp_path):
    (tmp_path / "user-cache").write_text("a file where the folder should be")
    code, _, err = resnet("data", "fetch", "imagefolder", "--data-dir", images, "--quiet")
    assert code == 0
    assert err.startswith("warning: ")
    assert "decoded again next time" in err


def test_verify_says_that_a_good_dataset_is_good(resnet, server, tmp_path):
    resnet("data", "fetch", "cifar10", "--data-dir", tmp_path)
    code, out, _ = resnet("data", "verify", "cifar10", "--data-dir", tmp_path)
    assert (code, out.split(",")[0]) == (0, "CIFAR-10: OK")
    document = json.loads(resnet("data", "verify", "cifar10", "--data-dir", tmp_path, "--json")[1])
    assert (document["ok"], document["num_train"], document["num_test"]) == (True, 20, 6)
    assert document["fingerprint"] in out


def test_verify_fails_on_a_damaged_archive_with_the_way_to_mend_it(resnet, server, tmp_path):
    resnet("data", "fetch", "cifar10", "--data-dir", tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")
    code, out, err = resnet("data", "verify", "cifar10", "--data-dir", tmp_path, "--json")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {archive} is damaged: SHA-256 is ")
    assert err.endswith("; delete it, then resnet data fetch cifar10\n")


@pytest.mark.parametrize("command", ["verify", "show"])
def test_only_fetch_downloads(command, resnet, server, tmp_path):
    code, out, err = resnet("data", command, "cifar10", "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"error: CIFAR-10 is not in {tmp_path}; resnet data fetch cifar10 --data-dir {tmp_path}\n"
    assert server.requests == []


def test_verify_of_an_image_folder_compares_it_with_the_cache(resnet, images, tmp_path):
    assert resnet("data", "verify", "imagefolder", "--data-dir", images)[0] == 0
    resnet("data", "fetch", "imagefolder", "--data-dir", images)
    (cache,) = (tmp_path / "user-cache").rglob("*.npz")
    cache.write_bytes(b"damaged")
    code, _, err = resnet("data", "verify", "imagefolder", "--data-dir", images, "--quiet")
    assert (code, err) == (2, f"error: {cache} does not hold the images of {images}; delete it; it is made anew\n")


def test_verify_of_the_digits_is_always_right(resnet):
    assert resnet("data", "verify", "digits", "--json")[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["data", "show", "mnist"], "'mnist' is not one of 'cifar10', 'cifar100', 'imagefolder', 'digits'"),
        (["data", "show", "imagefolder"], "imagefolder needs a folder; use --data-dir FOLDER or set RESNET_DATA"),
        (["data", "show", "digits", "--limit-train", "9999"], "--limit-train 9999 is not between 10"),
        (["data", "show", "digits", "--val-size", "3"], "--val-size 3 does not fit"),
        (["data", "show", "digits", "--limit-test", "0"], "Invalid value for '--limit-test'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(args, message, resnet):
    code, out, err = resnet(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("args", [["data"], ["data", "fetch"], ["data", "verify"], ["data", "show"]])
def test_help_carries_examples_each_on_a_line_of_its_own(args, resnet):
    code, out, _ = resnet(*args, "--help")
    examples = [line.strip() for line in out.splitlines() if line.strip().startswith("resnet data ")]
    assert code == 0
    assert len(examples) >= 2
    assert all(line.split()[2] in {"fetch", "verify", "show"} and line.count("resnet") == 1 for line in examples)


def test_describing_a_dataset_imports_no_torch(tmp_path):
    code = (
        "import sys; from resnet_cli.cli.app import run\n"
        "code = run(['data', 'show', 'digits', '--quiet']); print(code, 'torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "0 False"
