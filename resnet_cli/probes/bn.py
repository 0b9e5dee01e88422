"""Error with the running statistics of batch normalisation, and with statistics re-estimated over the training set.

The running statistics are exponential averages over the last steps of training. After a short run they lag behind the
weights, and the measured error is then partly theirs. The probe evaluates the network in eval mode, without
augmentation, with both kinds of statistics; `reestimated_statistics` defines the second kind exactly.

Columns: statistics (`running` or `re-estimated`), split (`train` or `test`), loss (nats), error_pct (per cent),
num_images.
"""

import contextlib

from resnet_cli.config import RunConfig
from resnet_cli.probes.base import Network, Probe, Row, Settings
from resnet_cli.probes.batchnorm import reestimated_statistics
from resnet_cli.probes.scoring import score_splits

RUNNING, REESTIMATED = "running", "re-estimated"


def _units(config: RunConfig, settings: Settings) -> list[str]:
    return [RUNNING, REESTIMATED]


def _measure(network: Network, unit: str) -> list[Row]:
    # statistics over all images, however few are evaluated
    reestimated = reestimated_statistics(network.model, network.train, network.normalizer, network.batch_size)
    with contextlib.nullcontext() if unit == RUNNING else reestimated:
        return [{"statistics": unit, **row} for row in score_splits(network, network.model)]


PROBE = Probe(
    reference="Izmailov et al. 2018 (arXiv 1803.05407), section 3.2",
    units=_units,
    measure=_measure,
)
