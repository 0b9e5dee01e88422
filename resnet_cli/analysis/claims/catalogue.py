"""Every claim of the two documents: its sentence, its measure, its rule, and the function that tests it.

The documents are V. R. Shinde, "Deep Residual Learning for Image Recognition: Implementation and Analysis" (2025), here
"the report", and "A Mathematical Analysis of the ResNet Architecture", here "the analysis".
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnet_cli.analysis.claims.decisions import Family, Finding, certain, effect_above, equivalence, every
from resnet_cli.analysis.claims.evidence import Evidence, have_seeds, per_run
from resnet_cli.analysis.claims.measures import (
    ConvergenceTimes,
    brownness,
    convergence_times,
    information_loss,
    log_fluctuation,
)
from resnet_cli.analysis.gradients import VANISHING_BELOW, stage_growth
from resnet_cli.analysis.stats import Contrast, Sample, contrast, fieller

DEGRADATION_MARGIN_PP = 0.5
"""Of training error: smaller gaps between depths are within what a change of machine or precision does."""
EQUIVALENT_PP = 0.2
"""Of test accuracy: the largest difference that still counts as none; about half the report's sampling error."""
CONFIDENCE_MARGIN_PP = 1.0
"""By how much the calibration may become worse without contradicting "more confident"."""
TWICE_AS_FAST = (1.6, 2.5)
SAME_LOGITS = 1e-5
"""Rounding of float32 logits of size 10 over a hundred layers."""
PLANNED_GAP_PP = 1.0
PLANNED_LOG_RATIO = math.log(1.5)


class Claim(NamedTuple):
    """One claim and how it is tested."""

    name: str
    sentence: str
    source: str
    family: Family
    measure: str
    rule: str
    command: str
    """Measures what is missing; RUNS stands for the run directories."""
    test: Callable[[Evidence], Finding | None]
    """None if it was not measured."""
    caveat: str = ""


def _gap(
    evidence: Evidence, frame: pd.DataFrame, plus: str, minus: str, measure: str, *, resolution: float = 0.0,
) -> list[tuple[float, str, Sample]] | None:  # fmt: skip
    terms = [
        (sign, network, evidence.sample(frame, network, measure, resolution=resolution))
        for sign, network in ((1.0, plus), (-1.0, minus))
    ]
    return terms if have_seeds(sample for _, _, sample in terms) else None


def _divergence_details(evidence: Evidence, *networks: str) -> list[str]:
    counts = {network: evidence.diverged(network) for network in networks}
    return [
        f"{count} run(s) of {network} diverged and count with the error of guessing"
        for network, count in counts.items()
        if count
    ]


def _reestimated(evidence: Evidence) -> pd.DataFrame:
    """Clean training error with re-estimated statistics, one row per run; diverged runs have that of guessing."""
    rows = evidence.load_probe("bn")
    if rows.empty:
        return rows
    kept = rows[(rows["statistics"] == "re-estimated") & (rows["split"] == "train") & (rows["which"] == "last")]
    lost = evidence.runs[evidence.runs["status"] == "diverged"]
    lost = lost.assign(error_pct=evidence.chance_error_pct)
    columns = ["network", "depth", "seed", "path", "error_pct"]
    return pd.concat([kept[columns], lost[columns]], ignore_index=True)


def _degradation(evidence: Evidence) -> Finding | None:
    networks = evidence.networks
    deep, shallow = networks.plain_deep, networks.plain_shallow
    frame = _reestimated(evidence)
    if frame.empty:
        return None
    terms = _gap(evidence, frame, deep, shallow, "error_pct", resolution=evidence.train_resolution)
    if terms is None:
        return None
    details = _divergence_details(evidence, deep, shallow)
    ordinary = _gap(evidence, evidence.runs, deep, shallow, "train_clean_error_pct")
    if ordinary:
        gap = contrast((sign, sample) for sign, _, sample in ordinary)
        details.append(f"with the running statistics of training the gap is {gap.mean:.2f} pp")
    test = _gap(evidence, evidence.runs, shallow, deep, "test_accuracy_pct", resolution=evidence.test_resolution)
    if test:
        gap = contrast((sign, sample) for sign, _, sample in test)
        details.append(f"the test error differs by {gap.mean:.2f} pp")
    return effect_above(
        terms, unit="pp", margin=DEGRADATION_MARGIN_PP, planned=DEGRADATION_MARGIN_PP + PLANNED_GAP_PP,
        no_effect_within=DEGRADATION_MARGIN_PP, details=details,
    )  # fmt: skip


