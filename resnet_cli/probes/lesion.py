"""Error and loss after blocks are deleted or swapped, without training the network again.

The probe deletes each block by itself, deletes growing random sets of blocks, and swaps random pairs of blocks. It
deletes and swaps blocks that keep the shape of their input: the remaining blocks then fit together, in a plain network
too, and a deleted residual block is the identity, as block inputs are never negative. In a residual network the two
downsampling blocks are deleted as well, one by one, by leaving only their shortcut, relu(S(x)).

Each repeat of the random deletions draws one order of the blocks and deletes the first k of it for several k, so that
its rows are one curve. The draws depend on the seed of the probe and on the depth, so a plain network and its residual
twin lose the same blocks.

Every network is evaluated on test images, with the running statistics of batch normalisation and with statistics
re-estimated after the change, over as many training images as are evaluated (`reestimated_statistics`). Changes are
relative to the intact network with the same kind of statistics.

Columns: lesion (`delete`, `delete-random` or `swap`), blocks (names, separated by spaces), stage (of the block or
the pair), downsampling (whether a block is deleted that changes the shape), num_deleted, repeat and deleted_share (of
random deletions: from 1, and of all blocks that keep the shape), statistics (`running` or `re-estimated`), loss (nats),
error_pct (per cent), num_images, loss_change (nats), error_change_pp (percentage points). A column that does not apply
is empty.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.config import RunConfig
from resnet_cli.model import Block, CifarNet
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.batchnorm import reestimated_statistics
from resnet_cli.probes.bn import REESTIMATED, RUNNING
from resnet_cli.probes.scoring import Score, score
from resnet_cli.util.seeding import derive_seed

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of the blocks to delete at random, rounded to whole blocks."""


Step = Callable[[Tensor], Tensor]


class Lesion(NamedTuple):
    """A network with some of its blocks deleted or swapped."""

    columns: Row
    """Values of the columns that describe it."""
    steps: list[Step]
    """Functions to apply in place of the blocks."""


def forward_with(model: CifarNet, steps: Sequence[Step]) -> Step:
    """The forward pass of `model` with `steps` in place of its blocks."""

    def forward(images: Tensor) -> Tensor:
        x = F.relu(model.bn1(model.conv1(images)))
        for step in steps:
            x = step(x)
        return model.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]

    return forward


def single_deletions(model: CifarNet, stage: int) -> list[Lesion]:
    """Delete each block of a stage; a downsampling block only if it is residual."""
    return [
        Lesion(
            _columns("delete", [block], stage=stage, downsampling=not _keeps_shape(block), num_deleted=1),
            [step for other in model.blocks() for step in (_without_branch(block) if other is block else [other])],
        )
        for block in model.blocks()
        if block.stage == stage and (_keeps_shape(block) or model.shortcut != "none")
    ]


def random_deletions(model: CifarNet, repeat: int, seed: int) -> list[Lesion]:
    """Delete growing sets of blocks that keep the shape, in one random order; the first set is empty."""
    candidates = [block for block in model.blocks() if _keeps_shape(block)]
    order = _generator(seed, "delete", repeat).permutation(len(candidates))
    lesions = []
    for count in sorted({0, *(max(1, round(share * len(candidates))) for share in SHARES)}):
        deleted = [candidates[index] for index in sorted(order[:count])]
        columns = _columns("delete-random", deleted, repeat=repeat, num_deleted=count)
        columns["deleted_share"] = count / len(candidates)
        lesions.append(Lesion(columns, [block for block in model.blocks() if block not in deleted]))
    return lesions


def swaps(model: CifarNet, count: int, seed: int) -> list[Lesion]:
    """Swap each of `count` random pairs of blocks of one shape; all pairs if there are no more."""
    candidates = [block for block in model.blocks() if _keeps_shape(block)]
    pairs = [(a, b) for a, b in itertools.combinations(candidates, 2) if a.stage == b.stage]
    chosen = sorted(_generator(seed, "swap").permutation(len(pairs))[:count])
    lesions = []
    for first, second in (pairs[index] for index in chosen):
        exchanged = {first: second, second: first}
        steps: list[Step] = [exchanged.get(block, block) for block in model.blocks()]
        lesions.append(Lesion(_columns("swap", [first, second], stage=first.stage), steps))
    return lesions


def _keeps_shape(block: Block) -> bool:
    return block.new_channels == 0


def _without_branch(block: Block) -> list[Step]:
    return [] if _keeps_shape(block) else [lambda x: F.relu(cast(Tensor, block.skip(x)))]


def _generator(seed: int, *purpose: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(derive_seed(seed, "lesion", *purpose)))


def _columns(lesion: str, blocks: list[Block], **others: int | bool) -> Row:
    names = " ".join(block.name for block in blocks)
    defaults = {"stage": None, "downsampling": False, "repeat": None, "num_deleted": 0, "deleted_share": None}
    return {"lesion": lesion, "blocks": names, **defaults, **others}


def _units(config: RunConfig, settings: Settings) -> list[str]:
    blocks_per_stage = (config.depth - 2) // 6
    deletions = [
        f"delete {stage}" for stage in (1, 2, 3) if stage == 1 or config.arch == "resnet" or blocks_per_stage > 1
    ]
    repeats = [f"delete-random {repeat}" for repeat in range(1, int(settings["repeats"]) + 1)]
    return [*deletions, *repeats, *(["swap"] if blocks_per_stage > 1 and settings["swaps"] else [])]


def _lesions(network: Network, unit: str) -> list[Lesion]:
    kind, _, number = unit.partition(" ")
    if kind == "delete":
        return single_deletions(network.model, int(number))
    if kind == "delete-random":
        return random_deletions(network.model, int(number), network.seed)
    return swaps(network.model, int(network.settings["swaps"]), network.seed)


def _measure(network: Network, unit: str) -> list[Row]:
    intact_steps: list[Step] = list(network.model.blocks())
    intact = _scores(network, intact_steps)
    rows = []
    for columns, steps in _lesions(network, unit):
        scores = intact if steps == intact_steps else _scores(network, steps)
        rows += [
            {
                **columns,
                "statistics": statistics,
                **found._asdict(),
                "loss_change": found.loss - intact[statistics].loss,
                "error_change_pp": found.error_pct - intact[statistics].error_pct,
            }
            for statistics, found in scores.items()
        ]
    return rows


def _scores(network: Network, steps: Sequence[Step]) -> dict[str, Score]:
    forward = forward_with(network.model, steps)
    train, test = (choose_images(images, network.images) for images in (network.train, network.test))
    scores = {RUNNING: score(forward, test, network.normalizer, network.batch_size)}
    with reestimated_statistics(network.model, train, network.normalizer, network.batch_size, forward):
        scores[REESTIMATED] = score(forward, test, network.normalizer, network.batch_size)
    return scores


PROBE = Probe(
    reference="Veit et al. 2016 (arXiv 1605.06431), section 4",
    units=_units,
    measure=_measure,
    images=250,
    settings={"repeats": 3, "swaps": 10},
    limits={"repeats": (1, 10_000), "swaps": (0, 10_000)},
)
