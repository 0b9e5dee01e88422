"""Every claim of the two documents: its sentence, its measure, its rule, and the function that tests it.

The documents are V. R. Shinde, "Deep Residual Learning for Image Recognition: Implementation and Analysis" (2025), here
"the report", and "A Mathematical Analysis of the ResNet Architecture", here "the analysis".
"""

from collections.abc import Callable
from typing import NamedTuple

from resnet_cli.analysis.claims import confirmatory, mechanistic, predictions
from resnet_cli.analysis.claims.decisions import Family, Finding, Rule
from resnet_cli.analysis.claims.evidence import Evidence


class Claim(NamedTuple):
    """One claim and how it is tested."""

    name: str
    sentence: str
    """A quotation from its source, or without quotation marks what is claimed in our words."""
    source: str
    family: Family
    measure: str
    rule: Rule | None
    """None for a computation without chance."""
    command: str
    """Measures what is missing; RUNS stands for the run directories."""
    test: Callable[[Evidence], Finding | None]
    """None if it was not measured."""
    criterion: str = ""
    """The rule in words, where it is more than `rule`."""
    caveat: str = ""

    @property
    def rule_text(self) -> str:
        """When the claim is supported and when refuted."""
        return self.criterion or str(self.rule)


DEPTHS = (20, 56)
"""Weighted layers of the shallow and of the deep networks in the report."""

