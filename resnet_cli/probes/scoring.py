"""Loss and error of any function from images to logits."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.model import CifarNet
from resnet_cli.probes.base import Network, Row, choose_images


class Score(NamedTuple):
    """Result of a forward pass over labelled images."""

    loss: float
    """Mean cross-entropy in nats."""
    error_pct: float
    """Share of wrong predictions, in per cent."""
    num_images: int


@torch.no_grad()
def predict(
    forward: Callable[[Tensor], Tensor], images: DeviceImages, normalizer: Normalizer, batch_size: int
) -> Tensor:
    """Logits (N, classes) float32 of all `images`, in order, on the CPU; `forward` maps normalised images to logits."""
    batches = torch.split(images.pixels, batch_size)
    return torch.cat([forward(normalizer(pixels)) for pixels in batches]).float().cpu()


def score(forward: Callable[[Tensor], Tensor], images: DeviceImages, normalizer: Normalizer, batch_size: int) -> Score:
    """Evaluate `forward`, a network in eval mode or any other function from normalised images to logits."""
    return score_logits(predict(forward, images, normalizer, batch_size), images.labels)


def score_splits(network: Network, model: CifarNet) -> list[Row]:
    """Evaluate `model`, in eval mode, on the images of `network`: one row per split, with the columns of `Score`."""
    splits = {"train": network.train, "test": network.test}
    return [
        {
            "split": split,
            **score(model, choose_images(images, network.images), network.normalizer, network.batch_size)._asdict(),
        }
        for split, images in splits.items()
    ]


def score_logits(logits: Tensor, labels: Tensor) -> Score:
    """Evaluate logits (N, classes) on the CPU; the loss is not finite if a logit is not."""
    labels = labels.cpu()
    loss_sum = F.cross_entropy(logits, labels, reduction="none").double().sum().item()
    num_wrong = int((logits.argmax(dim=1) != labels).sum())
    return Score(loss_sum / len(labels), 100.0 * num_wrong / len(labels), len(labels))
