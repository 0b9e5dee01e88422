"""Tests of the claims about results: degradation, the gaps, scaling, amplification, and capacity."""

import pandas as pd

from resnet_cli.analysis.claims.decisions import ALPHA, MIN_SEEDS, Finding, Rule, Term, certain, effect_found
from resnet_cli.analysis.claims.evidence import Evidence
from resnet_cli.analysis.claims.measures import largest_growth
from resnet_cli.analysis.stats import Contrast, contrast, fieller

DEGRADATION = Rule(unit="pp", margin=0.5, planned=1.5, no_effect_within=0.5)
"""Of training error. Gaps below 0.5 pp are within what another machine or precision does; a gap of 1.5 pp is a quarter
of the report's."""
ACCURACY_GAP = Rule(unit="pp", margin=0.2, planned=1.0, no_effect_within=0.2)
"""Of test accuracy. Each gap of the report exceeds 1 pp; 0.2 pp is half the sampling error of its test set, and neither
supports nor contradicts a claim."""
AMPLIFICATION = Rule(unit="pp", margin=0.2, planned=1.0, no_effect_within=0.2, num_networks=4)
"""The margins of one gap: a change of gaps below them would not be seen in the gaps either."""
SAME_LOGITS = 1e-5
"""Far above the rounding of float64, in which both networks are compared; an inserted block that is not the identity
changes logits by far more."""


def degradation(evidence: Evidence) -> Finding | None:
    """Clean training error with re-estimated statistics: deep plain − shallow plain network."""
    deep, shallow = evidence.networks.plain_deep, evidence.networks.plain_shallow
    frame = _errors(evidence, "re-estimated", "train")
    if frame.empty:
        return None
    terms = evidence.gap(frame, deep, shallow, "error_pct", resolution=50 / frame["num_images"].min())
    if terms is None:
        return None
    training = _contrast(terms)
    details = []
    if ordinary := evidence.gap(_errors(evidence, "running", "train"), deep, shallow, "error_pct"):
        gap = _contrast(ordinary).mean
        details.append(f"with the running statistics of training, the training error differs by {_pp(gap)}")
    if accuracies := _accuracies(evidence, shallow, deep):
        test = _contrast(accuracies)
        details.append(f"the test error differs by {_pp(test.mean)}")
        is_known = min(test.n, training.n) >= MIN_SEEDS
        if is_known and test.p_above(0) < ALPHA and training.p_below(DEGRADATION.margin) < ALPHA:
            details.append("the test error rises and the training error does not: overfitting instead")
    growth = {network: largest_growth(evidence.gradflow, network) for network in (deep, shallow)}
    known = [f"×{value:.3g} in {network}" for network, value in growth.items() if value is not None]
    if known:
        details.append(f"in training, the weight norm of a layer grows up to {' and '.join(known)}")
    return effect_found(DEGRADATION, terms, [*details, *evidence.cautions(frame, deep, shallow)])


def degradation_after_warmup(evidence: Evidence) -> Finding | None:
    """The same in the plain networks that were trained with a warm-up."""
    arm = evidence if evidence.is_warmed_up else evidence.warmup
    return None if arm is None else degradation(arm)


def _pp(difference: float) -> str:
    return f"{difference:+.2f} pp".replace("-", "−")


def _errors(evidence: Evidence, statistics: str, split: str) -> pd.DataFrame:
    """One row per run, from the probe `bn`; a diverged run has the error of guessing. Empty if nothing was measured.

    Args:
        evidence: of the runs.
        statistics: of batch normalisation, `running` or `re-estimated`.
        split: `train` or `test`.
    """
    columns = ["network", "seed", "error_pct", "num_images"]
    rows = evidence.load_probe("bn")
    if rows.empty:
        return pd.DataFrame(columns=columns)
    kept = rows[(rows["statistics"] == statistics) & (rows["split"] == split) & (rows["which"] == "last")]
    lost = evidence.runs[evidence.runs["status"] == "diverged"]
    num_images = evidence.num_train if split == "train" else evidence.num_test
    lost = lost.assign(error_pct=evidence.chance_error_pct, num_images=num_images)
    return pd.concat([frame[columns] for frame in (kept, lost) if len(frame)] or [kept[columns]], ignore_index=True)


def gap(evidence: Evidence) -> Finding | None:
    """Test accuracy: deep residual − deep plain network."""
    return _accuracy_gap(evidence, evidence.networks.resnet_deep, evidence.networks.plain_deep)


