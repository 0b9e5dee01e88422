"""Error rates of every decision rule of `resnet compare --claims`, by simulation.

    python benchmarks/claim_error_rates.py [--simulations 10000]

For each rule, distribution and number of seeds n, three rates at the level 0.05 of a single test:

- false support: a claim is called supported although the effect is exactly at the edge of what refutes it;
- false refutation: a claim is called refuted although the effect is exactly at the edge of what it says;
- detection: a claim is called supported when the effect is the one that studies are planned for.

The standard deviation of each network is half the distance from the margin to the planned effect. Distributions:

- equal: normal with equal deviations;
- unequal: normal, one deviation ten times smaller;
- 360 images: error counts on 360 test images, with 1 error expected (rules for percentage points only);
- bimodal: in three of ten seeds the first network fails, which shifts it by 20 deviations. No rule for three seeds can
  know of failures that it has not seen, so these rates are not nominal; tables therefore show the individual seeds.

After them: claims about several classes or conditions, families with Holm's correction, and several looks.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy
from where import command_line, parser, where

from resnet_cli.analysis.claims import confirmatory, mechanistic, predictions
from resnet_cli.analysis.claims.catalogue import CLAIMS
from resnet_cli.analysis.claims.decisions import (
    ALPHA,
    Finding,
    Rule,
    Term,
    alpha_per_look,
    effect_found,
    every,
)
from resnet_cli.analysis.stats import Sample, holm

SEEDS = (3, 5, 10)
IMAGES = 360
RULES = {
    "degradation": confirmatory.DEGRADATION, "gap, scaling": confirmatory.ACCURACY_GAP,
    "amplification": confirmatory.AMPLIFICATION, "convergence": mechanistic.CONVERGENCE,
    "convergence-2x": mechanistic.TWICE_AS_FAST, "stability": mechanistic.STABILITY, "highway": mechanistic.HIGHWAY,
    "vanishing-gradient": mechanistic.VANISHING, "shattering": mechanistic.SHATTERING,
    "identity-mapping": mechanistic.IDENTITY_MAPPING, "ensemble": mechanistic.ENSEMBLE,
    "landscape": mechanistic.LANDSCAPE, "information-flow": mechanistic.INFORMATION_FLOW,
    "diagonal, one class": predictions.RECALL, "confidence": predictions.CONFIDENCE,
    "confidence, calibration": predictions.NOT_WORSE_CALIBRATED,
}  # fmt: skip
COUNTED = ("degradation", "gap, scaling", "amplification", "diagonal, one class")

Draw = Callable[[np.random.Generator, Rule, float, int], list[Term]]


class Rates(NamedTuple):
    """Shares of simulated studies."""

    false_support: float
    false_refutation: float
    detection: float


def sigma(rule: Rule) -> float:
    """Standard deviation over seeds for which the rates of different rules are comparable."""
    return (rule.planned - rule.margin) / 2


def _terms(rule: Rule, effect: float, deviations: list[np.ndarray], resolution: float = 0.0) -> list[Term]:
    weights = [1.0, -1.0, -1.0, 1.0][: rule.num_networks]
    means = [effect, 0.0, 0.0, 0.0]
    return [
        Term(weight, str(index), Sample.of(enumerate((mean + deviation).tolist()), resolution=resolution))
        for index, (weight, mean, deviation) in enumerate(zip(weights, means, deviations, strict=False))
    ]


def equal(rng: np.random.Generator, rule: Rule, effect: float, n: int) -> list[Term]:
    """Normal samples with equal deviations."""
    return _terms(rule, effect, list(rng.normal(0, sigma(rule), (4, n))))


def unequal(rng: np.random.Generator, rule: Rule, effect: float, n: int) -> list[Term]:
    """Normal samples; every second deviation is ten times smaller."""
    return _terms(rule, effect, list(rng.normal(0, sigma(rule), (4, n)) * np.array([[1], [0.1], [1], [0.1]])))


def counted(rng: np.random.Generator, rule: Rule, effect: float, n: int) -> list[Term]:
    """Error counts on few images, with one error expected of the networks without an effect."""
    base = 100 / IMAGES
    means = [base + effect, base, base, base]
    counts = [100 / IMAGES * rng.binomial(IMAGES, mean / 100, n) for mean in means]
    return _terms(rule, 0.0, [count - base for count in counts], resolution=50 / IMAGES)


def bimodal(rng: np.random.Generator, rule: Rule, effect: float, n: int) -> list[Term]:
    """The first network fails in three of ten seeds; the effect is that of its mean."""
    deviations = rng.normal(0, sigma(rule), (4, n))
    deviations[0] += 20 * sigma(rule) * ((rng.random(n) < 0.3) - 0.3)
    return _terms(rule, effect, list(deviations))


DRAWS: dict[str, Draw] = {"equal": equal, "unequal": unequal, "360 images": counted, "bimodal": bimodal}


def edges(rule: Rule) -> tuple[float, float]:
    """The smallest effect that the claim excludes, and the smallest that it includes and that is not negligible."""
    return rule.margin, max(rule.margin, rule.no_effect_within or rule.margin)


def simulate(rule: Rule, draw: Draw, n: int, simulations: int, seed: int) -> Rates:
    """Rates of one rule for samples of n seeds."""
    outside, inside = edges(rule)
    rng = np.random.default_rng([seed, n])

    def found(effect: float) -> list[Finding]:
        return [effect_found(rule, draw(rng, rule, effect, n)) for _ in range(simulations)]

    at_edge = found(outside)
    true = at_edge if inside == outside else found(inside)
    return Rates(
        _share(one.p_supported < ALPHA for one in at_edge),
        _share(one.p_refuted < ALPHA for one in true),
        _share(one.p_supported < ALPHA for one in found(rule.planned)),
    )


def _share(outcomes: Iterator[bool]) -> float:
    return float(np.mean(list(outcomes)))


def compound_rates(n: int, simulations: int) -> Iterator[tuple[str, float, str]]:
    """Claims about all classes, and families of claims."""
    rng = np.random.default_rng([n, 1])
    recall = predictions.RECALL

    def classes(*effects: float) -> Finding:
        return every({str(i): effect_found(recall, equal(rng, recall, e, n)) for i, e in enumerate(effects)})

    few = simulations // 5
    yield (
        "ten classes, one without effect: supported",
        _share(classes(0.0, *[5.0] * 9).p_supported < ALPHA for _ in range(few)),
        "nominal 0.05",
    )
    yield (
        "ten classes, none with effect: refuted",
        _share(classes(*[0.0] * 10).p_refuted < ALPHA for _ in range(few)),
        "nominal 0.05",
    )
    yield (
        "confirmatory family, effects at the margin: any",
        _share(_any_supported(_confirmatory(rng, n)) for _ in range(few)),
        "nominal 0.05",
    )
    yield (
        "mechanistic family, effects at the margin: any",
        _share(_any_supported(_mechanistic(rng, n)) for _ in range(few)),
        "nominal 0.05",
    )


def _confirmatory(rng: np.random.Generator, n: int) -> dict[str, Finding]:
    """Four claims about the same four networks, all with an effect at the margin."""
    margin = confirmatory.ACCURACY_GAP.margin
    plain, residual, deep, deeper = (
        Sample.of(enumerate(rng.normal(mean, 1, n))) for mean in (0.0, 0.0, 0.0, margin)
    )  # fmt: skip
    gaps = {"gap": (deeper, deep), "scaling": (deeper, residual)}
    findings = {
        name: effect_found(confirmatory.ACCURACY_GAP, [Term(1.0, "a", a), Term(-1.0, "b", b)])
        for name, (a, b) in gaps.items()
    }
    findings["amplification"] = effect_found(
        confirmatory.AMPLIFICATION,
        [Term(1.0, "a", deeper), Term(-1.0, "b", deep), Term(-1.0, "c", residual), Term(1.0, "d", plain)],
    )
    at_zero = Rule(unit="pp", planned=1.5)
    findings["degradation"] = effect_found(at_zero, [Term(1.0, "a", deep), Term(-1.0, "b", plain)])
    return findings


def _mechanistic(rng: np.random.Generator, n: int) -> dict[str, Finding]:
    """Every claim of the family with an effect at its margin, each in its own sample."""
    rules = [claim.rule for claim in CLAIMS if claim.family == "mechanistic" and claim.rule is not None]
    return {str(index): effect_found(rule, equal(rng, rule, rule.margin, n)) for index, rule in enumerate(rules)}


def _any_supported(findings: dict[str, Finding]) -> bool:
    return min(holm({name: finding.p_supported for name, finding in findings.items()}).values()) < ALPHA


def looks_rate(simulations: int, alpha: float) -> float:
    """Share of studies without an effect in which one of three looks, after 3, 5 and 10 seeds, supports the claim."""
    rule, rng = predictions.CONFIDENCE, np.random.default_rng(2)

    def supported() -> bool:
        deep, shallow = rng.normal(0, 1, (2, SEEDS[-1]))
        samples = ([Sample.of(enumerate(values[:n])) for values in (deep, shallow)] for n in SEEDS)
        return any(effect_found(rule, [Term(1.0, "a", a), Term(-1.0, "b", b)]).p_supported < alpha for a, b in samples)

    return _share(supported() for _ in range(simulations))


def report(simulations: int) -> Iterator[str]:
    """Lines of the report."""

    def error(count: int) -> float:
        return math.sqrt(ALPHA * (1 - ALPHA) / count)

    yield f"{simulations} simulated studies per rate; numpy {np.__version__}, scipy {scipy.__version__}"
    yield f"Monte-Carlo standard error of a rate of 0.05: {error(simulations):.4f}"
    yield ""
    yield f"{'rule':<24}{'distribution':<14}{'n':>3}{'false support':>15}{'false refutation':>18}{'detection':>11}"
    highest = {name: [0.0, 0.0] for name in DRAWS}
    for seed, (name, rule) in enumerate(RULES.items()):
        for distribution, draw in DRAWS.items():
            if distribution == "360 images" and name not in COUNTED:
                continue
            for n in SEEDS:
                rates = simulate(rule, draw, n, simulations, seed)
                highest[distribution] = [max(pair) for pair in zip(highest[distribution], rates[:2], strict=True)]
                yield (
                    f"{name:<24}{distribution:<14}{n:>3}{rates.false_support:>15.3f}{rates.false_refutation:>18.3f}"
                    f"{rates.detection:>11.3f}"
                )
    yield ""
    for distribution, (support, refutation) in highest.items():
        yield f"highest, {distribution + ':':<14}{support:>18.3f}{refutation:>18.3f}"
    yield ""
    yield f"{simulations // 5} studies per rate; standard error {error(simulations // 5):.4f}"
    for n in SEEDS:
        for name, rate, nominal in compound_rates(n, simulations):
            yield f"{name:<50}{n:>3}{rate:>9.3f}  {nominal}"
    yield ""
    for alpha in (ALPHA, alpha_per_look(len(SEEDS))):
        yield f"three looks at the level {alpha:g}: {looks_rate(simulations, alpha):.4f} supported without an effect"


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--simulations", type=int, default=10_000, help="number of simulated studies per rate")
    simulations = options.parse_args().simulations
    print(f"{command_line()}\n")
    for line in report(simulations):
        print(line, flush=True)
    print(f"\n{where()}")
