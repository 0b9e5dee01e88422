"""Check that the gradient at a block's input is the sum of its two parts."""

from pathlib import Path

from resnet_cli.measure.opening import Opener
from resnet_cli.measure.subjects import Subject
from resnet_cli.util.progress import Progress, silent

_NUM_IMAGES = 32


def check_identity(
    subjects: list[Subject], *, data_dir: Path | None = None, device: str = "auto", progress: Progress = silent
) -> dict[str, float]:
    """Largest relative residual of ∂L/∂x = Sᵀ(m ⊙ g) + J_Fᵀ(m ⊙ g) over all blocks, by autograd in float64.

    Args:
        subjects: networks to check, each on 32 of its own training images.
        data_dir: folder of the datasets; None: that of the run, else the default.
        device: as for `RunConfig`.
        progress: receives the number of networks done.

    Returns:
        The residual by label; see `resnet_cli.probes.gradflow.identity_residuals`.

    Raises:
        InputError: data or weights cannot be read, or are not those of the run.
    """
    from resnet_cli.probes.gradflow import identity_residuals

    opener = Opener(data_dir, device, progress)
    residuals: dict[str, float] = {}
    for number, subject in enumerate(subjects):
        progress("checking the identity", number, len(subjects), "networks")
        network = opener.network(subject, images=None, batch_size=_NUM_IMAGES, seed=0, settings={})
        images = network.normalizer(network.train.pixels[:_NUM_IMAGES])
        found = identity_residuals(network.model, images, network.train.labels[:_NUM_IMAGES])
        residuals[subject.label] = max(residuals.get(subject.label, 0.0), *found)
    progress("checking the identity", len(subjects), len(subjects), "networks")
    return residuals
