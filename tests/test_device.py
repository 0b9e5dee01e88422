"""Device, precision and compilation are decided once, with a reason, and kept when a run is resumed."""

import subprocess
import sys

import pytest
import torch

from resnet_cli import device as device_module
from resnet_cli.device import decide, describe_environment, peak_memory_bytes
from resnet_cli.errors import UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import Decision


def config_for(**overrides):
    return make_config("demo", arch="plain", depth=20, **{"device": "cpu", **overrides})


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(device_module, "cxx_compiler", lambda: None)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_without_a_gpu_auto_chooses_the_cpu_in_fp32_and_gives_a_reason_for_every_decision(no_gpu):
    setup = decide(config_for(device="auto"))
    assert (setup.device, setup.precision, setup.compile) == (torch.device("cpu"), "fp32", False)
    assert {
        "device",
        "precision",
        "compile",
        "threads",
        "spinning",
        "memory_format",
        "allocator",
    } == setup.decisions.keys()
    assert all(decision.value and decision.reason for decision in setup.decisions.values())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("device", "cuda", r"device cuda.*device auto"),
        ("device", "mps", r"device mps.*device auto"),
        ("precision", "tf32", r"precision tf32 needs.*fp32"),
        ("precision", "fp16", r"precision fp16 needs.*bf16"),
        ("compile", "on", r"compile on.*no C\+\+ compiler.*compile off"),
    ],
)
def test_an_option_that_the_machine_does_not_support_is_refused_by_name(no_gpu, no_compiler, option, value, message):
    with pytest.raises(UsageError, match=message):
        decide(config_for(**{option: value}))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_requested_precision(precision, dtype):
    with decide(config_for(precision=precision)).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_run_is_compiled_when_that_saves_more_than_twice_what_it_costs(monkeypatch):
    monkeypatch.setattr(device_module, "cxx_compiler", lambda: "g++")
    limit = 2 * 20 * 1.5 * 7 * 200e9 / 6  # factor, layers, s per layer, gain, operations per s and per MAC
    short, long = (decide(config_for(), planned_macs=limit * factor) for factor in (0.99, 1.01))
    assert (short.compile, long.compile) == (False, True)
    reason = "would save about 61 s and cost about 30 s; enabled if it saves more than twice its cost"
    assert long.decisions["compile"].reason == reason


def test_without_a_compiler_auto_does_not_compile_and_gives_the_reason(no_compiler):
    setup = decide(config_for(), planned_macs=1e15)
    assert (setup.compile, setup.decisions["compile"].reason) == (False, "no C++ compiler found (g++ or clang++)")


def test_the_cpp_compiler_named_in_the_environment_is_used_first(monkeypatch):
    monkeypatch.setenv("CXX", "sh")
    assert device_module.cxx_compiler().endswith("/sh")
    monkeypatch.setenv("PATH", "")
    assert device_module.cxx_compiler() is None


def test_a_resumed_run_keeps_the_recorded_decisions_and_number_of_threads():
    threads = torch.get_num_threads()
    try:
        first = decide(config_for(), planned_macs=1e15).decisions | {"threads": Decision("1", "")}
        torch.set_num_threads(2)
        resumed = decide(config_for(), planned_macs=1e9, recorded=first)
        assert resumed.compile
        assert [resumed.decisions[name] for name in ("compile", "threads")] == [first["compile"], first["threads"]]
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"compile": Decision("on", "requested")}, r"numbers would change.*no C\+\+ compiler.*accept_changes"),
        ({"device": Decision("cuda", ""), "precision": Decision("tf32", "")}, r"device cuda.*accept_changes"),
        *(({"threads": Decision(n, "")}, r"run\.json does not record") for n in ("many", "-1", "0", "99999999")),
        (None, r"run\.json does not record"),
    ],
)
def test_a_run_that_cannot_be_resumed_exactly_is_refused(no_compiler, no_gpu, recorded, message):
    decisions = {} if recorded is None else decide(config_for()).decisions | recorded
    with pytest.raises(UsageError, match=message):
        decide(config_for(), recorded=decisions)


def test_deterministic_kernels_are_enabled_on_request_and_disabled_by_the_next_run():
    decide(config_for(deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    decide(config_for())
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_environment_records_versions_and_hardware():
    environment = describe_environment(decide(config_for()))
    assert environment["torch"] == torch.__version__
    assert environment["cpu"]
    assert environment["num_threads"] == torch.get_num_threads()
    assert environment["cuda"] is None


def test_peak_memory_grows_with_allocated_memory():
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(before // 4)  # in bytes, as large as the peak so far
    assert peak_memory_bytes(torch.device("cpu")) > before + block.nbytes // 4


@pytest.mark.skipif(device_module.cxx_compiler() is None, reason="no C++ compiler here")
def test_a_compiled_step_on_a_cpu_keeps_fewer_activations_than_pytorch_by_default():
    """They are counted where the forward pass saves them for the backward pass.

    The backend divides the graph between the passes as the default one does, and generates no C++ from it, which takes
    most of the time.
    """
    script = """
import torch
from resnet_cli.device import decide
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config

model = build_model("plain", 8).to(memory_format=torch.channels_last)
images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)

def saved_bytes():
    sizes = {}
    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor
    torch.compiler.reset()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        torch.compile(model, dynamic=False, backend="aot_eager_decomp_partition")(images)
    return sum(sizes.values())

print(saved_bytes())
decide(make_config(arch="plain", depth=8, device="cpu", compile="on"))
print(saved_bytes())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    default, ours = map(int, ended.stdout.split())
    assert ours < 0.8 * default
