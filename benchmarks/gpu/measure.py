"""Measurements of one step of a slot, each printed as one JSON object per line; started by `on_gpu.py`.

python benchmarks/gpu/measure.py WHAT --device cuda [--depth 20] [--variants eager graph textbook] [--tiny]
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = [("plain", 20), ("resnet", 20), ("plain", 56), ("resnet", 56)]
"""Those of Table 1."""
_TEXTBOOK_WORKERS = 8
_PROFILED_STEPS = 10
_IMPORT_NAMES = {"scikit-learn": "sklearn"}
_errors: list[str] = []  # of the measurements so far


def main() -> None:
    """Measure what the command line names."""
    args = _arguments()
    _errors.clear()
    args.measure(args)
    if _errors:
        raise SystemExit(f"failed measurements: {len(_errors)}, the last one: {_errors[-1]}")


def emit(kind: str, **values: Any) -> None:
    """Print one result."""
    print(json.dumps({"kind": kind, **values}), flush=True)


def environment(args: argparse.Namespace) -> None:
    """Versions, the device, the speed of its memory, and dependencies that are missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = dict(dependency.split(">=") for dependency in project["dependencies"])
    missing = [name for name in needed if importlib.util.find_spec(_IMPORT_NAMES.get(name, name)) is None]
    if missing:
        raise SystemExit(f"missing packages: {', '.join(missing)}; give their wheels with --wheels")
    import torch

    from gpu.loops import copy_bytes_per_second

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no CUDA device; rehearse with --device cpu --tiny")
    cuda = args.device == "cuda"
    emit(
        "environment", python=platform.python_version(), torch=str(torch.__version__),
        older=[
            f"{name} {metadata.version(name)}, not {minimum}"
            for name, minimum in needed.items()
            if _numbers(metadata.version(name)) < _numbers(minimum)
        ],
        name=torch.cuda.get_device_name() if cuda else platform.machine(),
        cudnn=str(torch.backends.cudnn.version()) if cuda else None,
        copy_bytes_per_second=copy_bytes_per_second(args.device, _size(args.tiny)),
    )  # fmt: skip


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version: [2, 11] of `2.11+cu130`."""
    return [int(number) for number in re.match(r"[\d.]*", version)[0].strip(".").split(".")]


def steps(args: argparse.Namespace) -> None:
    """Seconds per training step of one network in several variants."""
    import torch

    from gpu import loops

    variants = {"eager": loops.EAGER, "graph": loops.GRAPH, "compiled": loops.COMPILED}
    dataset = loops.dataset_of(args.size)

    def report(name: str, build: Callable[[], loops.Loop]) -> None:
        with _reporting("step", network=f"{args.arch}-{args.depth}", variant=name) as values:
            if args.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            warmup, seconds = loops.time_steps(build(), args.device, args.size)
            values |= {"seconds": statistics.median(seconds), "rounds": seconds, "warmup_seconds": warmup}
            if args.device == "cuda":
                values["peak_memory_bytes"] = torch.cuda.max_memory_allocated()

    for group in args.variants:
        if group == "textbook":
            report("textbook", lambda: loops.textbook(args.arch, args.depth, args.device, args.size))
            continue
        for variant in variants[group]:
            if reason := _obstacle(variant, args):
                emit("step", network=f"{args.arch}-{args.depth}", variant=variant.name, skipped=reason)
                continue
            torch.compiler.reset()
            config = loops.config_of(args.arch, args.depth, args.device, args.size, variant)
            report(variant.name, lambda c=config, g=variant.graph: loops.ours(c, dataset, graph=g))


def _obstacle(variant: Any, args: argparse.Namespace) -> str | None:
    if args.device != "cuda" and (variant.graph or variant.precision == "tf32"):
        return "needs CUDA"
    return "not compiled in a rehearsal" if variant.compile and args.tiny else None


def _graph(args: argparse.Namespace) -> Any:
    """The variant that runs use: tf32 as one graph, on a CPU eager fp32."""
    from gpu import loops

    return loops.GRAPH[0] if args.device == "cuda" else loops.EAGER[0]


def epochs(args: argparse.Namespace) -> None:
    """Seconds per whole epoch of the four networks: our second epoch, and a third with the clean training error."""
    from gpu import loops
    from resnet_cli.device import decide
    from resnet_cli.engine import Engine, EpochRecord

    dataset = loops.dataset_of(args.size)
    variant = _graph(args)
    for arch, depth in _networks(args):
        with _reporting("epoch", network=f"{arch}-{depth}", variant=variant.name) as values:
            config = loops.config_of(arch, depth, args.device, args.size, variant, clean_train_every=3)
            started = time.perf_counter()
            engine = Engine(config, dataset, decide(config, cuda_graph=variant.graph))
            ends = []
            for event in engine.run():
                if isinstance(event, EpochRecord):
                    ends.append(time.perf_counter())
                    if len(ends) == 3:
                        break
            values |= {
                "first_seconds": ends[0] - started, "seconds": ends[1] - ends[0],
                "with_clean_error_seconds": ends[2] - ends[1],
            }  # fmt: skip


def _networks(args: argparse.Namespace) -> list[tuple[str, int]]:
    return [(arch, 8) for arch in ("plain", "resnet")] if args.tiny else NETWORKS


def textbook_epochs(args: argparse.Namespace) -> None:
    """Seconds per epoch of the textbook trainer with its workers, evaluation included; the second epoch of two."""
    import torch
    from textbook import Textbook

    from gpu import loops

    dataset = loops.dataset_of(args.size)
    workers = 1 if args.tiny else _TEXTBOOK_WORKERS
    with _reporting("epoch", network=f"{args.arch}-{args.depth}", variant=f"textbook, {workers} workers") as values:
        torch.backends.cudnn.benchmark = False
        train, test = ((split.pixels, split.labels) for split in (dataset.train, dataset.test))
        trainer = Textbook(args.arch, args.depth, train, test, args.device, num_workers=workers)
        times = [time.perf_counter()]
        for _ in range(2):
            trainer.epoch()
            times.append(time.perf_counter())
        values |= {"first_seconds": times[1] - times[0], "seconds": times[2] - times[1]}


def shared(args: argparse.Namespace) -> None:
    """Steps per second of several networks that share the device, as processes or as streams of one process."""
    networks = _networks(args)[-2:] if args.pair else _networks(args)
    names = [f"{arch}-{depth}" for arch, depth in networks]
    with _reporting("shared", how=args.how, networks=names) as values:
        rates = _share_processes if args.how == "processes" else _share_streams
        values["steps_per_second"] = rates(networks, args)


def _share_streams(networks: list[tuple[str, int]], args: argparse.Namespace) -> list[float]:
    from gpu import loops

    dataset, variant = loops.dataset_of(args.size), _graph(args)
    built = [
        loops.ours(loops.config_of(arch, depth, args.device, args.size, variant), dataset, graph=variant.graph)
        for arch, depth in networks
    ]
    steps = loops.on_own_streams(built, args.device)
    loop = loops.Loop(lambda: None, steps)
    _, seconds = loops.time_steps(loop, args.device, args.size)
    return [1 / statistics.median(seconds)] * len(networks)


def _share_processes(networks: list[tuple[str, int]], args: argparse.Namespace) -> list[float]:
    workers = [_start_worker(arch, depth, args) for arch, depth in networks]
    lines = [worker.stdout.readline() for worker in workers]  # each is warmed up
    if not all(lines):
        raise RuntimeError("a process that shares the device failed")
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate()[0] for worker in workers]
    return [json.loads(answer)["steps_per_second"] for answer in answers]


def _start_worker(arch: str, depth: int, args: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "worker", "--arch", arch, "--depth", str(depth), "--device", args.device]
    command += ["--tiny"] if args.tiny else []
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def worker(args: argparse.Namespace) -> None:
    """Warm up, wait for a line on stdin, then train for a few seconds and print the number of steps per second."""
    from gpu import loops

    variant = _graph(args)
    config = loops.config_of(args.arch, args.depth, args.device, args.size, variant)
    loop = loops.ours(config, loops.dataset_of(args.size), graph=variant.graph)
    loops.seconds_of(loop.steps, args.size.warmup_steps, args.device)
    print("ready", flush=True)
    sys.stdin.readline()
    count, seconds = 0, 0.0
    while seconds < 10 * args.size.round_seconds:
        seconds += loops.seconds_of(loop.steps, 20, args.device)
        count += 20
    print(json.dumps({"steps_per_second": count / seconds}), flush=True)


def profile(args: argparse.Namespace) -> None:
    """Kernels per step, the time in them and the longest ones, of eager and recorded steps."""
    from gpu import loops

    dataset = loops.dataset_of(args.size)
    variants = (loops.EAGER[1], loops.GRAPH[0], *loops.COMPILED[: args.compiled])
    for variant in variants if args.device == "cuda" else loops.EAGER[:1]:
        with _reporting("profile", network=f"{args.arch}-{args.depth}", variant=variant.name) as values:
            config = loops.config_of(args.arch, args.depth, args.device, args.size, variant)
            loop = loops.ours(config, dataset, graph=variant.graph)
            values.update(_profile(loop, args))


def _profile(loop: Any, args: argparse.Namespace) -> dict[str, Any]:
    # some versions of CUPTI crash when they are started again after a CUDA graph
    os.environ.setdefault("TEARDOWN_CUPTI", "0")
    from torch.profiler import ProfilerActivity, profile

    from gpu import loops

    cuda = args.device == "cuda"
    loops.seconds_of(loop.steps, max(args.size.warmup_steps, 5), args.device)
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        wall = loops.seconds_of(loop.steps, _PROFILED_STEPS, args.device)
    seconds: Counter[str] = Counter()
    count = 0
    for event in found.key_averages():
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        if own > 0 and (not cuda or str(event.device_type).endswith("CUDA")):
            seconds[event.key] += own * 1e-6 / _PROFILED_STEPS
            count += event.count
    top = [[name[:100], value] for name, value in seconds.most_common(12)]
    return {
        "kernels_per_step": count / _PROFILED_STEPS, "kernel_seconds": seconds.total(),
        "step_seconds": wall / _PROFILED_STEPS, "longest": top,
    }  # fmt: skip


def traffic(args: argparse.Namespace) -> None:
    """Bytes that the operations of one eager step read and write, and those of its convolutions alone."""
    from gpu import loops
    from gpu.traffic import TrafficCounter

    variant = loops.EAGER[0]
    with _reporting("traffic", network=f"{args.arch}-{args.depth}") as values:
        config = loops.config_of(args.arch, args.depth, args.device, args.size, variant)
        loop = loops.ours(config, loops.dataset_of(args.size), graph=False)
        next(loop.steps)
        with TrafficCounter() as counter:
            next(loop.steps)
        values |= {"bytes": counter.total, "convolution_bytes": counter.convolutions, "operations": counter.operations}


@contextlib.contextmanager
def _reporting(kind: str, **names: Any) -> Iterator[dict[str, Any]]:
    """Print the values that the context has collected, or the first line of the error that ended it."""
    values: dict[str, Any] = {}
    try:
        yield values
    except Exception as error:
        values = {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}
        print(f"{names}: {values['error']}", file=sys.stderr)
        _errors.append(values["error"])
    emit(kind, **names, **values)


def _arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = (environment, steps, epochs, textbook_epochs, shared, worker, profile, traffic)
    options.add_argument("what", choices=[one.__name__.replace("_", "-") for one in known])
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--arch", choices=["plain", "resnet"], default="resnet")
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--variants", nargs="+", choices=["eager", "graph", "compiled", "textbook"], default=["graph"])
    options.add_argument("--how", choices=["processes", "streams"], default="processes")
    options.add_argument("--pair", action="store_true", help="share between the two networks of 56 layers only")
    options.add_argument("--compiled", type=int, default=0, help="number of compiled variants to profile")
    options.add_argument("--tiny", action="store_true", help="measure almost nothing, for a rehearsal")
    args = options.parse_args()
    args.measure = {one.__name__.replace("_", "-"): one for one in known}[args.what]
    if args.what != "environment":  # which must run even if packages are missing
        args.size = _size(args.tiny)
    return args


def _size(tiny: bool) -> Any:
    from gpu import loops

    return loops.TINY if tiny else loops.FULL


if __name__ == "__main__":
    main()
