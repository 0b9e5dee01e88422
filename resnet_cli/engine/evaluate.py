"""Evaluation of a network in exact counts, independent of the batch size."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_cli.data.batches import DeviceImages, Normalizer
from resnet_cli.device import DeviceSetup
from resnet_cli.model import CifarNet

EVAL_BATCH_SIZE = 250  # on a CPU; larger batches do not fit into its caches
_GPU_EVAL_BATCH_SIZE = 2000


class EvalCounts(NamedTuple):
    """Sums over a labelled set, from which means are computed with one division."""

    num_examples: int
    num_wrong: int
    loss_sum: float
    logits: Tensor  # (N, classes) float32 on the CPU, in dataset order

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss_sum / self.num_examples

    @property
    def error_pct(self) -> float:
        """Share of wrong predictions, in per cent."""
        return 100.0 * self.num_wrong / self.num_examples

    @property
    def accuracy_pct(self) -> float:
        """Share of correct predictions, in per cent."""
        return 100.0 * (self.num_examples - self.num_wrong) / self.num_examples


class BatchLogits(NamedTuple):
    """Outputs and labels of one batch, on the device."""

    logits: Tensor  # (B, classes) float32
    labels: Tensor  # (B,) int64


class Predictor:
    """Computes logits (B, classes) float32 of pixels (B, H, W, 3) uint8, in eval mode without augmentation."""

    def __init__(self, model: CifarNet, normalizer: Normalizer, setup: DeviceSetup) -> None:
        self._model, self._normalizer, self._setup = model, normalizer, setup
        self.batch_size = EVAL_BATCH_SIZE if setup.device.type == "cpu" else _GPU_EVAL_BATCH_SIZE

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Predict one batch."""
        self._model.eval()
        with self._setup.autocast():
            return self._model(self._normalizer(pixels)).float()  # type: ignore[no-any-return]


def evaluate_batches(
    predict: Callable[[Tensor], Tensor], images: DeviceImages, batch_size: int
) -> Iterator[BatchLogits]:
    """Yield the logits of all `images`, batch by batch, in order."""
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        yield BatchLogits(predict(images.pixels[chosen]), images.labels[chosen])


@torch.no_grad()
def combine_batches(batches: list[BatchLogits]) -> EvalCounts:
    """Combine batches into counts; `logits` keeps their order."""
    logits = torch.cat([batch.logits for batch in batches]).cpu()
    labels = torch.cat([batch.labels for batch in batches]).cpu()
    loss_sum = F.cross_entropy(logits, labels, reduction="none").double().sum().item()
    return EvalCounts(len(labels), int((logits.argmax(dim=1) != labels).sum()), loss_sum, logits)


def evaluate(
    model: CifarNet, images: DeviceImages, normalizer: Normalizer, setup: DeviceSetup, *, batch_size: int | None = None
) -> EvalCounts:
    """Evaluate `model` on all `images`; the counts do not depend on `batch_size` (None: chosen for the device)."""
    predictor = Predictor(model, normalizer, setup)
    return combine_batches(list(evaluate_batches(predictor, images, batch_size or predictor.batch_size)))