_REPORT, _ANALYSIS = "report", "analysis"
_TRAIN_ALL = "resnet reproduce"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "degradation", "“Plain-56 performs worse than Plain-20 (86.71% vs 90.84%), clearly demonstrating that "
        "optimization difficulties, not model capacity, limit deep network performance.”",
        f"{_REPORT}, 3.3", "confirmatory",
        "clean training error with re-estimated batch-norm statistics, deep plain − shallow plain network",
        confirmatory.DEGRADATION, "resnet probe bn RUNS", confirmatory.degradation,
        caveat="Part of it may be the exploding first steps of the deep plain network: see degradation-warmup.",
    ),
    Claim(
        "degradation-warmup", "Plain-56 trains worse than Plain-20 also if both are trained with a warm-up.",
        "this project", "mechanistic", "as degradation, in plain networks trained with a warm-up",
        confirmatory.DEGRADATION,
        "resnet train --from RUN --warmup-steps 400 --warmup-lr 0.01 for each plain RUN, then resnet probe bn RUNS",
        confirmatory.degradation_after_warmup,
    ),
    Claim(
        "gap", "“The performance gap increased to 6.54 percentage points (Plain-56: 86.71%, ResNet-56: 93.25%) …”",
        f"{_REPORT}, 3.2", "confirmatory", "test accuracy, deep residual − deep plain network",
        confirmatory.ACCURACY_GAP, _TRAIN_ALL, confirmatory.gap,
    ),
    Claim(
        "scaling", "“ResNet-56 outperforms ResNet-20 (93.25% vs 91.95%), showing residual connections enable effective "
        "depth scaling.”",
        f"{_REPORT}, 3.3", "confirmatory", "test accuracy, deep residual − shallow residual network",
        confirmatory.ACCURACY_GAP, _TRAIN_ALL, confirmatory.scaling,
    ),
    Claim(
        "amplification", "“The advantage of residual connections grows substantially with depth, from 1.11% to 6.54% "
        "improvement.”",
        f"{_REPORT}, 3.3", "confirmatory",
        "difference of the gaps in test accuracy: (residual − plain) at the greater depth − the same at the smaller",
        confirmatory.AMPLIFICATION, _TRAIN_ALL, confirmatory.amplification,
    ),
    Claim(
        "capacity", "“… optimization difficulties, not model capacity, limit deep network performance.”",
        f"{_REPORT}, 3.3; {_ANALYSIS}, 2", "deterministic",
        "largest difference of logits in eval mode between a trained shallow plain network and a deeper one built from "
        "it by inserting identity blocks",
        None, "resnet probe capacity RUNS", confirmatory.capacity,
        criterion=f"logits differ by at most {confirmatory.SAME_LOGITS:g}, and no prediction changes",
        caveat="A good solution exists; this does not show that training could reach it.",
    ),
    Claim(
        "convergence", "“ResNet-20 demonstrates superior convergence speed and stability.”", f"{_REPORT}, Figure 1",
        "mechanistic",
        "logarithm of the epochs to a clean training error, plain − residual network at the smaller depth, mean over "
        "fixed errors, before the first drop of the learning rate",
        mechanistic.CONVERGENCE, "resnet train --clean-train-every 1", mechanistic.convergence,
    ),
    Claim(
        "convergence-2x", "“… 2× faster convergence.”", f"{_REPORT}, 3.1", "mechanistic",
        "as convergence, over the errors that every run reached", mechanistic.TWICE_AS_FAST,
        "resnet train --clean-train-every 1", mechanistic.twice_as_fast,
    ),
    Claim(
        "stability", "“Training stability improves dramatically with skip connections”", f"{_REPORT}, 5",
        "mechanistic",
        "logarithm of the fluctuation of the test accuracy from epoch to epoch (second differences) within phases of "
        "the learning rate, deep plain − deep residual network",
        mechanistic.STABILITY, "resnet train with at least six epochs at one learning rate", mechanistic.stability,
        caveat="No verdict if first differences of the accuracy, which contain learning too, have the opposite sign.",
    ),
    Claim(
        "highway", "“… skip connections provide effective gradient pathways, enabling stable optimization in very deep "
        "architectures.”",
        f"{_REPORT}, 4.1; {_ANALYSIS}, 4", "mechanistic",
        "mean over stages of |log growth of ‖∂L/∂x‖ per block| at initialisation, deep plain − deep residual network",
        mechanistic.HIGHWAY, "resnet train --gradflow-every N", mechanistic.highway,
        caveat="That the gradient splits into a skip part and a branch part is an identity, not evidence.",
    ),
    Claim(
        "vanishing-gradient",
        "“… gradients become exponentially small as they are propagated back to earlier layers …”",
        f"{_ANALYSIS}, 4", "mechanistic",
        "logarithm of ‖∂L/∂x‖ at the output of the last block of a stage ÷ at the input of its first block that keeps "
        "the shape, deep plain network at initialisation, in the stage where it is largest",
        mechanistic.VANISHING, "resnet train --gradflow-every N", mechanistic.vanishing,
    ),
    Claim(
        "shattering", "Skip connections keep gradients of nearby inputs correlated.", "Balduzzi et al. 2017",
        "mechanistic",
        "autocorrelation of input gradients over the first eighth of a line, from white (0) to brown noise (1), deep "
        "residual − deep plain network at initialisation",
        mechanistic.SHATTERING, "resnet probe shattering RUNS", mechanistic.shattering,
    ),
    Claim(
        "identity-mapping", "“… skip connections enable layers to learn identity mappings when beneficial …”",
        f"{_REPORT}, 4.1; {_ANALYSIS}, 3", "mechanistic",
        "−log of ‖F(x)‖ / ‖S x‖ after training ÷ at initialisation, mean over the blocks of the deep residual network "
        "that keep the shape",
        mechanistic.IDENTITY_MAPPING, "resnet probe responses RUNS", mechanistic.identity_mapping,
    ),
    Claim(
        "ensemble", "“ResNets can be viewed as implicit ensembles of networks with different effective depths …”",
        f"{_REPORT}, 4.3", "mechanistic",
        "rise of the test error when one block that keeps the shape is deleted, with re-estimated batch-norm "
        "statistics, deep plain − deep residual network",
        mechanistic.ENSEMBLE, "resnet probe lesion RUNS", mechanistic.ensemble,
        caveat="Robustness to deletion fits an ensemble, but does not prove one.",
    ),
    Claim(
        "landscape", "“Residual connections appear to create more favorable optimization landscapes …”",
        f"{_REPORT}, 4.1", "mechanistic",
        "logarithm of the largest eigenvalue of D H D (H: Hessian, D: filter norms) after training, deep plain − deep "
        "residual network",
        mechanistic.LANDSCAPE, "resnet probe landscape RUNS", mechanistic.landscape,
        caveat="Curvature falls with the loss; no verdict if the losses differ by more than a factor of 2.",
    ),
    Claim(
        "information-flow", "“Identity mappings preserve information from earlier layers …”", f"{_REPORT}, 4.3",
        "mechanistic",
        "accuracy of a linear classifier on the best block − on the last block, deep plain − deep residual network",
        mechanistic.INFORMATION_FLOW, "resnet probe similarity RUNS", mechanistic.information_flow,
    ),
    Claim(
        "diagonal", "“… residual networks achieve better classification performance across all classes …”",
        f"{_REPORT}, 3.4", "mechanistic", "recall of every class, deep residual − deep plain network",
        predictions.RECALL, _TRAIN_ALL, predictions.diagonal,
        criterion="above 0 pp in each class; refuted if below 0 pp in any",
    ),
    Claim(
        "confidence", "“… sharper diagonal patterns indicating more confident predictions.”", f"{_REPORT}, Figure 5",
        "mechanistic", "mean confidence on the test images, deep residual − deep plain network; and |confidence − "
        "accuracy| of each run, deep plain − deep residual network",
        predictions.CONFIDENCE, "resnet probe calibration RUNS", predictions.confidence,
        criterion=f"confidence {predictions.CONFIDENCE.claimed}, and |confidence − accuracy| "
        f"{predictions.NOT_WORSE_CALIBRATED.claimed}; refuted if either is the opposite",
    ),
)  # fmt: skip