def _degradation_after_warmup(evidence: Evidence) -> Finding | None:
    return None if evidence.warmup is None else _degradation(evidence.warmup)


def _accuracy_gap(evidence: Evidence, plus: str, minus: str) -> Finding | None:
    terms = _gap(evidence, evidence.runs, plus, minus, "test_accuracy_pct", resolution=evidence.test_resolution)
    if terms is None:
        return None
    return effect_above(
        terms, unit="pp", planned=PLANNED_GAP_PP, no_effect_within=EQUIVALENT_PP,
        details=_divergence_details(evidence, plus, minus),
    )  # fmt: skip


def _amplification(evidence: Evidence) -> Finding | None:
    networks = evidence.networks
    deep = _gap(evidence, evidence.runs, networks.resnet_deep, networks.plain_deep, "test_accuracy_pct",
                resolution=evidence.test_resolution)  # fmt: skip
    shallow = _gap(evidence, evidence.runs, networks.resnet_shallow, networks.plain_shallow, "test_accuracy_pct",
                   resolution=evidence.test_resolution)  # fmt: skip
    if deep is None or shallow is None:
        return None
    gaps = [contrast((sign, sample) for sign, _, sample in terms) for terms in (deep, shallow)]
    return effect_above(
        [*deep, *((-sign, name, sample) for sign, name, sample in shallow)], unit="pp", planned=PLANNED_GAP_PP,
        no_effect_within=EQUIVALENT_PP,
        details=[_ratio_sentence(*gaps), *_divergence_details(evidence, *(name for _, name, _ in (*deep, *shallow)))],
    )  # fmt: skip


def _ratio_sentence(deep: Contrast, shallow: Contrast) -> str:
    found = fieller(deep, shallow)
    if found.value is None:
        return "the ratio of the gaps is undefined: the shallow gap is 0"
    sets = {
        "interval": f"95 % Fieller set {found.low:.2f} … {found.high:.2f}" if found.low is not None else "",
        "two rays": f"95 % Fieller set: all values but {found.low:.2f} … {found.high:.2f}"
        if found.low is not None else "",
        "everything": "95 % Fieller set: every number",
        "none": "no interval with one seed",
    }  # fmt: skip
    return f"the ratio of the gaps is {found.value:.2f} ({sets[found.kind]})"


def _not_capacity(evidence: Evidence) -> Finding | None:
    rows = evidence.load_probe("capacity")
    if rows.empty:
        return None
    shallow = evidence.networks.plain_shallow
    built = rows[(rows["mode"] == "eval") & (rows["network"] == shallow) & (rows["built_depth"] > rows["depth"])]
    if built.empty:
        return None
    largest = float(built["max_logit_difference"].max())
    changed = int(built["num_changed"].sum())
    in_train_mode = rows[(rows["mode"] == "train") & (rows["network"] == shallow)]
    details = [f"{changed} predictions differ"]
    if len(in_train_mode):
        worst = float(in_train_mode["error_pct"].max())
        details.append(
            f"in training mode, where batch statistics replace the stored ones, the error reaches {worst:.1f} %"
        )
    holds = largest <= SAME_LOGITS and changed == 0
    return certain(holds, value=largest, unit="largest logit difference", n=built["seed"].nunique(), details=details)


def _times(evidence: Evidence, network: str) -> dict[int, list[ConvergenceTimes]]:
    rows = evidence.epochs[evidence.epochs["network"] == network]
    found: dict[int, list[ConvergenceTimes]] = {}
    for (seed, _), of_run in rows.groupby(["seed", "path"]):
        times = convergence_times(of_run.sort_values("epoch"), chance_error=evidence.chance_error_pct)
        if times is not None:
            found.setdefault(int(str(seed)), []).append(times)
    return found


