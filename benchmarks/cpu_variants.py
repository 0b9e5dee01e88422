"""Time of a training step on a CPU in nineteen variants: the textbook's, ours, and alternatives to each choice.

    python benchmarks/cpu_variants.py [--arch resnet] [--depth 20] [--steps 12] [--rounds 3]

Each variant runs in its own process (or in two, where its name says so): two warm-up steps, then `--steps` timed steps
on a batch of 128 random images; forward, backward and update, without augmentation. Each round measures every variant
once. The script prints medians over the rounds and the share of the matrix peak that a step reaches, counting a step as
three forward passes. The matrix peak, measured first, is the best of ten products of two 2048×2048 fp32 matrices.
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
from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE = 128

# name: (keywords of `measure`, additional environment variables)
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
    """Print the table; with --variant, as the parent process calls it, measure one variant."""
    args = _arguments()
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
            found[name].append(measure_in_process(args, variant, environment))
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


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--arch", default="resnet", choices=["plain", "resnet"])
    options.add_argument("--depth", type=int, default=20, help="weighted layers, 6n+2")
    options.add_argument("--steps", type=int, default=12, help="timed steps per round")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--variant", nargs="+", help=argparse.SUPPRESS)
    return options.parse_args()


def measure_in_process(args: argparse.Namespace, variant: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Result of `measure` in a fresh process. With two at once, a step counts half its time: two end within it."""
    command = [sys.executable, __file__, "--arch", args.arch, "--depth", str(args.depth), "--steps", str(args.steps),
               "--variant", *variant]  # fmt: skip
    full = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    count = 2 if "two" in variant else 1
    started = [
        subprocess.Popen(command, env=full, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(count)
    ]
    found: list[dict[str, float]] = [json.loads(one.communicate()[0].splitlines()[-1]) for one in started]
    # the processes start together; medians ignore the few steps that one of them takes alone
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

    keywords = set(args.variant)
    if "keep" in keywords:
        _keep_freed_memory()
    if keywords & {"whole", "blocks", "regions"} and "save-all" not in keywords:
        _save_memory_when_compiling()
    if "one-thread" in keywords:
        torch.set_num_threads(1)
    is_ours = "ours" in keywords
    layout = torch.channels_last if is_ours and "nchw" not in keywords else torch.contiguous_format
    model = build_model(args.arch, args.depth) if is_ours else network(args.arch, args.depth)
    model = model.to(memory_format=layout)
    if "their-norm" in keywords:
        BatchNorm2d.forward = torch.nn.BatchNorm2d.forward
    forward = torch.compile(model, dynamic=False) if "whole" in keywords else model
    if "blocks" in keywords:
        for block in blocks_of(model):
            block.compile(dynamic=False)
    if "regions" in keywords:
        forward = compiled_regions(model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True if is_ours else None
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH_SIZE, 3, 32, 32, generator=generator).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (BATCH_SIZE,), generator=generator)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in keywords):
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
    """Blocks of our network, in forward order."""
    return [block for stage in (model.layer1, model.layer2, model.layer3) for block in stage]


def compiled_regions(model: Any) -> Callable[[Tensor], Tensor]:
    """Our network compiled in pieces, each from the ReLU after one addition to the next addition.

    A piece that ended with a ReLU would store, for its backward pass, a boolean mask of the elements that the ReLU let
    through, which Inductor's C++ reads back one element at a time. A piece that starts with the ReLU stores its result
    instead, which the next convolution needs anyway.
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
