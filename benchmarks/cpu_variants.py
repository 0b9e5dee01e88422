"""Milliseconds of a training step on a CPU in many ways: what each of our choices gains, and what others would.

    python benchmarks/cpu_variants.py [--arch resnet] [--depth 20] [--steps 12] [--rounds 3]

Each row is a process of its own (two, where it says so): two steps to warm up, then `--steps` timed ones on a batch of
128 random images, forward, backward and update without augmentation. A round visits all rows; printed are medians over
the rounds, and what share of the matrix peak (the best of ten products of two 2048×2048 matrices in fp32, measured
first) a step reaches when it computes three times the multiply-accumulates of a forward pass.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from where import command_line, where

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE = 128

# name: (what the process does, its environment)
VARIANTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "textbook: NCHW, default allocator": (["textbook"], {}),
    "+ channels last, fused SGD, in place": (["ours"], {}),
    "+ freed memory is kept (ours, eager)": (["ours", "keep"], {}),
    "+ compiled as a whole (ours, compiled)": (["ours", "keep", "whole"], {}),
    "compiled, freed memory is not kept": (["ours", "whole"], {}),
    "compiled, nothing computed twice": (["ours", "keep", "whole", "save-all"], {}),
    "eager, one thread": (["ours", "keep", "one-thread"], {}),
    "eager, two such processes at once": (["ours", "keep", "one-thread", "two"], {}),
    "eager, threads bound to cores": (["ours", "keep"], {"OMP_PROC_BIND": "true"}),
    "eager, threads wait passively": (["ours", "keep"], {"OMP_WAIT_POLICY": "passive"}),
    "eager, huge pages": (["ours", "keep"], {"THP_MEM_ALLOC_ENABLE": "1"}),
    "compiled, huge pages": (["ours", "keep", "whole"], {"THP_MEM_ALLOC_ENABLE": "1"}),
    "compiled, NCHW": (["ours", "keep", "whole", "nchw"], {}),
    "compiled, PyTorch's batch normalisation": (["ours", "keep", "whole", "their-norm"], {}),
    "compiled block by block": (["ours", "keep", "blocks"], {}),
    "the same, cut before the last ReLU": (["ours", "keep", "regions"], {}),
    "the same, PyTorch's batch normalisation": (["ours", "keep", "regions", "their-norm"], {}),
    "bf16, eager (other results)": (["ours", "keep", "bf16"], {}),
    "bf16, compiled (other results)": (["ours", "keep", "whole", "bf16"], {}),
}


def main() -> None:
    """Print the table, or measure one variant when asked by the parent process."""
    args = _options()
    if args.variant:
        print(json.dumps(measure(args)))
        return
    print(command_line())
    from resnet_cli.bench import matrix_peak
    from resnet_cli.device import decide
    from resnet_cli.model import count_macs
    from resnet_cli.recipes import make_config

    setup = decide(make_config(arch="plain", depth=8, device="cpu"))
    peak = matrix_peak(setup).flops_per_second
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(args.rounds):
        for name, (variant, environment) in VARIANTS.items():
            found[name].append(in_a_process(args, variant, environment))
    flops = 6 * BATCH_SIZE * count_macs(args.depth, "none" if args.arch == "plain" else "A")
    base = statistics.median(one["ms"] for one in found["textbook: NCHW, default allocator"])
    print(f"{args.arch}-{args.depth}, batches of {BATCH_SIZE}, matrix peak {peak / 1e9:.0f} GFLOP/s\n")
    print(f"{'':40}{'ms':>7}{'range':>13}{'gain':>7}{'of peak':>9}{'memory':>10}{'first two steps':>17}")
    for name, measured in found.items():
        times = [one["ms"] for one in measured]
        median = statistics.median(times)
        print(
            f"{name:40}{median:7.1f}{f'{min(times):.0f}–{max(times):.0f}':>13}{base / median:6.2f}×"
            f"{flops / median * 1e3 / peak:9.1%}{max(one['mib'] for one in measured):6.0f} MiB"
            f"{measured[-1]['first']:15.1f} s"
        )
    print(f"\n{where()}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet", choices=["plain", "resnet"])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_a_process(args: argparse.Namespace, variant: list[str], environment: dict[str, str]) -> dict[str, float]:
    """What `measure` gives in a fresh process; in two at once, milliseconds of a step of either, so of half of both."""
    command = [sys.executable, __file__, "--arch", args.arch, "--depth", str(args.depth), "--steps", str(args.steps),
               "--variant", *variant]  # fmt: skip
    full = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    count = 2 if "two" in variant else 1
    started = [
        subprocess.Popen(command, env=full, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(count)
    ]
    found: list[dict[str, float]] = [json.loads(one.communicate()[0].splitlines()[-1]) for one in started]
    # they start together, and medians over steps ignore the few that one of them takes alone
    return {
        "ms": statistics.mean(one["ms"] for one in found) / count,
        "mib": sum(one["mib"] for one in found),
        "first": max(one["first"] for one in found),
    }


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of a step, peak memory in MiB, and seconds of the first two steps."""
    import resource

    from textbook import network

    from resnet_cli.device import _keep_freed_memory, _save_memory_when_compiling
    from resnet_cli.model import build_model
    from resnet_cli.norm import BatchNorm2d

    words = set(args.variant)
    if "keep" in words:
        _keep_freed_memory()
    if words & {"whole", "blocks", "regions"} and "save-all" not in words:
        _save_memory_when_compiling()
    if "one-thread" in words:
        torch.set_num_threads(1)
    is_ours = "ours" in words
    layout = torch.channels_last if is_ours and "nchw" not in words else torch.contiguous_format
    model = build_model(args.arch, args.depth) if is_ours else network(args.arch, args.depth)
    model = model.to(memory_format=layout)
    if "their-norm" in words:
        BatchNorm2d.forward = torch.nn.BatchNorm2d.forward
    forward = torch.compile(model, dynamic=False) if "whole" in words else model
    if "blocks" in words:
        for block in blocks_of(model):
            block.compile(dynamic=False)
    if "regions" in words:
        forward = compiled_regions(model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True if is_ours else None
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH_SIZE, 3, 32, 32, generator=generator).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (BATCH_SIZE,), generator=generator)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in words):
            logits = forward(images).float()
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        return time.perf_counter() - started

    first = step() + step()
    times = [step() for _ in range(args.steps)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": 1e3 * statistics.median(times), "mib": memory, "first": first}


def blocks_of(model: Any) -> list[Any]:
    """The residual or plain blocks in order."""
    return [block for stage in (model.layer1, model.layer2, model.layer3) for block in stage]


def compiled_regions(model: Any) -> Callable[[Tensor], Tensor]:
    """Our network compiled in pieces, each from one ReLU behind an addition to the next addition.

    A piece that ended with its ReLU would keep, for its own backward pass, which elements that ReLU let through: one
    bool an element, which Inductor's C++ reads back one by one. Begun with it, it keeps the ReLU's result, which
    the convolution behind needs anyway.
    """

    @torch.compile(dynamic=False)
    def stem(images: Tensor) -> Tensor:
        return model.bn1(model.conv1(images))

    @torch.compile(dynamic=False)
    def body(block: Any, total: Tensor) -> Tensor:
        x = F.relu(total)
        return block.branch(x) + block.skip(x) if block.shortcut != "none" else block.branch(x)

    @torch.compile(dynamic=False)
    def head(total: Tensor) -> Tensor:
        return model.fc(F.relu(total).mean(dim=(2, 3)))

    def forward(images: Tensor) -> Tensor:
        total = stem(images)
        for block in blocks_of(model):
            total = body(block, total)
        return head(total)

    return forward


if __name__ == "__main__":
    main()