def _convergence_terms(evidence: Evidence) -> tuple[list[tuple[float, str, Sample]], list[str]] | None:
    networks = evidence.networks
    times = {name: _times(evidence, name) for name in (networks.plain_shallow, networks.resnet_shallow)}
    if not all(times.values()):
        return None
    every_run = [one for of_network in times.values() for of_seed in of_network.values() for one in of_seed]
    kept = [tau for tau in every_run[0].logs if not all(tau in one.not_reached for one in every_run)]
    if not kept:
        return None
    samples = {
        name: Sample.of(
            (seed, float(np.mean([one.logs[tau] for tau in kept]))) for seed, runs in found.items() for one in runs
        )
        for name, found in times.items()
    }
    details = [f"training errors of {', '.join(f'{tau:g}' for tau in kept)} %, before the first drop of the rate"]
    censored = sum(tau in one.not_reached for one in every_run for tau in kept)
    if censored:
        details.append(f"{censored} times are lower bounds: the error was not reached before the drop")
    plain, residual = samples.items()
    return [(1.0, *plain), (-1.0, *residual)], details


def _faster(evidence: Evidence) -> Finding | None:
    found = _convergence_terms(evidence)
    if found is None:
        return None
    terms, details = found
    ratio = math.exp(contrast((sign, sample) for sign, _, sample in terms).mean)
    return effect_above(
        terms, unit="log ratio of epochs", planned=PLANNED_LOG_RATIO, no_effect_within=math.log(1.05),
        details=[f"plain networks take {ratio:.2f} times as many epochs", *details],
    )  # fmt: skip


def _twice_as_fast(evidence: Evidence) -> Finding | None:
    found = _convergence_terms(evidence)
    if found is None:
        return None
    terms, details = found
    low, high = map(math.log, TWICE_AS_FAST)
    return equivalence(terms, unit="log ratio of epochs", low=low, high=high, details=details)


def _stability(evidence: Evidence) -> Finding | None:
    networks = evidence.networks
    frame = per_run(evidence.epochs, log_fluctuation)
    terms = _gap(evidence, frame, networks.plain_deep, networks.resnet_deep, "value")
    if terms is None:
        return None
    details = ["the spread depends on the accuracy itself, which differs between the networks"]
    return effect_above(terms, unit="log ratio of deviations", planned=PLANNED_LOG_RATIO, details=details)


def _at_initialisation(evidence: Evidence) -> pd.DataFrame:
    return evidence.gradflow[evidence.gradflow["epoch"] == 0] if len(evidence.gradflow) else evidence.gradflow


def _distance_from_constant(rows: pd.DataFrame) -> float:
    """Mean over stages of |log of the growth of ‖∂L/∂x‖ per block|."""
    return float(np.mean([abs(math.log(stage.growth_per_block)) for stage in stage_growth(rows)]))


def _highway(evidence: Evidence) -> Finding | None:
    networks, rows = evidence.networks, _at_initialisation(evidence)
    if rows.empty:
        return None
    frame = per_run(rows, _distance_from_constant)
    terms = _gap(evidence, frame, networks.plain_deep, networks.resnet_deep, "value")
    if terms is None:
        return None
    shares = rows[(rows["network"] == networks.resnet_deep) & rows["skip_share"].notna()]["skip_share"]
    details = [
        f"share of the gradient that comes through the shortcut of a block: mean {shares.mean():.2f}, "
        f"smallest {shares.min():.2f}, largest {shares.max():.2f}"
    ]
    return effect_above(terms, unit="log growth per block", planned=0.05, details=details)


def _log_smallest_ratio(rows: pd.DataFrame) -> float:
    return min(math.log10(stage.ratio) if stage.ratio > 0 else math.nan for stage in stage_growth(rows))


def _vanishing(evidence: Evidence) -> Finding | None:
    rows = _at_initialisation(evidence)
    if rows.empty:
        return None
    deep = evidence.networks.plain_deep
    sample = evidence.sample(per_run(rows, _log_smallest_ratio), deep, "value")
    if not sample.values:
        return None
    result = contrast([(-1.0, sample)])
    bound = -math.log10(VANISHING_BELOW)
    growth = 10**-result.mean
    return Finding(
        value=result.mean, unit="decades lost over a stage", n=result.n, interval=result.interval,
        p_supported=result.p_above(bound), p_refuted=result.p_below(-math.log10(1 / 3)), margin=bound,
        is_degenerate=result.is_degenerate, seeds={deep: sample.values},
        details=(f"‖∂L/∂x‖ changes by a factor of {growth:.3g} over the stage in which it grows least",),
    )  # fmt: skip


