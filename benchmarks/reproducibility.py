"""Checksums of the same run, trained several times in fresh processes.

    python benchmarks/reproducibility.py [--runs 5] [--epochs 3] [--compile off on]

Plain and residual networks with eight layers are trained on 300 of the embedded digits, eager and with `torch.compile`,
which compiles again each time. Each checksum covers gradient norms, predictions, both weight files, momentum and
batch-normalisation statistics of the final state, and metrics without the columns that depend on the clock or the
process. The last line of each group is a repetition by `resnet train --from`. Exits with code 1 if two checksums of a
group differ.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]

import sameness  # noqa: E402 (needs the path above)

from resnet_cli.rundir import RunDir  # noqa: E402


def main() -> int:
    options = _arguments()
    print(command_line())
    differing = []
    with tempfile.TemporaryDirectory() as name:
        for arch in ("plain", "resnet"):
            for compile_mode in options.compile:
                group = f"{arch}-8, compile {compile_mode}"
                outs = [Path(name, f"{arch}-{compile_mode}-{number}") for number in range(options.runs + 1)]
                for out in outs[:-1]:
                    _train(out, "--recipe", "demo", "--arch", arch, "--depth", "8", "--device", "cpu",
                           "--limit-train", "300", "--epochs", str(options.epochs), "--augment", "crop-flip",
                           "--compile", compile_mode)  # fmt: skip
                _train(outs[-1], "--from", str(outs[0]))
                checksums = {out.name: sameness.together(RunDir(out)) for out in outs}
                print(f"\n{group}")
                for out, checksum in checksums.items():
                    print(f"  {checksum}{'  (--from)' if out == outs[-1].name else ''}")
                if len(set(checksums.values())) > 1:
                    differing.append(group)
    print(f"\n{where()}")
    print(f"checksums differ: {', '.join(differing)}" if differing else "the checksums of each group are equal")
    return 1 if differing else 0


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5, help="trainings per group, without the one of --from")
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--compile", nargs="+", choices=["off", "on"], default=["off", "on"])
    return options.parse_args()


def _train(out: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "resnet_cli", "train", *arguments, "--quiet", "--out", str(out)]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": cache}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    raise SystemExit(code)
