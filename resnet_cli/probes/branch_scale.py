"""Error and loss of a residual network whose branches are all multiplied by α: each block is relu(S(x) + α F(x)).

At α = 0 only the shortcuts remain, and α = 1 is the network itself. Scaling changes the distribution of every later
activation, so the running statistics of batch normalisation no longer fit; the probe evaluates the network with them
and with statistics re-estimated for each α, over as many training images as are evaluated (`reestimated_statistics`).

A plain network has no shortcuts: its next batch normalisation would undo the scaling. It is therefore left out.

Columns: alpha, statistics (`running` or `re-estimated`), split (`train` or `test`), loss (nats), error_pct (per cent),
num_images.
"""

import copy

import torch

from resnet_cli.config import RunConfig
from resnet_cli.model import CifarNet
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.batchnorm import reestimated_statistics
from resnet_cli.probes.bn import REESTIMATED, RUNNING
from resnet_cli.probes.scoring import score_splits

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""From the shortcuts alone to branches half as large again."""


@torch.no_grad()
def scale_branches(model: CifarNet, alpha: float) -> CifarNet:
    """Copy `model` with F(x) of every block multiplied by `alpha`.

    F(x) ends with batch normalisation, so multiplying its scale γ and shift β is enough.
    """
    scaled = copy.deepcopy(model)
    for block in scaled.blocks():
        block.bn2.weight.mul_(alpha)
        block.bn2.bias.mul_(alpha)
    return scaled


def _units(config: RunConfig, settings: Settings) -> list[str]:
    return [f"{alpha:g}" for alpha in ALPHAS]


def _measure(network: Network, unit: str) -> list[Row]:
    model = scale_branches(network.model, float(unit))

    def rows(statistics: str) -> list[Row]:
        return [{"alpha": float(unit), "statistics": statistics, **row} for row in score_splits(network, model)]

    with_running = rows(RUNNING)
    train = choose_images(network.train, network.images)
    with reestimated_statistics(model, train, network.normalizer, network.batch_size):
        return with_running + rows(REESTIMATED)


def _refuse(config: RunConfig) -> str | None:
    return "a plain network has no shortcuts to compare its branches with" if config.arch == "plain" else None


PROBE = Probe(
    reference="He et al. 2015 (arXiv 1512.03385), section 4.2: the hypothesis that residual functions are close to 0",
    units=_units,
    measure=_measure,
    images=250,
    refuse=_refuse,
)
