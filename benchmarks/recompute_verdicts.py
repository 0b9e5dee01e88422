"""The four confirmatory verdicts, computed again from the CSV files of a study with pandas and SciPy alone.

    python benchmarks/recompute_verdicts.py RUNS

It shares no code with `resnet_cli.analysis`: tests are SciPy's, and the command `resnet compare --claims` is run as a
user would. RUNS is a folder of runs of one dataset and one recipe, such as `resnet reproduce --recipe demo` writes, in
which every seed was trained once and the probe `bn` was measured. It prints both verdicts and exits
with code 1 if they differ.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
CLAIMS = ("degradation", "gap", "scaling", "amplification")


def read_runs(folder: Path) -> pd.DataFrame:
    """One row per finished or diverged run: network, seed, test accuracy and re-estimated training error, in %."""
    rows = []
    for path in sorted(folder.rglob("run.json")):
        record = json.loads(path.read_text())
        row = {"network": f"{record['config']['arch']}-{record['config']['depth']}", "seed": record["config"]["seed"]}
        chance = 100 / len(record["dataset"]["classes"])
        if (path.parent / "diverged.json").exists():
            rows.append({**row, "accuracy": chance, "error": 100 - chance})
        elif (path.parent / "summary.json").exists():
            accuracy = pd.read_csv(path.parent / "metrics.csv")["test_accuracy_pct"].iloc[-1]
            bn = pd.read_csv(path.parent / "probes" / "bn-last.csv")
            error = bn[(bn["split"] == "train") & (bn["statistics"] == "re-estimated")]["error_pct"].iloc[0]
            rows.append({**row, "accuracy": accuracy, "error": error})
    return pd.DataFrame(rows)


def welch(plus: pd.Series, minus: pd.Series, bound: float, side: str) -> float:
    """SciPy's one-sided p-value of plus − minus against a bound; `side` is `greater` or `less`."""
    return float(stats.ttest_ind(plus - bound, minus, equal_var=False, alternative=side).pvalue)


def four_means(samples: list[pd.Series], bound: float, side: str) -> float:
    """One-sided p-value of first − second − third + fourth, by Satterthwaite's formula."""
    signs = (1, -1, -1, 1)
    effect = sum(sign * sample.mean() for sign, sample in zip(signs, samples, strict=True))
    parts = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    freedom = parts.sum() ** 2 / sum(part**2 / (len(s) - 1) for part, s in zip(parts, samples, strict=True))
    t = (effect - bound) / math.sqrt(parts.sum())
    return float(stats.t.sf(t, freedom) if side == "greater" else stats.t.cdf(t, freedom))


def p_values(runs: pd.DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """Unadjusted p-values of support and of refutation, by claim."""
    depths = sorted({int(name.split("-")[1]) for name in runs["network"]})
    of = dict(iter(runs.groupby("network")))
    p20, p56, r20, r56 = (of[f"{arch}-{depth}"] for arch in ("plain", "resnet") for depth in (depths[0], depths[-1]))
    pairs = {
        "degradation": (p56["error"], p20["error"], 0.5, 0.5), "gap": (r56["accuracy"], p56["accuracy"], 0.2, 0.2),
        "scaling": (r56["accuracy"], r20["accuracy"], 0.2, 0.2),
    }  # fmt: skip
    supported, refuted = {}, {}
    for claim, (plus, minus, margin, within) in pairs.items():
        supported[claim] = welch(plus, minus, margin, "greater")
        equivalent = max(welch(plus, minus, -within, "greater"), welch(plus, minus, within, "less"))
        refuted[claim] = min(welch(plus, minus, 0.0, "less"), equivalent)
    four = [network["accuracy"] for network in (r56, p56, r20, p20)]
    supported["amplification"] = four_means(four, 0.2, "greater")
    equivalent = max(four_means(four, -0.2, "greater"), four_means(four, 0.2, "less"))
    refuted["amplification"] = min(four_means(four, 0.0, "less"), equivalent)
    return supported, refuted


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm's adjustment, from its definition."""
    ordered = sorted(p, key=lambda name: p[name])
    return {
        name: max(min(1.0, (len(p) - rank) * p[ordered[rank]]) for rank in range(ordered.index(name) + 1)) for name in p
    }


def verdicts(runs: pd.DataFrame) -> dict[str, str]:
    """The verdict on each claim."""
    supported, refuted = map(holm, p_values(runs))
    return {
        claim: "supported" if supported[claim] < LEVEL else "refuted" if refuted[claim] < LEVEL else "underpowered"
        for claim in CLAIMS
    }


def of_the_command(folder: Path) -> dict[str, dict[str, Any]]:
    """What `resnet compare --claims` prints, by claim."""
    command = [sys.executable, "-m", "resnet_cli", "compare", str(folder), "--claims", "--looks", "1", "--json"]
    document = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {row["claim"]: row for row in document["claims"]}


def main() -> int:
    """Compare both and print a table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    folder = parser.parse_args().runs
    runs = read_runs(folder)
    ours, theirs = verdicts(runs), of_the_command(folder)
    supported, refuted = p_values(runs)
    print(f"{'claim':<20}{'recomputed':<14}{'command':<14}{'p supported':>24}{'p refuted':>24}")
    for claim in CLAIMS:
        row = theirs[claim]
        pairs = [(supported[claim], row["p_supported"]), (refuted[claim], row["p_refuted"])]
        numbers = "".join(f"{f'{first:.4g} / {second:.4g}':>24}" for first, second in pairs)
        print(f"{claim:<20}{ours[claim]:<14}{row['status']:<14}{numbers}")
    same = all(ours[claim] == theirs[claim]["status"] for claim in CLAIMS) and all(
        math.isclose(p[claim], theirs[claim][key], rel_tol=1e-6, abs_tol=1e-12)
        for p, key in ((supported, "p_supported"), (refuted, "p_refuted"))
        for claim in CLAIMS
    )
    print("all agree" if same else "they differ")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