def scaling(evidence: Evidence) -> Finding | None:
    """Test accuracy: deep residual − shallow residual network."""
    return _accuracy_gap(evidence, evidence.networks.resnet_deep, evidence.networks.resnet_shallow)


def _accuracy_gap(evidence: Evidence, plus: str, minus: str) -> Finding | None:
    terms = _accuracies(evidence, plus, minus)
    if terms is None:
        return None
    details = [*_with_reestimated_statistics(evidence, terms), *evidence.cautions(evidence.runs, plus, minus)]
    return effect_found(ACCURACY_GAP, terms, details)


def _with_reestimated_statistics(evidence: Evidence, terms: list[Term]) -> list[str]:
    """The same effect on test accuracy without the lag of the running statistics, if it was measured for every seed."""
    errors = _errors(evidence, "re-estimated", "test")
    samples = [evidence.sample(errors, term.network, "error_pct") for term in terms]
    if any(sample.seeds != term.sample.seeds for sample, term in zip(samples, terms, strict=True)):
        return []
    effect = sum(-term.weight * sample.mean for sample, term in zip(samples, terms, strict=True))
    return [f"with re-estimated batch-norm statistics, it is {_pp(effect)}"]


def amplification(evidence: Evidence) -> Finding | None:
    """Test accuracy: (residual − plain) at the greater depth − the same at the smaller depth."""
    networks = evidence.networks
    deep = _accuracies(evidence, networks.resnet_deep, networks.plain_deep)
    shallow = _accuracies(evidence, networks.resnet_shallow, networks.plain_shallow)
    if deep is None or shallow is None or networks.plain_deep == networks.plain_shallow:
        return None
    terms = [*deep, *(term._replace(weight=-term.weight) for term in shallow)]
    details = [_ratio_sentence(_contrast(deep), _contrast(shallow)), *_with_reestimated_statistics(evidence, terms)]
    cautions = evidence.cautions(evidence.runs, *(term.network for term in terms))
    return effect_found(AMPLIFICATION, terms, [*details, *cautions])


def _accuracies(evidence: Evidence, plus: str, minus: str) -> list[Term] | None:
    return evidence.gap(evidence.runs, plus, minus, "test_accuracy_pct", resolution=evidence.test_resolution)


def _contrast(terms: list[Term]) -> Contrast:
    return contrast((term.weight, term.sample) for term in terms)


def _ratio_sentence(deep: Contrast, shallow: Contrast) -> str:
    found = fieller(deep, shallow)
    if found.value is None:
        return "the ratio of the gaps is undefined, since the shallow gap is 0"
    if found.low is None:
        known = "no interval with one seed" if found.kind == "none" else "95 % Fieller set: every number"
    else:
        inside = "" if found.kind == "interval" else "all but "
        known = f"95 % Fieller set: {inside}{found.low:.2f} to {found.high:.2f}"
    return f"the ratio of the gaps is {found.value:.2f} ({known})"


def capacity(evidence: Evidence) -> Finding | None:
    """Largest logit difference between a shallow plain network and the deeper one built from it."""
    rows = evidence.load_probe("capacity")
    shallow, deep = evidence.networks.depths
    if rows.empty or shallow == deep:
        return None
    rows = rows[(rows["network"] == evidence.networks.plain_shallow) & (rows["which"] == "last")]
    built = rows[rows["built_depth"] == deep]
    exact = built[built["mode"] == "eval"]
    if exact.empty:
        return None
    largest, changed = float(exact["max_logit_difference"].max()), int(exact["num_changed"].sum())
    name, depth = evidence.networks.plain_shallow, int(exact["built_depth"].max())
    details = [f"{name} → {depth} layers: {changed} predictions differ"]
    in_training = built[(built["mode"] == "train")]
    for statistics, of_statistics in in_training.groupby("statistics"):
        details.append(
            f"in training mode, with {statistics} statistics, logits differ by up to "
            f"{of_statistics['max_logit_difference'].max():.3g} and the training error is "
            f"{of_statistics['error_pct'].mean():.1f} %"
        )
    tuned = built[(built["mode"] == "fine-tuned") & (built["split"] == "train")]
    for statistics, of_statistics in tuned.groupby("statistics"):
        last = of_statistics[of_statistics["epoch"] == of_statistics["epoch"].max()]
        details.append(
            f"after {last['epoch'].max():.0f} more epochs of training, with {statistics} statistics, the training "
            f"error is {last['error_pct'].mean():.1f} %"
        )
    return certain(
        largest <= SAME_LOGITS and changed == 0, value=largest, unit="logit", n=exact["seed"].nunique(),
        details=details,
    )  # fmt: skip
