"""A non-finite loss and a batch that does not fit into memory: one error line, and no silent change of the run."""

import json
import sys

import pytest
import torch
from safetensors.numpy import load_file
from watch import watched

from resnet_cli.model import CifarNet
from resnet_cli.rundir import RunDir

TRAIN = ["train", "--recipe", "demo", "--arch", "plain", "--depth", "8", "--device", "cpu", "--limit-test", "40"]
ABSURD_LR = ["--limit-train", "200", "--lr", "1e4", "--epochs", "10", "--save-every", "1steps"]


def test_a_diverging_run_stops_at_its_step_and_is_excluded_from_means(zygote, tmp_path, make_run, capfd):
    run = RunDir(tmp_path / "diverged")
    line = zygote.fail(4, *TRAIN, *ABSURD_LR, "--warmup-steps", 0, "--out", run.path)
    step = run.read_divergence().step
    assert f"error: training diverged: the loss was not finite at step {step} (epoch " in line
    assert "lr 10000" in line
    assert run.read_metrics()["step"].max() <= step
    # the checkpoint is of that step or an earlier one
    kept = load_file(run.checkpoint_path)
    assert all(abs(values).max() < float("inf") for values in kept.values())

    make_run(tmp_path / "good", arch="plain", depth=8, recipe="demo", dataset="digits", accuracy=91.0)
    document = json.loads(watched(capfd, ["compare", tmp_path, "--json"]).out)
    assert [(row["n"], row["test_accuracy_pct"]) for row in document["networks"]] == [(1, 91.0)]
    assert [(one["path"], one["status"]) for one in document["skipped"]] == [(str(run.path), "diverged")]
    table = watched(capfd, ["compare", tmp_path]).out
    assert "diverged" in table
    assert f"step {step}, at lr 10000" in " ".join(table.split())


GRADFLOW = ["gradflow", "--depth", "8", "--device", "cpu", "--batches", "1"]


def assert_out_of_memory(zygote, batch_size, *args):
    line = zygote.fail(1, *args, prepare="little memory")
    # "probably" where oneDNN fails first, which does not say why
    assert line.startswith(("error: out of memory ", "error: probably out of memory (oneDNN could not "))
    assert f" with a batch size of {batch_size}; " in line
    assert "smaller --batch-size" in line


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc, which only Linux has")
class TestTooLittleMemory:
    def test_training_out_of_memory_names_the_batch_size_and_can_be_resumed(self, zygote, tmp_path):
        out = tmp_path / "run"
        command = [*TRAIN, "--limit-train", "1400", "--batch-size", "1400", "--epochs", "1", "--out", out]
        assert_out_of_memory(zygote, 1400, *command)
        assert RunDir(out).status() == "incomplete"
        assert RunDir(out).read_record().config.batch_size == 1400
        # with enough memory, the same command continues
        zygote.succeed(*command)

    def test_measuring_gradients_out_of_memory_names_the_batch_size(self, zygote):
        assert_out_of_memory(zygote, 1400, *GRADFLOW, "--batch-size", 1400)

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory."),
            RuntimeError("can't allocate memory: 2 GB"),
            torch.AcceleratorError("CUDA error: out of memory"),
        ],
        ids=["Python", "GPU", "CPU", "CUDA"],
    )
    def test_evaluation_out_of_memory_names_the_batch_size(self, tmp_path, monkeypatch, capfd, error):
        def fail(*_, **__):
            raise error

        torch.save(CifarNet(8, "none").state_dict(), tmp_path / "weights.pt")
        monkeypatch.setattr("resnet_cli.evaluation.evaluate_batches", fail)
        command = ["eval", tmp_path / "weights.pt", "--arch", "plain", "--dataset", "digits", "--device", "cpu"]
        said = watched(capfd, [*command, "--batch-size", "64"])
        assert said.code == 1
        assert said.errors == ["error: out of memory with a batch size of 64; use a smaller --batch-size"]
