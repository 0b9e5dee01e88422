"""Train the same configuration five times in fresh processes and compare checksums over everything that it determines.

    python benchmarks/reproducibility.py [--runs 5] [--epochs 3] [--compile off on]

Plain and residual networks of eight layers are trained on 300 of the embedded digits, with and without
`torch.compile`, which compiles again each time. The checksum covers metrics without the clock, gradient norms,
predictions, both weight files to the byte, and momentum and statistics of the last state. The last line of each group
is a copy by `resnet train --from`.
Exits 1 when two checksums of a group differ.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]

import sameness  # noqa: E402 (after the path to it)

from resnet_cli.rundir import RunDir, RunRecord  # noqa: E402


def main() -> int:
    options = _options()
    print(f"python benchmarks/reproducibility.py {' '.join(sys.argv[1:])}".rstrip())
    differ, record = [], None
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
                    differ.append(group)
                record = RunDir(outs[0]).read_record()
    print(f"\n{_where(record)}")
    print(f"differ: {', '.join(differ)}" if differ else "all checksums of a group are equal")
    return 1 if differ else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--compile", nargs="+", choices=["off", "on"], default=["off", "on"])
    return parser.parse_args()


def _train(out: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "resnet_cli", "train", *arguments, "--quiet", "--out", str(out)]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": cache}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def _where(record: RunRecord) -> str:
    named = record.environment
    return (
        f"{datetime.date.today()}, {named['cpu']}, {named['num_threads']} threads, python {named['python']}, "
        f"torch {named['torch']}, {named['platform']}"
    )


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    raise SystemExit(code)
