"""`resnet export` prints what it wrote and how far the exported network is from the original."""

import json

import pytest

from resnet_cli.cli.app import run
from resnet_cli.recipes import make_config
from resnet_cli.session import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "resnet-8"
    train(make_config("demo", arch="resnet", depth=8, epochs=1, limit_train=100, limit_test=300), path)
    return path


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Run `resnet export` in an empty folder and return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call_(*arguments):
        code = run(["export", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call_


def test_the_largest_difference_is_printed_and_in_the_document(call, trained):
    code, out, _ = call(trained, "--to", "torch-export")
    assert code == 0
    assert "resnet-8.pt2" in out
    assert "largest difference" in out
    code, out, _ = call(trained, "--to", "torch-export", "--overwrite", "--json")
    document = json.loads(out)
    assert document["schema_version"] == 1
    assert document["files"] == ["resnet-8.pt2"]
    assert document["check"]["num_images"] == 256
    assert 0 <= document["check"]["max_difference"] <= 1e-4 * document["check"]["largest_logit"]


def test_the_file_is_named_after_the_run(call, trained, tmp_path):
    assert call(trained, "--to", "safetensors", "--quiet")[0] == 0
    assert call(trained, "--to", "hf", "--which", "best", "--quiet")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resnet-8-best-hf", "resnet-8.safetensors"]


def test_wrong_usage_is_one_line(call, trained, tmp_path):
    for arguments, message in (
        ((trained, trained, "--to", "onnx"), "exports one network at a time (got 2 paths)"),
        ((tmp_path / "nothing", "--to", "hf"), "does not exist"),
        ((trained, "--to", "hf", "--mean", "1,2"), "--mean must be three numbers"),
        ((trained, "--to", "onxn"), "did you mean onnx?"),
        ((trained, "--to", "tensorboard", "--which", "best"), "--which does not apply to --to tensorboard"),
        ((trained, "--to", "tensorboard", "--data-dir", "x"), "--data-dir does not apply to --to tensorboard"),
    ):
        code, out, err = call(*arguments)
        assert code == 2
        assert out == ""
        assert message in err.splitlines()[-1]
