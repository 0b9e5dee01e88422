"""Training of one network, epoch by epoch: yields records, touches no files."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from resnet_cli.config import RunConfig
from resnet_cli.data.batches import DeviceImages, Normalizer, draw_epoch
from resnet_cli.data.dataset import Dataset, stratified_indices
from resnet_cli.device import DeviceSetup, peak_memory_bytes
from resnet_cli.dist import Ranks
from resnet_cli.engine.evaluate import BatchLogits, EvalCounts, Predictor, combine_batches, evaluate_batches
from resnet_cli.engine.graphs import Graphed
from resnet_cli.engine.step import DistributedStep, TrainStep
from resnet_cli.engine.sums import AsyncSumsReader, EpochSums
from resnet_cli.errors import DivergedError
from resnet_cli.model import CifarNet, build_model
from resnet_cli.optim import build_optimizer, lr_at, set_lr, steps_per_epoch, total_steps
from resnet_cli.probes.gradflow import batches_of, measure_gradflow, update_norms
from resnet_cli.rundir.records import EpochMetrics, GradflowRow
from resnet_cli.util.seeding import derive_seed


class StepEvent(NamedTuple):
    """Progress after a training step or an evaluated batch, where a run may be saved or stopped."""

    phase: Literal["train", "evaluate"]
    epoch: int
    """From 1."""
    done: int
    """Images seen in this phase of the epoch."""
    total: int
    """Images of this phase."""
    step: int
    """Optimizer steps taken since the start of the run."""
    running_loss: float | None
    """Mean training loss of the epoch so far; None if it was not read."""
    running_error_pct: float | None
    """Training error of the epoch so far, in per cent; None if it was not read."""


class InitialRecord(NamedTuple):
    """Measurements before the first step."""

    gradflow: list[GradflowRow]


class EpochRecord(NamedTuple):
    """Result of one epoch."""

    metrics: EpochMetrics
    gradflow: list[GradflowRow]
    """Empty if gradient flow was not measured after this epoch."""
    test_logits: Tensor
    """(N, classes) float32 on the CPU, in dataset order."""


class Engine:
    """One run's network, optimizer and data on a device.

    `run` continues from the current state, so an engine restored from a checkpoint continues exactly as the engine
    that saved it.

    Args:
        config: configuration of the run.
        dataset: the data that `config` names.
        setup: device and precision; with `ranks`, all processes must run the engine alike, and end in the same state.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, setup: DeviceSetup) -> None:
        self.config, self.setup = config, setup
        device = setup.device
        self.train_images = DeviceImages.on(device, dataset.train)
        self.test_images = DeviceImages.on(device, dataset.test)
        self.val_images = DeviceImages.on(device, dataset.val) if dataset.val else None
        self.clean_images = self._clean_subset()
        self.normalizer = Normalizer.for_dataset(dataset, config.normalization, device)
        model = build_model(config.arch, config.depth, config.shortcut, len(dataset.classes), seed=config.seed)
        self.model: CifarNet = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, config, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=setup.precision == "fp16")
        self.num_train = len(self.train_images)
        self.steps_per_epoch = steps_per_epoch(self.num_train, config.batch_size)
        self.total_steps = total_steps(config, self.num_train)
        self.num_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        # position and sums of the current epoch: a checkpoint contains these, the model, the optimizer and the scaler
        self.step = 0
        self.epochs_done = 0
        self.train_seconds = 0.0
        self.sums = EpochSums(device)
        self._build_steps()

    def _build_steps(self) -> None:
        predict = Predictor(self.model, self.normalizer, self.setup)
        self._eval_batch_size = predict.batch_size
        # a partial batch is not worth its own compilation or CUDA graph
        step = self._partial_step = self._step_of(self.model)
        if self.setup.compile:
            step = self._step_of(torch.compile(self.model, dynamic=False))
        self._full_step: Callable[[Tensor, Tensor, Tensor], Tensor] = step
        self._predict: Callable[[Tensor], Tensor] = predict
        if self.setup.cuda_graph:
            self._full_step = Graphed(step, self.config.batch_size, parameters=list(self.model.parameters()))
            self._predict = Graphed(predict, predict.batch_size)

    def _step_of(self, network: Callable[[Tensor], Tensor]) -> TrainStep | DistributedStep:
        step = TrainStep(
            network, self.optimizer, self.scaler, self.train_images, self.normalizer, self.setup, self.sums
        )
        ranks = self.setup.ranks
        return DistributedStep(step, self.model, ranks, self.config.sync_bn) if ranks else step

    def _clean_subset(self) -> DeviceImages:
        """The training images on which the clean error is measured before the last epoch, the same for every seed."""
        pixels, labels = self.train_images
        count = self.config.clean_train_images
        if not 0 < count < len(labels):
            return self.train_images
        chosen = torch.from_numpy(stratified_indices(labels.cpu().numpy(), count, derive_seed(0, "clean-train")))
        chosen = chosen.to(labels.device)
        return DeviceImages(pixels[chosen], labels[chosen])

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch is done and evaluated."""
        return self.epochs_done >= self.num_epochs

    def run(self) -> Iterator[StepEvent | InitialRecord | EpochRecord]:
        """Train to the end; yields a `StepEvent` after every step and evaluated batch, and a record after every epoch.

        An `InitialRecord` comes before the first step if gradient flow is measured.

        Raises:
            DivergedError: a loss was not finite; the message names the step.
        """
        if self.step == 0 and self.config.gradflow_every:
            yield InitialRecord(self._gradflow(epoch=0))
        while not self.is_finished:
            yield from self._train_epoch()
            yield (yield from self._end_epoch())

    def _train_epoch(self) -> Iterator[StepEvent]:
        epoch = self.epochs_done + 1
        first = self.epochs_done * self.steps_per_epoch
        last = min(first + self.steps_per_epoch, self.total_steps)
        if self.step == last:  # resumed in the evaluation
            return
        draws = draw_epoch(
            self.num_train, self.config.augment, seed=self.config.seed, epoch=epoch, device=self.setup.device
        )
        total = min(self.num_train, (last - first) * self.config.batch_size)
        self.model.train()
        self.sums.step.fill_(self.step)
        reader = AsyncSumsReader(self.sums, waits=self.setup.ranks is not None)
        while self.step < last:
            started = time.perf_counter()
            start = (self.step - first) * self.config.batch_size
            chosen = slice(start, min(start + self.config.batch_size, self.num_train))
            set_lr(self.optimizer, lr_at(self.step, self.config, self.num_train))
            step = self._full_step if chosen.stop - start == self.config.batch_size else self._partial_step
            step(draws.order[chosen], draws.shift[chosen], draws.flip[chosen])
            self.step += 1
            self.sums.num_seen += chosen.stop - start
            seen = reader.poll(self.step)
            self.train_seconds += time.perf_counter() - started
            if self.step == last or (seen and seen.is_bad):
                self.check_finite()
            loss, error_pct = (seen.loss, seen.error_pct) if seen else (None, None)
            yield StepEvent("train", epoch, min(chosen.stop, total), total, self.step, loss, error_pct)

    def check_finite(self) -> None:
        """Raise `DivergedError` when a loss of the epoch so far was not finite.

        Waits for the device, and counts the time as training time.
        """
        started = time.perf_counter()
        is_bad = self.sums.is_bad
        self.train_seconds += time.perf_counter() - started
        if is_bad:
            step = int(self.sums.first_bad_step)
            lr = lr_at(step, self.config, self.num_train)
            raise DivergedError(
                f"training diverged: the loss was not finite at step {step} (epoch {self.epochs_done + 1}, lr {lr:g})",
                hint="a smaller --lr or more --warmup-steps may help",
            )

    def is_finite(self) -> bool:
        """Whether weights, running statistics and momentum are all finite, so that the state is worth saving."""
        state = [*self.model.state_dict().values()]
        state += [values["momentum_buffer"] for values in self.optimizer.state.values()] if self.config.momentum else []
        largest = nn.utils.get_total_norm([value for value in state if value.is_floating_point()], math.inf)
        return bool(torch.isfinite(largest))

    def _end_epoch(self) -> Generator[StepEvent, None, EpochRecord]:
        epoch = self.epochs_done + 1
        started = time.perf_counter()
        is_last = epoch == self.num_epochs
        clean = None
        if is_last or self._is_due(self.config.clean_train_every, epoch):
            clean = yield from self._evaluate(self.train_images if is_last else self.clean_images)
        val = (yield from self._evaluate(self.val_images)) if self.val_images else None
        test = yield from self._evaluate(self.test_images)
        if not self.is_finite():
            # the last loss was finite, but the network after the last step is not; an infinite test loss alone is not
            # divergence: in the first epochs the running statistics of batch normalisation lag behind
            self.sums.first_bad_step.fill_(self.step - 1)
            self.check_finite()
        gradflow = self._gradflow(epoch) if self._is_due(self.config.gradflow_every, epoch) else []
        eval_seconds = time.perf_counter() - started
        metrics = EpochMetrics(
            epoch=epoch, step=self.step, lr=lr_at(self.step - 1, self.config, self.num_train),
            train_loss=self.sums.loss, train_error_pct=self.sums.error_pct,
            train_clean_loss=clean.loss if clean else None, train_clean_error_pct=clean.error_pct if clean else None,
            train_clean_images=clean.num_examples if clean else None,
            val_loss=val.loss if val else None, val_error_pct=val.error_pct if val else None,
            test_loss=test.loss, test_error_pct=test.error_pct, test_accuracy_pct=test.accuracy_pct,
            images_per_second=self.sums.num_seen / self.train_seconds, train_seconds=self.train_seconds,
            eval_seconds=eval_seconds, peak_memory_bytes=peak_memory_bytes(self.setup.device),
        )  # fmt: skip
        record = EpochRecord(metrics, gradflow, test.logits)
        self.epochs_done = epoch
        self.train_seconds = 0.0
        self.sums.reset()
        return record

    def predict_test(self) -> Tensor:
        """Logits (N, classes) float32 of the test images, on the CPU, in dataset order, as in an `EpochRecord`."""
        return combine_batches(list(evaluate_batches(self._predict, self.test_images, self._eval_batch_size))).logits

    def _evaluate(self, images: DeviceImages) -> Generator[StepEvent, None, EvalCounts]:
        if self.setup.ranks:
            return (yield from self._evaluate_together(images, self.setup.ranks))
        pieces, done = [], 0
        for piece in evaluate_batches(self._predict, images, self._eval_batch_size):
            pieces.append(piece)
            done += len(piece.labels)
            yield self._evaluated(done, images)
        return combine_batches(pieces)

    def _evaluate_together(self, images: DeviceImages, ranks: Ranks) -> Generator[StepEvent, None, EvalCounts]:
        """Evaluate each batch in one of the processes, in turn; all of them receive all logits."""
        size, num_images = self._eval_batch_size, len(images)
        logits = torch.zeros(num_images, self.model.fc.out_features, device=images.labels.device)
        for first in range(0, num_images, size * ranks.size):
            mine = slice(first + ranks.rank * size, min(first + (ranks.rank + 1) * size, num_images))
            if mine.start < num_images:
                logits[mine] = self._predict(images.pixels[mine])
            # every process yields as often as the others
            yield self._evaluated(min(first + size * ranks.size, num_images), images)
        ranks.all_reduce_sum([logits])  # the rows of the other processes are zero
        return combine_batches([BatchLogits(logits, images.labels)])

    def _evaluated(self, done: int, images: DeviceImages) -> StepEvent:
        return StepEvent("evaluate", self.epochs_done + 1, done, len(images), self.step, None, None)

    def _gradflow(self, epoch: int) -> list[GradflowRow]:
        """Gradient flow at every layer; measured by rank 0, for which the others wait."""
        if self.setup.ranks and self.setup.ranks.rank:
            return []
        lr = lr_at(max(self.step - 1, 0), self.config, self.num_train)
        num_batches, batch_size = batches_of(self.num_train)
        return measure_gradflow(
            self.model, self.train_images, self.normalizer, lr=lr, epoch=epoch,
            update_norms=update_norms(self.model, self.optimizer, lr) if self.step else None,
            num_batches=num_batches, batch_size=batch_size,
        )  # fmt: skip

    def _is_due(self, every: int, epoch: int) -> bool:
        return every > 0 and epoch % every == 0
