"""Verdicts agree with those of a script that reads the CSV files with pandas and tests with SciPy."""

import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "recompute_verdicts.py"


def test_five_verdicts_recomputed_from_csv_files_agree(make_run, tmp_path, add_bn):
    rng = np.random.default_rng(0)
    errors = {("plain", 20): 2.0, ("resnet", 20): 1.9, ("plain", 56): 9.0, ("resnet", 56): 0.2}
    for (arch, depth), error in errors.items():
        for seed in range(4):
            noise = abs(rng.normal(0, 1 if depth == 56 and arch == "plain" else 0.2))
            run = make_run(
                tmp_path / f"{arch}-{depth}-{seed}", arch=arch, depth=depth, seed=seed, recipe="demo", epochs=2,
                accuracy=100 - error - noise, predictions=False,
                status="diverged" if (arch, depth, seed) == ("plain", 56, 3) else "complete",
            )  # fmt: skip
            if seed < 3 or (arch, depth) != ("plain", 56):
                add_bn(run, error + noise)
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["all agree"], done.stdout + done.stderr
    assert {line.split()[1] for line in done.stdout.splitlines()[1:-1]} == {"supported", "underpowered"}
