"""Checksums of the results of runs, to prove that a change of the code changed no number.

    python benchmarks/refactor_checksums.py [--tree OTHER_CHECKOUT] [--expect FILE]

Trains the demo's four networks, a short `he2015` run with validation, warm-up and mean-image subtraction, and compiled
runs, each in a fresh process that imports `resnet_cli` from the given source tree. Prints the SHA-256 of the last and
the best weights (names, shapes and values; not the metadata), of metrics.csv without the columns that depend on the
clock or the process, and of the predictions. With `--expect`, an earlier output of this script on the same machine and
versions, it exits with code 1 if a checksum differs. It depends on file formats only, so it can test any version.
"""

import csv
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
CLOCK_COLUMNS = {"images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes"}
# The demo as it was when the checksums were first committed: a change of the recipe is not a change of the engine.
DEMO = ("--recipe", "demo", "--lr", "0.03", "--epochs", "10", "--clean-train-every", "1", "--gradflow-every", "1",
        "--warmup-steps", "0", "--device", "cpu", "--compile", "off")  # fmt: skip
HE2015 = ("--recipe", "he2015", "--dataset", "digits", "--val-size", "200", "--limit-train", "800", "--steps", "60",
          "--milestones", "30,45", "--warmup-steps", "10", "--device", "cpu", "--compile", "off")  # fmt: skip
COMPILED = ("--recipe", "demo", "--lr", "0.03", "--epochs", "3", "--augment", "crop-flip", "--clean-train-every", "1",
            "--warmup-steps", "0", "--device", "cpu", "--compile", "on")  # fmt: skip
RUNS = {
    **{f"demo {arch}-{depth}": (*DEMO, "--arch", arch, "--depth", str(depth))
       for depth in (20, 56) for arch in ("plain", "resnet")},
    "he2015 resnet-14, shortcut B": (*HE2015, "--arch", "resnet", "--depth", "14", "--shortcut", "B"),
    "compiled resnet-8": (*COMPILED, "--arch", "resnet", "--depth", "8"),
    "compiled plain-8": (*COMPILED, "--arch", "plain", "--depth", "8"),
}  # fmt: skip


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--tree", type=Path, default=ROOT, help="source tree to test (default: this one)")
    options.add_argument("--expect", type=Path, help="earlier output to compare with")
    arguments = options.parse_args()
    found = []
    print(command_line())
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe in RUNS.items():
            out = Path(folder, name.replace(" ", "-"))
            train(arguments.tree.resolve(), out, recipe)
            for part, checksum in checksums(out).items():
                found.append(f"{checksum}  {name}: {part}")
                print(found[-1], flush=True)
    differing = []
    if arguments.expect:
        expected = re.findall(r"^[0-9a-f]{64}  .*$", arguments.expect.read_text(encoding="utf-8"), re.MULTILINE)
        differing = sorted(set(expected) ^ set(found))
        print(f"{len(differing)} checksums differ" if differing else f"all {len(found)} checksums are as expected")
    print(where())
    return 1 if differing else 0


def train(tree: Path, out: Path, arguments: tuple[str, ...]) -> None:
    """Train one run with the code in `tree`, on two threads, with a compiler cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {
            **os.environ, "PYTHONPATH": str(tree), "TORCHINDUCTOR_CACHE_DIR": cache, "OMP_NUM_THREADS": "2",
            "GOMP_SPINCOUNT": "10000",  # threads that wait for each other must not slow down other processes
        }  # fmt: skip
        command = [sys.executable, "-m", "resnet_cli", "train", *arguments, "--quiet", "--out", str(out)]
        subprocess.run(command, env=environment, cwd=tree, stdout=subprocess.DEVNULL, check=True)


def checksums(out: Path) -> dict[str, str]:
    """SHA-256 (hex) of each part of the run directory `out` that its configuration determines."""
    return {
        "last weights": tensors_checksum(out / "weights" / "last.safetensors"),
        "best weights": tensors_checksum(out / "weights" / "best.safetensors"),
        "metrics.csv": metrics_checksum(out / "metrics.csv"),
        "predictions": predictions_checksum(out / "predictions.npz"),
    }


def tensors_checksum(path: Path) -> str:
    """Over names, types, shapes and values of all tensors of a safetensors file."""
    digest = hashlib.sha256()
    for name, values in sorted(load_file(path).items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def metrics_checksum(path: Path) -> str:
    """Over metrics.csv without `CLOCK_COLUMNS`, as text."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            ",".join(f"{name}={value}" for name, value in row.items() if name not in CLOCK_COLUMNS)
            for row in csv.DictReader(file)
        ]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def predictions_checksum(path: Path) -> str:
    """Over labels and logits."""
    with np.load(path) as arrays:
        return hashlib.sha256(arrays["labels"].tobytes() + arrays["logits"].tobytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
