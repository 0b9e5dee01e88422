"""Tests of the claims about predictions: which classes are recognised, and how confident the networks are."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pandas as pd

from resnet_cli.analysis.claims.decisions import Finding, Rule, Term, effect_found, every
from resnet_cli.analysis.claims.evidence import CorrectImages, Evidence
from resnet_cli.analysis.stats import Sample, mcnemar, two_way_bootstrap

RECALL = Rule(unit="pp", planned=1.0)
"""One point is ten of the thousand test images that CIFAR-10 has of a class. The claim names no size."""
CONFIDENCE = Rule(unit="pp", planned=1.0)
"""One point, as for accuracies. The claim names no size."""
NOT_WORSE_CALIBRATED = Rule(unit="pp", margin=-1.0, absent_below=-1.0, planned=0.0)
"""Non-inferiority: up to 1 pp worse does not contradict "more confident"."""
_SMALLEST_P = 1e-300


def diagonal(evidence: Evidence) -> Finding | None:
    """Recall of every class: deep residual − deep plain network."""
    networks = evidence.networks.resnet_deep, evidence.networks.plain_deep
    residual, plain = map(evidence.load_correct, networks)
    if residual is None or plain is None:
        return None
    by_class = {}
    for label in np.unique(residual.labels).tolist():
        matrices = [_correct_by_seed(residual, label), _correct_by_seed(plain, label)]
        terms = [
            Term(weight, network, _recall(matrix))
            for weight, network, matrix in zip((1.0, -1.0), networks, matrices, strict=True)
        ]
        low, high = two_way_bootstrap(*(matrix.to_numpy() for matrix in matrices))
        by_class[f"class {label}"] = effect_found(
            RECALL, terms, [f"95 % bootstrap interval over seeds and test images: {low:+.2f} to {high:+.2f} pp"]
        )
    found = every(by_class)
    seen = pd.concat([residual.runs, plain.runs])
    details = (*found.details, *_mcnemar_of_two_runs(residual, plain), *evidence.cautions(seen, *networks))
    return msgspec.structs.replace(found, details=details)


def _mcnemar_of_two_runs(residual: CorrectImages, plain: CorrectImages) -> Iterator[str]:
    seeds = [set(images.runs["seed"]) for images in (residual, plain)]
    for seed in sorted(seeds[0] & seeds[1])[:1]:
        first, second = (
            images.correct[int(np.flatnonzero(images.runs["seed"] == seed)[0])] for images in (residual, plain)
        )
        p = mcnemar(first, second)
        yield (
            f"McNemar's test, a statement about the two runs with seed {seed} only: {int((first & ~second).sum())} "
            f"images are correct in the residual network alone, {int((second & ~first).sum())} in the plain one alone, "
            f"p {f'= {p:.3g}' if p > _SMALLEST_P else f'< {_SMALLEST_P:g}'}"
        )


def _correct_by_seed(images: CorrectImages, label: int) -> pd.DataFrame:
    """One row per seed, averaged over its runs, and one column per image of a class."""
    return pd.DataFrame(images.correct[:, images.labels == label]).groupby(images.runs["seed"]).mean()


def _recall(matrix: pd.DataFrame) -> Sample:
    recall = 100 * matrix.mean(axis="columns")
    return Sample.of(zip(recall.index.tolist(), recall.tolist(), strict=True), resolution=50 / matrix.shape[1])


def confidence(evidence: Evidence) -> Finding | None:
    """Mean confidence: deep residual − deep plain network; and the miscalibration, which may not rise."""
    rows = evidence.load_probe("calibration")
    if rows.empty:
        return None
    residual, plain = evidence.networks.resnet_deep, evidence.networks.plain_deep
    whole = rows[(rows["scaling"] == "none") & rows["bin"].isna() & (rows["which"] == "last")]
    whole = whole.assign(miscalibration=whole["gap_pct"].abs())
    higher = evidence.gap(whole, residual, plain, "confidence_pct")
    calibrated = evidence.gap(whole, plain, residual, "miscalibration")
    if higher is None or calibrated is None:
        return None
    means = whole[whole["network"].isin([residual, plain])].groupby("network")[
        ["gap_pct", "entropy", "nll", "brier", "ece_pct"]
    ]
    details = [
        f"{network}: confidence − accuracy {row.gap_pct:+.2f} pp, entropy {row.entropy:.3f}, NLL {row.nll:.3f}, "
        f"Brier {row.brier:.3f}, ECE {row.ece_pct:.2f} %"
        for network, row in means.mean().iterrows()
    ]
    cautions = evidence.cautions(whole, residual, plain)
    return every({
        "mean confidence": effect_found(CONFIDENCE, higher, [*details, *cautions]),
        "calibration": effect_found(NOT_WORSE_CALIBRATED, calibrated, [*details, *cautions]),
    })  # fmt: skip
