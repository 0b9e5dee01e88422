"""A deeper plain network that computes the same function as a trained shallower one.

Every stage of the shallower network is extended by blocks that compute the identity: Dirac kernels, and batch
normalisation that undoes itself. Their input is the output of a ReLU, so it is not negative, and their own ReLUs pass
it unchanged. The deeper network therefore fits the training images as well as the shallower one: the degradation of
plain networks is not a lack of capacity (He et al. 2015, section 1, argue with this construction).

Batch normalisation with running mean μ and variance σ² is the identity in eval mode when its scale is √(σ² + ε) and
its shift is μ. Two choices are measured:

- `initial`: μ = 0 and σ² = 1, the values that batch normalisation starts with;
- `matched`: μ and σ² of each channel of the block's input, over the training images that are measured.

Both are the identity in eval mode. In training mode, batch normalisation uses the mean and variance of the batch
instead of μ and σ²: `initial` then normalises its input to mean 0 and variance 1, and its ReLU removes the negative
half, whereas `matched` changes its input only as much as the batch differs from the training images.

With `--set finetune=N`, the deeper network is then trained for N epochs, with the batch size, augmentation, momentum
and weight decay of the run and a constant learning rate (`--set lr=X`).

Columns:

- statistics: `initial` or `matched`
- built_depth: number of weighted layers; that of the run for the network from which the deeper one was built
- mode: `eval`, `train` (batch statistics, without a training step) or `fine-tuned` (in eval mode afterwards)
- dtype: of both networks; `float64` in mode `eval`, where only rounding may separate them, else `float32`
- epoch: epochs of fine-tuning; 0 before
- split: `train` or `test`; mode `train` is measured on training images only
- num_images, loss (nats), error_pct
- max_logit_difference: largest absolute difference from the logits of the shallower network in the same mode, over
  all images and classes
- num_changed: number of images whose predicted class differs from that of the shallower network
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_cli.config import MAX_DEPTH, RunConfig
from resnet_cli.data.batches import DeviceImages, crop_and_flip, draw_epoch
from resnet_cli.errors import UsageError
from resnet_cli.model import Block, CifarNet
from resnet_cli.probes.base import Network, Probe, Row, Settings, choose_images
from resnet_cli.probes.batchnorm import shuffled
from resnet_cli.probes.blocks import capture_blocks, frozen_statistics
from resnet_cli.probes.scoring import score_logits

INITIAL, MATCHED = "initial", "matched"
EVAL, TRAIN, FINE_TUNED = "eval", "train", "fine-tuned"


class ChannelStatistics(NamedTuple):
    """Mean and population variance of each channel, (C,) float32."""

    mean: Tensor
    variance: Tensor


@torch.no_grad()
def deepen(model: CifarNet, num_blocks: int, statistics: list[ChannelStatistics] | None = None) -> CifarNet:
    """Append `num_blocks` identity blocks to each stage of a plain network.

    Args:
        model: a plain network; it is copied.
        num_blocks: number of blocks per stage; each adds two layers, so the depth grows by 6 per block.
        statistics: of the output of each stage, for batch normalisation; None: mean 0 and variance 1.

    Returns:
        The deeper network in eval mode, on the same device and of the same dtype.
    """
    deeper = CifarNet(model.depth + 6 * num_blocks, "none", model.fc.out_features)
    weight = model.fc.weight
    deeper.to(weight.device, weight.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    deeper.load_state_dict(model.state_dict(), strict=False)
    blocks_per_stage = (model.depth - 2) // 6
    for block in deeper.blocks():
        if block.index > blocks_per_stage:
            _make_identity(block, statistics[block.stage - 1] if statistics else None)
    return deeper.eval()


def _make_identity(block: Block, statistics: ChannelStatistics | None) -> None:
    for conv, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        nn.init.dirac_(conv.weight)
        if statistics:
            norm.running_mean.copy_(statistics.mean)
            norm.running_var.copy_(statistics.variance)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)


@torch.no_grad()
def stage_statistics(network: Network, images: DeviceImages) -> list[ChannelStatistics]:
    """Statistics of the output of each stage in eval mode, over `images` and all positions."""
    moments: dict[int, list[Tensor]] = {1: [], 2: [], 3: []}
    for pixels in torch.split(images.pixels, network.batch_size):
        _, blocks = capture_blocks(network.model, network.normalizer(pixels))
        outputs = {found.block.stage: found.output for found in blocks}  # the last block of a stage replaces the others
        for stage, output in outputs.items():
            values = output.cpu().double()  # (N, C, H, W); not every device has float64
            moments[stage].append(torch.stack([values.mean((2, 3)).sum(0), values.square().mean((2, 3)).sum(0)]))
    means = [torch.stack(parts).sum(0) / len(images) for parts in moments.values()]
    return [ChannelStatistics(mean.float(), (square - mean**2).clamp(min=0).float()) for mean, square in means]


def _in_float64(model: CifarNet) -> CifarNet:
    """A copy of a model, on the CPU if its device has no float64."""
    device = model.fc.weight.device
    return copy.deepcopy(model).to("cpu" if device.type == "mps" else device).double()


@torch.no_grad()
def _logits(model: CifarNet, images: DeviceImages, network: Network, mode: str) -> Tensor:
    """Logits of `images`, in order and in the dtype of the model, on the CPU.

    Mode `train` normalises by the batch and leaves the running statistics alone.
    """
    weight = model.fc.weight
    batches = (network.normalizer(pixels) for pixels in torch.split(images.pixels, network.batch_size))
    with frozen_statistics(model):
        model.train(mode == TRAIN)
        logits = torch.cat([model(batch.to(weight.device).to(weight.dtype)) for batch in batches]).cpu()
    model.eval()
    return logits


def _finetune(model: CifarNet, network: Network, images: DeviceImages) -> Iterator[int]:
    """Train `model` on `images`; yields the number of epochs done."""
    config, settings = network.config, network.settings
    optimizer = torch.optim.SGD(
        model.parameters(), lr=float(settings["lr"]), momentum=config.momentum, weight_decay=config.weight_decay
    )
    for epoch in range(1, int(settings["finetune"]) + 1):
        draws = draw_epoch(len(images), config.augment, seed=network.seed, epoch=epoch, device=images.labels.device)
        model.train()
        for batch in torch.split(torch.arange(len(images), device=images.labels.device), config.batch_size):
            chosen = draws.order[batch]
            pixels = crop_and_flip(images.pixels[chosen], draws.shift[batch], draws.flip[batch])
            optimizer.zero_grad()
            F.cross_entropy(model(network.normalizer(pixels)), images.labels[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        yield epoch


def _measure(network: Network, unit: str) -> list[Row]:
    train, test = (choose_images(images, network.images) for images in (network.train, network.test))
    order = shuffled(len(train))  # a batch of a dataset that is sorted by class would contain one class
    splits = {"train": DeviceImages(train.pixels[order], train.labels[order]), "test": test}
    statistics = stage_statistics(network, train) if unit == MATCHED else None
    num_blocks = int(network.settings["blocks"])
    deeper = deepen(network.model, num_blocks, statistics)
    rows = []

    def compare(shallow: CifarNet, deep: CifarNet, mode: str, epoch: int = 0) -> None:
        for split, images in splits.items():
            if mode == TRAIN and split == "test":
                continue
            expected, found = (_logits(model, images, network, mode) for model in (shallow, deep))
            for model, logits in ((shallow, expected), (deep, found)):
                if model is deep or epoch == 0:
                    rows.append({
                        "statistics": unit, "built_depth": model.depth, "mode": mode,
                        "dtype": str(logits.dtype).removeprefix("torch."), "epoch": epoch, "split": split,
                        **score_logits(logits, images.labels)._asdict(),
                        "max_logit_difference": (logits - expected).abs().max().item(),
                        "num_changed": int((logits.argmax(1) != expected.argmax(1)).sum()),
                    })  # fmt: skip

    exact = _in_float64(network.model)
    compare(exact, deepen(exact, num_blocks, statistics), EVAL)
    compare(network.model, deeper, TRAIN)
    for epoch in _finetune(deeper, network, network.train):
        compare(network.model, deeper, FINE_TUNED, epoch)
    return rows


def _units(config: RunConfig, settings: Settings) -> list[str]:
    if (depth := config.depth + 6 * int(settings["blocks"])) > MAX_DEPTH:
        raise UsageError(f"--set blocks={settings['blocks']}: {config.network} would get {depth} layers, and "
                         f"{MAX_DEPTH} is the most")  # fmt: skip
    return [INITIAL, MATCHED]


def _refuse(config: RunConfig) -> str | None:
    return None if config.arch == "plain" else "the construction applies to plain networks only"


PROBE = Probe(
    reference="He et al. 2015 (arXiv 1512.03385), section 1",
    units=_units,
    measure=_measure,
    images=2000,
    settings={"blocks": 6, "finetune": 0, "lr": 0.001},
    limits={"blocks": (1, 198), "finetune": (0, 1000), "lr": (0, 1000)},
    refuse=_refuse,
)