def _probe_gap(
    evidence: Evidence, probe: str, which: str, measure: Callable[[pd.DataFrame], float], plus: str, minus: str,
) -> list[tuple[float, str, Sample]] | None:  # fmt: skip
    rows = evidence.load_probe(probe)
    if rows.empty:
        return None
    return _gap(evidence, per_run(rows[rows["which"] == which], measure), plus, minus, "value")


def _shattering(evidence: Evidence) -> Finding | None:
    networks = evidence.networks
    terms = _probe_gap(evidence, "shattering", "init", brownness, networks.resnet_deep, networks.plain_deep)
    if terms is None:
        return None
    return effect_above(terms, unit="of the way from white to brown noise", margin=0.1, planned=0.3)


def _identity_mapping(evidence: Evidence) -> Finding | None:
    def shrinkage(rows: pd.DataFrame) -> float:
        kept = rows[rows["branch_to_skip_growth"].notna() & (rows["downsampling"].astype(str) != "True")]
        growth = kept["branch_to_skip_growth"].to_numpy(float)
        return -float(np.mean(np.log(growth))) if len(growth) and (growth > 0).all() else math.nan

    rows = evidence.load_probe("responses")
    if rows.empty:
        return None
    deep = evidence.networks.resnet_deep
    sample = evidence.sample(per_run(rows[rows["which"] == "last"], shrinkage), deep, "value")
    if not sample.values:
        return None
    return effect_above([(1.0, deep, sample)], unit="log of the shrinkage", planned=PLANNED_LOG_RATIO,
                       no_effect_within=math.log(1.05))  # fmt: skip


def _ensemble(evidence: Evidence) -> Finding | None:
    def harm(rows: pd.DataFrame) -> float:
        single = rows[(rows["lesion"] == "delete") & (rows["statistics"] == "re-estimated")]
        kept = single[single["downsampling"].astype(str) != "True"]
        return float(kept["error_change_pp"].mean()) if len(kept) else math.nan

    networks = evidence.networks
    terms = _probe_gap(evidence, "lesion", "last", harm, networks.plain_deep, networks.resnet_deep)
    return None if terms is None else effect_above(terms, unit="pp of error per deleted block", margin=1.0, planned=5.0)


def _landscape(evidence: Evidence) -> Finding | None:
    def log_curvature(rows: pd.DataFrame) -> float:
        kept = rows[(rows["part"] == "eigenvalue") & (rows["matrix"] == "DHD") & (rows["end"] == "largest")]
        value = float(kept["eigenvalue"].max()) if len(kept) else math.nan
        return math.log(value) if value > 0 else math.nan

    networks = evidence.networks
    terms = _probe_gap(evidence, "landscape", "last", log_curvature, networks.plain_deep, networks.resnet_deep)
    return None if terms is None else effect_above(terms, unit="log ratio of curvatures", planned=math.log(2))


def _information_flow(evidence: Evidence) -> Finding | None:
    networks = evidence.networks
    terms = _probe_gap(evidence, "similarity", "last", information_loss, networks.plain_deep, networks.resnet_deep)
    return None if terms is None else effect_above(terms, unit="pp of accuracy lost", planned=2.0)


def _sharper_diagonal(evidence: Evidence) -> Finding | None:
    networks = evidence.networks
    frames = [evidence.load_correct(network) for network in (networks.resnet_deep, networks.plain_deep)]
    if any(frame.empty for frame in frames):
        return None
    findings = {}
    for label in sorted(frames[0]["label"].unique()):
        recalls = []
        for network, frame in zip((networks.resnet_deep, networks.plain_deep), frames, strict=True):
            of_class = frame[frame["label"] == label]
            by_run = of_class.groupby(["seed", "path"])["correct"].agg(["mean", "size"]).reset_index()
            resolution = 50 / int(by_run["size"].iloc[0])
            values = zip(by_run["seed"].tolist(), (100 * by_run["mean"]).tolist(), strict=True)
            recalls.append((network, Sample.of(values, resolution=resolution)))
        (residual, first), (plain, second) = recalls
        findings[f"class {label}"] = effect_above(
            [(1.0, residual, first), (-1.0, plain, second)], unit="pp of recall", planned=PLANNED_GAP_PP
        )
    return every(findings, unit="pp of recall")


