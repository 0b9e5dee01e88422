"""Device, precision and compilation are decided once, with a reason, and kept when a run goes on."""

import subprocess
import sys

import pytest
import torch

from resnet_cli import device as device_module
from resnet_cli.device import decide, describe_environment, peak_memory_bytes
from resnet_cli.errors import CannotContinueError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import Decision


def config_for(**overrides):
    return make_config("demo", arch="plain", depth=20, **{"device": "cpu", **overrides})


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(device_module, "cxx_compiler", lambda: None)


def test_the_compiler_that_the_environment_names_comes_first(monkeypatch):
    monkeypatch.setenv("CXX", "sh")
    assert device_module.cxx_compiler().endswith("/sh")
    monkeypatch.setenv("PATH", "")
    assert device_module.cxx_compiler() is None


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_the_cpu_where_there_is_no_gpu(no_gpu):
    setup = decide(config_for(device="auto"))
    assert setup.device == torch.device("cpu")
    assert setup.precision == "fp32"
    assert not setup.compile


@pytest.mark.parametrize("missing", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_by_name(no_gpu, missing):
    with pytest.raises(UsageError, match=rf"--device {missing}.*--device auto"):
        decide(config_for(device=missing))


@pytest.mark.parametrize(("precision", "instead"), [("tf32", "fp32"), ("fp16", "bf16")])
def test_a_precision_that_a_cpu_does_not_have_is_refused_with_one_that_it_has(precision, instead):
    with pytest.raises(UsageError, match=rf"--precision {precision} needs.*{instead}"):
        decide(config_for(precision=precision))


def test_bf16_on_request_runs_the_forward_pass_in_bf16():
    setup = decide(config_for(precision="bf16"))
    with setup.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16


def test_fp32_runs_the_forward_pass_in_fp32():
    with decide(config_for()).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_compilation_is_chosen_when_the_planned_run_repays_it():
    short, long = (decide(config_for(), planned_macs=macs) for macs in (1e9, 1e15))
    assert (short.compile, long.compile) == (False, True)
    assert "would save about" in short.decisions["compile"].reason


def test_without_a_compiler_auto_falls_back_and_says_why(no_compiler):
    setup = decide(config_for(), planned_macs=1e15)
    assert not setup.compile
    assert "no C++ compiler" in setup.decisions["compile"].reason


def test_without_a_compiler_compile_on_is_refused(no_compiler):
    with pytest.raises(UsageError, match=r"--compile on.*no C\+\+ compiler.*--compile off"):
        decide(config_for(compile="on"))


def test_what_was_decided_once_is_kept():
    first = decide(config_for(), planned_macs=1e15)
    again = decide(config_for(), planned_macs=1e9, recorded=first.decisions)
    assert again.compile
    assert again.decisions["compile"] == first.decisions["compile"]


def test_a_compiled_run_is_not_continued_uncompiled_in_silence(no_compiler):
    recorded = decide(config_for()).decisions | {"compile": Decision("on", "asked for")}
    with pytest.raises(CannotContinueError, match=r"its numbers would change.*no C\+\+ compiler.*--accept-changes"):
        decide(config_for(), recorded=recorded)


def test_a_run_of_another_device_is_not_continued_here_in_silence(no_gpu):
    recorded = decide(config_for()).decisions | {"device": Decision("cuda", ""), "precision": Decision("tf32", "")}
    with pytest.raises(CannotContinueError, match=r"--device cuda.*--accept-changes"):
        decide(config_for(), recorded=recorded)


@pytest.mark.parametrize("damaged", [{}, {"threads": Decision("many", "")}])
def test_a_record_that_does_not_say_how_a_run_was_computed_is_refused(damaged):
    recorded = {**decide(config_for()).decisions, **damaged} if damaged else {}
    with pytest.raises(CannotContinueError, match=r"run\.json does not say"):
        decide(config_for(), recorded=recorded)


def test_the_number_of_threads_is_kept():
    threads = torch.get_num_threads()
    try:
        recorded = decide(config_for()).decisions | {"threads": Decision("1", "")}
        torch.set_num_threads(2)
        assert decide(config_for(), recorded=recorded).decisions["threads"].value == "1"
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_deterministic_kernels_are_asked_for_and_given_up_again():
    decide(config_for(deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    decide(config_for())
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_decision_has_a_reason():
    decisions = decide(config_for()).decisions
    assert {"device", "precision", "compile", "threads", "memory_format", "allocator"} <= decisions.keys()
    assert all(decision.value and decision.reason for decision in decisions.values())


def test_the_environment_names_versions_and_hardware():
    environment = describe_environment(decide(config_for()))
    assert environment["torch"] == torch.__version__
    assert environment["cpu"]
    assert environment["num_threads"] == torch.get_num_threads()
    assert environment["cuda"] is None


def test_peak_memory_grows_by_what_is_held():
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(before // 4)  # as many bytes as the process ever held
    assert peak_memory_bytes(torch.device("cpu")) > before + block.nbytes // 4


def test_a_compiled_step_on_a_cpu_keeps_fewer_activations_than_pytorch_would():
    """Counted where a network's forward pass hands them to its backward pass."""
    if device_module.cxx_compiler() is None:
        pytest.skip("there is no C++ compiler here")
    script = """
import sys, torch
from resnet_cli.device import decide
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config
if sys.argv[1] == "ours":
    decide(make_config(arch="plain", depth=8, device="cpu", compile="on"))
model = build_model("plain", 8).to(memory_format=torch.channels_last)
images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
sizes = {}
def pack(tensor):
    sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
    return tensor
with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
    torch.compile(model, dynamic=False)(images)
print(sum(sizes.values()))
"""
    kept = {
        who: int(subprocess.run([sys.executable, "-c", script, who], capture_output=True, text=True, check=True).stdout)
        for who in ("ours", "theirs")
    }
    assert kept["ours"] < 0.8 * kept["theirs"]
