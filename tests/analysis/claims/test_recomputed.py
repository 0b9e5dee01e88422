"""Verdicts agree with those of a script that reads the CSV files with pandas and tests with SciPy."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from resnet_cli.analysis.claims import claims_document
from resnet_cli.analysis.frames import load_study

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "recompute_verdicts.py"


def test_four_verdicts_recomputed_from_csv_files_agree(make_run, tmp_path, add_bn):
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
    script = runpy.run_path(str(SCRIPT))
    runs = script["read_runs"](tmp_path)
    rows = {row["claim"]: row for row in claims_document(load_study([tmp_path], with_metrics=True))["claims"]}
    recomputed = script["verdicts"](runs)
    assert recomputed == {claim: rows[claim]["status"] for claim in script["CLAIMS"]}
    assert set(recomputed.values()) == {"supported", "underpowered"}
    for column, p_values in zip(("p_supported", "p_refuted"), script["p_values"](runs), strict=True):
        assert p_values == pytest.approx({claim: rows[claim][column] for claim in p_values})