def _more_confident(evidence: Evidence) -> Finding | None:
    rows = evidence.load_probe("calibration")
    if rows.empty:
        return None
    networks = evidence.networks
    whole = rows[(rows["scaling"] == "none") & rows["bin"].isna()]
    confidence = _gap(evidence, whole, networks.resnet_deep, networks.plain_deep, "confidence_pct")
    whole = whole.assign(miscalibration=whole["gap_pct"].abs())
    calibration = _gap(evidence, whole, networks.plain_deep, networks.resnet_deep, "miscalibration")
    if confidence is None or calibration is None:
        return None
    return every(
        {
            "mean confidence": effect_above(confidence, unit="pp", planned=PLANNED_GAP_PP),
            "calibration not worse": effect_above(
                calibration, unit="pp", margin=-CONFIDENCE_MARGIN_PP, planned=PLANNED_GAP_PP - CONFIDENCE_MARGIN_PP
            ),
        },
        unit="pp",
    )


_REPORT, _ANALYSIS = "report", "analysis"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "degradation", "Plain-56 performs worse than Plain-20: optimization difficulties limit deep networks.",
        f"{_REPORT}, 3.3", "confirmatory",
        "clean training error with re-estimated batch-norm statistics, deep plain − shallow plain network",
        f"above {DEGRADATION_MARGIN_PP} pp; refuted if within ±{DEGRADATION_MARGIN_PP} pp or below 0",
        "resnet probe bn RUNS", _degradation,
        "Part of it is the exploding first steps of the deep plain network: see degradation-warmup.",
    ),
    Claim(
        "degradation-warmup", "Plain-56 performs worse than Plain-20, when both are warmed up.",
        f"{_REPORT}, 3.3", "confirmatory",
        "as degradation, in plain networks trained with a warm-up",
        f"above {DEGRADATION_MARGIN_PP} pp; refuted if within ±{DEGRADATION_MARGIN_PP} pp or below 0",
        "resnet train --arch plain --warmup-steps 400 … at both depths, then resnet probe bn RUNS",
        _degradation_after_warmup,
    ),
    Claim(
        "gap", "The performance gap increased to 6.54 percentage points at 56 layers.",
        f"{_REPORT}, 3.2", "confirmatory", "test accuracy, deep residual − deep plain network",
        f"above 0; refuted if within ±{EQUIVALENT_PP} pp or below 0", "resnet train at the greater depth",
        lambda evidence: _accuracy_gap(evidence, evidence.networks.resnet_deep, evidence.networks.plain_deep),
    ),
    Claim(
        "scaling", "ResNet-56 outperforms ResNet-20: residual connections enable effective depth scaling.",
        f"{_REPORT}, 3.3", "confirmatory", "test accuracy, deep residual − shallow residual network",
        f"above 0; refuted if within ±{EQUIVALENT_PP} pp or below 0", "resnet train --arch resnet at both depths",
        lambda evidence: _accuracy_gap(evidence, evidence.networks.resnet_deep, evidence.networks.resnet_shallow),
    ),
    Claim(
        "amplification", "The advantage of residual connections grows with depth, from 1.11 % to 6.54 %.",
        f"{_REPORT}, 3.3", "confirmatory",
        "difference of the gaps in test accuracy: (residual − plain) at the greater depth − the same at the smaller",
        f"above 0; refuted if within ±{EQUIVALENT_PP} pp or below 0", "resnet train: four networks", _amplification,
    ),
    Claim(
        "capacity", "Optimization difficulties, not model capacity, limit deep network performance.",
        f"{_REPORT}, 3.3; {_ANALYSIS}, 2", "deterministic",
        "largest difference of logits between a trained shallow plain network and a deep one built from it by "
        "inserting identity blocks, in eval mode",
        f"at most {SAME_LOGITS:g}, and no prediction changes", "resnet probe capacity RUNS", _not_capacity,
        "It shows that a good solution exists, not that training could reach it.",
    ),
    Claim(
        "convergence", "ResNets converge faster.", f"{_REPORT}, 3.1", "mechanistic",
        "logarithm of the epochs to a clean training error, plain − residual network at the smaller depth, mean over "
        "fixed errors, before the first drop of the learning rate",
        "above 0; refuted if below 0 or within ±5 %", "resnet train --clean-train-every 1", _faster,
    ),
    Claim(
        "convergence-2x", "2× faster convergence.", f"{_REPORT}, 3.1", "mechanistic",
        "as convergence", f"ratio between {TWICE_AS_FAST[0]} and {TWICE_AS_FAST[1]}; refuted if outside",
        "resnet train --clean-train-every 1", _twice_as_fast,
    ),
    Claim(
        "stability", "Training stability improves dramatically with skip connections.", f"{_REPORT}, 5", "mechanistic",
        "logarithm of the deviation of the test accuracy from epoch to epoch within phases of the learning rate, "
        "deep plain − deep residual network",
        "above 0; refuted if below 0", "resnet train, at least four epochs in one phase", _stability,
    ),
    Claim(
        "highway", "Skip connections provide effective gradient pathways.",
        f"{_REPORT}, 4.1; {_ANALYSIS}, 4", "mechanistic",
        "mean over stages of |log growth of ‖∂L/∂x‖ per block| at initialisation, deep plain − deep residual network",
        "above 0; refuted if below 0", "resnet train --gradflow-every N", _highway,
        "The identity ∂L/∂x = Sᵀ(m ⊙ g) + J_Fᵀ(m ⊙ g) is exact (resnet gradflow --check-identity) and no evidence.",
    ),
    Claim(
        "vanishing-gradient", "In plain networks, gradients vanish on the way to the earlier layers.",
        f"{_ANALYSIS}, 4", "mechanistic",
        "‖∂L/∂x‖ at the first ÷ at the last block of a stage of the deep plain network at initialisation, in the stage "
        "where it is smallest",
        f"below {VANISHING_BELOW}; refuted if above 1/3", "resnet train --gradflow-every N", _vanishing,
    ),
    Claim(
        "shattering", "Skip connections keep gradients of nearby inputs correlated.", "Balduzzi et al. 2017",
        "mechanistic",
        "autocorrelation of input gradients over the first eighth of a line, from white (0) to brown noise (1), deep "
        "residual − deep plain network at initialisation",
        "above 0.1; refuted if below 0", "resnet probe shattering RUNS", _shattering,
    ),
    Claim(
        "identity-mapping", "Skip connections enable layers to learn identity mappings.",
        f"{_REPORT}, 4.1; {_ANALYSIS}, 3", "mechanistic",
        "−log of ‖F(x)‖ / ‖S x‖ after training ÷ at initialisation, mean over the blocks of the deep residual network "
        "that keep the shape",
        "above 0; refuted if below 0 or within ±5 %", "resnet probe responses RUNS", _identity_mapping,
    ),
    Claim(
        "ensemble", "ResNets can be viewed as implicit ensembles of networks with different effective depths.",
        f"{_REPORT}, 4.3", "mechanistic",
        "rise of the test error when one block that keeps the shape is deleted, with re-estimated batch-norm "
        "statistics, deep plain − deep residual network",
        "above 1 pp; refuted if below 0", "resnet probe lesion RUNS", _ensemble,
        "Robustness to deletion fits an ensemble, but does not prove one.",
    ),
    Claim(
        "landscape", "Residual connections create more favorable optimization landscapes.", f"{_REPORT}, 4.1",
        "mechanistic",
        "logarithm of the largest eigenvalue of D H D (H: Hessian, D: filter norms) after training, deep plain − deep "
        "residual network",
        "above 0; refuted if below 0", "resnet probe landscape RUNS", _landscape,
        "Curvature at the end of training, where the losses of the networks differ.",
    ),
    Claim(
        "information-flow", "Identity mappings preserve information from earlier layers.", f"{_REPORT}, 4.3",
        "mechanistic",
        "accuracy of a linear classifier on the best block − on the last block, deep plain − deep residual network",
        "above 0; refuted if below 0", "resnet probe similarity RUNS", _information_flow,
    ),
    Claim(
        "diagonal", "Residual networks achieve better classification performance across all classes.",
        f"{_REPORT}, 3.4", "mechanistic", "recall of every class, deep residual − deep plain network",
        "above 0 in each class; refuted if below 0 in any", "resnet train at the greater depth", _sharper_diagonal,
    ),
    Claim(
        "confidence", "Sharper diagonal patterns indicate more confident predictions.", f"{_REPORT}, 3.4",
        "mechanistic", "mean confidence on the test images, deep residual − deep plain network, and |confidence − "
        "accuracy| not higher",
        f"confidence above 0, and miscalibration at most {CONFIDENCE_MARGIN_PP:g} pp higher",
        "resnet probe calibration RUNS", _more_confident,
    ),
)  # fmt: skip
