"""Device, precision, compilation and determinism, decided once per run, each with its reason."""

import contextlib
import ctypes
import logging
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from resnet_cli.config import RunConfig
from resnet_cli.dist import Ranks
from resnet_cli.errors import UsageError
from resnet_cli.rundir.records import Decision
from resnet_cli.util.spinning import spinning

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

# A run is compiled on a CPU if this is estimated to save more than twice the time that compiling costs: twice, because
# the figures are rough. They were measured on two cores of a Xeon: an eager step reaches about 200 GFLOP/s
# (benchmarks/results/scaling.txt), a compiled one takes at least a seventh less time (cpu_variants.txt), and compiling
# takes about 1.5 s per weighted layer.
_CPU_FLOPS = 200e9
_COMPILE_GAIN = 1 / 7
_COMPILE_SECONDS_PER_LAYER = 1.5
_COMPILE_MARGIN = 2
_MAX_THREADS = 4096  # in a record


class DeviceSetup(NamedTuple):
    """Device, precision and compilation of one run."""

    device: torch.device
    precision: str  # fp32, tf32, bf16 or fp16
    compile: bool
    cuda_graph: bool  # whether a whole training step is launched as one CUDA graph
    decisions: dict[str, Decision]  # every choice with its reason, for run.json
    ranks: Ranks | None = None  # the processes that train the network together

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Context manager for forward passes."""
        dtype = _AUTOCAST.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


def decide(
    config: RunConfig,
    *,
    planned_macs: float = 0.0,
    recorded: dict[str, Decision] | None = None,
    cuda_graph: bool = False,
    ranks: Ranks | None = None,
) -> DeviceSetup:
    """Decide how to compute `config` on this machine and set up the process for it.

    Device, precision, compilation and number of threads change the last bits of a result, so they are decided
    once per run: a resumed run uses its `recorded` decisions or raises an error. The same holds for the number of
    processes.

    Args:
        config: supplies device, precision, compile and deterministic as requested by the user.
        planned_macs: forward multiply-accumulates of all training images of the run.
        recorded: the decisions in run.json, when a run is resumed.
        cuda_graph: launch each training step as one CUDA graph where possible; the results are the same.
        ranks: this process among those that train the network together.

    Raises:
        UsageError: this machine does not support an option, which the message names, or cannot reproduce `recorded`.
    """
    if recorded is None:
        return _decide(config, planned_macs, cuda_graph, ranks)
    try:
        _check_ranks(recorded, ranks)
        # explicit values instead of `auto`: unsupported ones raise an error instead of being replaced
        explicit = {name: recorded[name].value for name in ("device", "precision", "compile")}
        setup = _decide(msgspec.structs.replace(config, **explicit), planned_macs, cuda_graph, ranks)
        num_threads = int(recorded["threads"].value)
        if not 1 <= num_threads <= _MAX_THREADS:
            raise ValueError(f"{num_threads} threads")
        torch.set_num_threads(num_threads)
    except UsageError as error:
        raise UsageError(
            f"the numbers would change, because this machine cannot reproduce the original settings: {error.message}",
            hint="resume the run on the original machine, or pass --accept-changes",
        ) from error
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"run.json does not record the device settings of this run ({error})", hint="pass --accept-changes"
        ) from error
    kept = {name: recorded[name] for name in ("device", "precision", "compile", "threads")}
    return setup._replace(decisions={**setup.decisions, **kept})


def _check_ranks(recorded: dict[str, Decision], ranks: Ranks | None) -> None:
    before, now = int(recorded["ranks"].value) if "ranks" in recorded else 1, ranks.size if ranks else 1
    if before != now:
        raise UsageError(f"the run was trained by {before} process{'es' * (before > 1)}, not {now}")


def _decide(config: RunConfig, planned_macs: float, cuda_graph: bool, ranks: Ranks | None) -> DeviceSetup:
    device = _decide_device(config.device, ranks)
    precision = _decide_precision(config.precision, device.value)
    if ranks and config.sync_bn:
        compiled = _no_compile_across_ranks(config)
    else:
        compiled = _decide_compile(config, device.value, planned_macs)
    decisions = {
        "device": device,
        "precision": precision,
        "compile": compiled,
        "threads": Decision(str(torch.get_num_threads()), "set by PyTorch or OMP_NUM_THREADS"),
        "spinning": Decision(*spinning()),
        "memory_format": Decision("channels_last", "the fastest layout for convolutions"),
        "allocator": _keep_freed_memory() if device.value == "cpu" else Decision("default", "not a CPU run"),
    }
    if device.value == "cuda":
        decisions["cuda_graph"] = _decide_cuda_graph(precision.value, cuda_graph, ranks)
    if ranks:
        statistics = "the whole batch" if config.sync_bn else "each process's part"
        decisions["ranks"] = Decision(str(ranks.size), f"torchrun; batch normalisation over {statistics}")
    has_graph = device.value == "cuda" and decisions["cuda_graph"].value == "on"
    where = torch.device(device.value)
    if ranks and where.type == "cuda":
        where = _own_gpu(ranks)
    setup = DeviceSetup(where, precision.value, compiled.value == "on", has_graph, decisions, ranks)
    _set_up_process(setup, deterministic=config.deterministic)
    return setup


def _decide_device(requested: str, ranks: Ranks | None) -> Decision:
    has_mps = torch.backends.mps.is_available() and not ranks  # gloo and NCCL do not reach it
    found = {"cuda": torch.cuda.is_available(), "mps": has_mps, "cpu": True}
    available = [name for name, is_available in found.items() if is_available]
    if requested == "auto":
        return Decision(available[0], "the fastest device of this machine")
    if requested not in available:
        hint = f"use --device auto or {' or '.join(available)}"
        raise UsageError(f"--device {requested} is not available on this machine", hint=hint)
    return Decision(requested, "requested")


def _own_gpu(ranks: Ranks) -> torch.device:
    count = torch.cuda.device_count()
    if ranks.local_rank >= count:
        raise UsageError(
            f"each process needs a GPU of its own, and this machine has {count}", hint="use a smaller --nproc-per-node"
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


def _decide_precision(requested: str, device: str) -> Decision:
    has_tf32 = device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    if requested == "auto" and has_tf32:
        return Decision("tf32", "fp32 storage, convolutions on tensor cores with 10-bit mantissas")
    if requested == "auto":
        return Decision("fp32", "exact; use --precision for reduced precision")
    if requested == "tf32" and not has_tf32:
        raise UsageError(
            f"--precision tf32 needs an NVIDIA GPU of compute capability 8.0 or newer, not {device}",
            hint="use --precision fp32",
        )
    if requested == "fp16" and device != "cuda":
        raise UsageError(f"--precision fp16 needs a CUDA device, not {device}", hint="use --precision bf16 or fp32")
    return Decision(requested, "requested")


def _decide_compile(config: RunConfig, device: str, planned_macs: float) -> Decision:
    obstacle = "no C++ compiler found (g++ or clang++)" if device == "cpu" and cxx_compiler() is None else None
    if config.compile == "on" and obstacle:
        raise UsageError(f"--compile on: {obstacle}", hint="use --compile off")
    if config.compile != "auto":
        return Decision(config.compile, "requested")
    if obstacle or device != "cpu":
        return Decision("off", obstacle or "not measured on a GPU yet; --compile on enables it")
    # a training step takes three times the forward pass, with two operations per multiply-accumulate
    saved = planned_macs * 6 / _CPU_FLOPS * _COMPILE_GAIN
    cost = config.depth * _COMPILE_SECONDS_PER_LAYER
    reason = f"would save about {saved:.0f} s and cost about {cost:.0f} s; enabled if it saves more than twice its cost"
    return Decision("on" if saved > _COMPILE_MARGIN * cost else "off", reason)


def _decide_cuda_graph(precision: str, requested: bool, ranks: Ranks | None) -> Decision:
    if not requested:
        return Decision("off", "not measured on a GPU yet; --cuda-graph enables it")
    if ranks:
        return Decision("off", "the processes exchange gradients in every step")
    if precision == "fp16":
        return Decision("off", "the scale of an fp16 loss changes between steps")
    return Decision("on", "one launch per step")


def _no_compile_across_ranks(config: RunConfig) -> Decision:
    if config.compile == "on":
        raise UsageError("--sync-bn cannot be compiled under torchrun", hint="use --compile off")
    return Decision("off", "synchronised batch normalisation is not compiled")


def cxx_compiler() -> str | None:
    """Path of the C++ compiler that torch.compile would use for the CPU, or None."""
    names = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def _set_up_process(setup: DeviceSetup, *, deterministic: bool) -> None:
    # without a GPU, importing the compiler logs that no CUDA toolkit was found
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    if setup.device.type == "cuda":
        torch.set_float32_matmul_precision("high" if setup.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = setup.precision == "tf32"
        torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # cuBLAS reads this when it creates its first handle; the value is from PyTorch's reproducibility notes
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # only if necessary, since the call loads the compiler, which takes a second
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)
    if setup.compile and setup.device.type == "cpu":
        _save_memory_when_compiling()


def _save_memory_when_compiling() -> None:
    """Let the compiler recompute ReLUs in the backward pass, and compile that pass before activations take memory.

    Costs no measurable time: see docs/performance.md. Ignored by versions of PyTorch without these settings.
    """
    from torch._functorch import config as settings

    for name, value in (("ban_recompute_materialized_backward", False), ("force_non_lazy_backward_lowering", True)):
        if hasattr(settings, name):
            setattr(settings, name, value)


def _keep_freed_memory() -> Decision:
    """Make glibc reuse the memory that every step frees, instead of returning it to the kernel page by page."""
    if platform.libc_ver()[0] != "glibc":
        return Decision("default", "not glibc")
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(m_mmap_threshold, 1 << 30) and libc.mallopt(m_trim_threshold, (1 << 31) - 1)):
        return Decision("default", "mallopt failed")
    return Decision("keep freed memory", "large activations are freed and allocated again every step")


def peak_memory_bytes(device: torch.device) -> int | None:
    """Highest memory use so far, in bytes: of the CUDA allocator on a GPU, else of this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def describe_environment(setup: DeviceSetup) -> dict[str, str | int | bool | None]:
    """Versions and hardware, for run.json."""
    is_cuda = setup.device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "torchvision": metadata.version("torchvision"),  # importing it takes a second
        "cuda": torch.version.cuda if is_cuda else None,
        "cudnn": str(torch.backends.cudnn.version()) if is_cuda else None,  # type: ignore[no-untyped-call]
        "device_name": torch.cuda.get_device_name(setup.device) if is_cuda else _cpu_name(),
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        if found := re.search(r"^model name\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()
