"""One run from start to summary: engine, checkpoint and run directory together."""

import contextlib
import datetime
import math
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from resnet_cli import __version__
from resnet_cli.config import RunConfig, RunOptions
from resnet_cli.data import Dataset, load_dataset
from resnet_cli.errors import (
    DivergedError,
    InputError,
    InterruptedByUserError,
    StoppedError,
    UsageError,
)
from resnet_cli.progress import silent
from resnet_cli.rundir import (
    DatasetRecord,
    Divergence,
    ModelRecord,
    Predictions,
    RunDir,
    RunRecord,
    Summary,
)
from resnet_cli.runpage import run_page
from resnet_cli.signals import StopFlag

if TYPE_CHECKING:
    from resnet_cli.engine import EpochRecord, Tick

# torch is imported inside functions: a finished run is found, and a wrong one refused, without it.


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def progress(self, label: str, done: int, total: int, unit: str = "") -> None:
        """Data is being fetched or decoded."""

    def started(self, record: RunRecord, path: Path, num_epochs: int, epochs_done: int) -> None:
        """Training starts or, with `epochs_done` or a step behind it, goes on."""

    def tick(self, tick: "Tick") -> None:
        """A step or an evaluated batch is done."""

    def epoch(self, metrics: dict[str, float | int | None]) -> None:
        """An epoch is done; `metrics` is its row of metrics.csv."""


class SilentReporter:
    """Tells nobody."""

    progress = staticmethod(silent)

    def started(self, record: RunRecord, path: Path, num_epochs: int, epochs_done: int) -> None:
        """Say nothing."""

    def tick(self, tick: "Tick") -> None:
        """Say nothing."""

    def epoch(self, metrics: dict[str, float | int | None]) -> None:
        """Say nothing."""


class Result(NamedTuple):
    """What `train` returns."""

    run: RunDir
    record: RunRecord
    summary: Summary
    was_complete: bool
    """Whether the run was there already and nothing was trained."""


def default_out(config: RunConfig, folder: Path = Path("runs")) -> Path:
    """Where a run goes when nothing is said: one directory for each configuration.

    >>> # resnet-56 with the recipe as it is: runs/cifar10-report2025-resnet-56-seed0
    """
    from resnet_cli.recipes import recipe_label

    name = f"{config.dataset}-{config.recipe}-{config.network}-seed{config.seed}"
    standard = msgspec.structs.replace(config, device="auto", compile="auto", deterministic=False, gradflow_every=0)
    if recipe_label(config) != config.recipe or config != standard:
        name += f"-{config.fingerprint()[:8]}"
    return folder / name


def train(
    config: RunConfig,
    out: Path | None = None,
    *,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
    argv: list[str] | None = None,
) -> Result:
    """Train `config` in the run directory `out`: start it, resume it, or find it done.

    Args:
        config: what to train.
        out: the run directory; None: `default_out(config)`.
        options: where the data lies and how often to save.
        reporter: who is told about progress.
        overwrite: remove what an earlier run wrote to `out` and start afresh.
        argv: the command line, for run.json.

    Raises:
        UsageError: `out` holds another configuration or foreign files, or another process trains there.
        InputError: the dataset cannot be read or is not the one that the run began with.
        DivergedError: a loss was not finite, now or when the run was last tried.
        StoppedError: a signal stopped the run after saving; call again to resume.
    """
    run = RunDir(out or default_out(config))
    options, reporter = options or RunOptions(), reporter or SilentReporter()
    earlier = None if overwrite else _earlier(run, config)
    if earlier and (done := _already_done(run, earlier)):
        return done
    _check_folder(run)
    data_dir = Path(options.data_dir) if options.data_dir else None
    if data_dir is None and earlier and earlier.dataset.location:
        data_dir = Path(earlier.dataset.location)
    dataset = load_dataset(config, data_dir, progress=reporter.progress)
    if earlier and earlier.dataset.fingerprint != dataset.fingerprint:
        raise InputError(
            f"{run.path} was trained on data with fingerprint {earlier.dataset.fingerprint[:12]}, "
            f"these have {dataset.fingerprint[:12]}",
            hint="give the original --data-dir, or --overwrite",
        )
    with _locked(run):
        # another process may have finished it while this one read the data
        earlier = None if overwrite else _earlier(run, config)
        if earlier and (done := _already_done(run, earlier)):
            return done
        return Session(run, config, dataset, options, reporter).run_to_end(earlier, argv or sys.argv)


@contextlib.contextmanager
def _locked(run: RunDir) -> Iterator[None]:
    is_new = not run.path.exists()
    lock = run.lock()
    try:
        yield
    finally:
        lock.release()
        if is_new and not run.exists():
            # nothing came of it: leave no empty folder behind
            run.lock_path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                run.path.rmdir()


def _earlier(run: RunDir, config: RunConfig) -> RunRecord | None:
    if not run.exists():
        return None
    record = run.read_record()
    if record.config != config:
        raise UsageError(
            f"{run.path} holds a run with another configuration ({'; '.join(record.config.diff(config))})",
            hint="choose another --out, or --overwrite to start afresh",
        )
    return record


def _already_done(run: RunDir, record: RunRecord) -> Result | None:
    status = run.status()
    if status == "complete":
        return Result(run, record, run.read_summary(), was_complete=True)
    if status == "diverged":
        where = run.read_divergence()
        raise DivergedError(
            f"{run.path} diverged at step {where.step} (epoch {where.epoch}, lr {where.lr:g})",
            hint="--overwrite trains it again",
        )
    return None


def _check_folder(run: RunDir) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise UsageError(f"--out {run.path} is a file", hint="name a folder")
    if run.path.is_dir() and not run.exists():
        foreign = [path.name for path in run.path.iterdir() if path != run.lock_path and path.name[0] != "."]
        known = {run.metrics_path.name, run.gradflow_path.name, "weights", "checkpoints"}
        if set(foreign) - known:
            raise UsageError(
                f"--out {run.path} is not empty and not a run directory (it holds {sorted(foreign)[0]})",
                hint="name a new folder",
            )


class Session:
    """Drives an engine and writes what it yields; see `train`."""

    def __init__(
        self, run: RunDir, config: RunConfig, dataset: Dataset, options: RunOptions, reporter: Reporter
    ) -> None:
        self.run, self.config, self.dataset = run, config, dataset
        self.options, self.reporter = options, reporter
        self.best: dict[str, float | int | None] = {}
        self.best_num_wrong: int | None = None
        self._last_save = time.monotonic()

    def run_to_end(self, earlier: RunRecord | None, argv: list[str]) -> Result:
        """Start afresh (`earlier` None) or go on; returns when the run is complete."""
        from resnet_cli.device import decide, describe_environment
        from resnet_cli.engine import Engine

        model = self._model_record()
        plan = decide(
            self.config,
            planned_macs=self._planned_images() * model.macs,
            recorded=earlier.decisions if earlier else None,
        )
        self.engine = Engine(self.config, self.dataset, plan)
        if earlier is None:
            self.run.clear()
            self.record = RunRecord(
                run_id=uuid.uuid4().hex[:12], created_at=_now(), argv=tuple(argv), tool_version=__version__,
                config=self.config, environment=describe_environment(plan), dataset=self._dataset_record(),
                model=model, decisions=plan.decisions,
            )  # fmt: skip
            self.run.create(self.record)
        else:
            self.record = earlier
            self._resume()
        self.reporter.started(self.record, self.run.path, self.engine.num_epochs, self.engine.epochs_done)
        try:
            with StopFlag() as stop:
                self._train(stop)
        except DivergedError:
            self._record_divergence()
            raise
        return Result(self.run, self.record, self._finish(), was_complete=False)

    def _resume(self) -> None:
        from resnet_cli.checkpoint import load_state

        self.run.remove_leftovers()
        if self.run.checkpoint_path.is_file():
            extra = load_state(self.engine, self.run.checkpoint_path)
            self.best, self.best_num_wrong = extra["best"], extra["best_num_wrong"]
        self.run.truncate_to_epoch(self.engine.epochs_done)

    def _train(self, stop: StopFlag) -> None:
        from resnet_cli.engine import Tick

        for event in self.engine.run():
            if isinstance(event, Tick):
                self.reporter.tick(event)
                if stop.signal_name or self._is_save_due(event):
                    self._save()
            else:
                self._record_epoch(event)
                if stop.signal_name or self._is_epoch_save_due():
                    self._save()
                self.reporter.epoch(event.metrics)
            if stop.signal_name and not self.engine.is_finished:
                self._stop(stop.signal_name)

    def _stop(self, signal_name: str) -> None:
        kind = InterruptedByUserError if signal_name == "SIGINT" else StoppedError
        raise kind(
            f"stopped by {signal_name} at step {self.engine.step} of {self.engine.total_steps}; "
            f"{self.run.path} is saved",
            hint="the same command resumes it",
        )

    # ------------------------------------------------------------------ saving

    def _is_save_due(self, tick: "Tick") -> bool:
        every = self.options.save_every
        if every.unit == "steps":
            return tick.phase == "train" and tick.step % every.amount == 0
        return every.unit == "minutes" and time.monotonic() - self._last_save >= 60 * every.amount

    def _is_epoch_save_due(self) -> bool:
        every = self.options.save_every
        return self.engine.is_finished or (every.unit == "epochs" and self.engine.epochs_done % every.amount == 0)

    def _save(self) -> None:
        """Write last weights, then the checkpoint; never of a state that has diverged."""
        from resnet_cli.checkpoint import dump_state, is_finite

        self.engine.check_finite()
        if not is_finite(self.engine):
            return  # the next loss will say so; the checkpoint before this one stays
        self._write_weights(self.run.last_weights_path)
        extra = {"best": self.best, "best_num_wrong": self.best_num_wrong}
        self.run.write_bytes(self.run.checkpoint_path, dump_state(self.engine, extra))
        self._last_save = time.monotonic()

    def _write_weights(self, path: Path) -> None:
        from resnet_cli.checkpoint import dump_weights

        # what `resnet eval` needs to know about a file that has lost its run directory
        metadata = {
            "format": "resnet-cli",
            "schema_version": "1",
            "config": msgspec.json.encode(self.config).decode(),
            "network": self.config.network,
            "num_classes": str(len(self.dataset.classes)),
            "dataset": self.dataset.display_name,
            "mean": msgspec.json.encode(self.dataset.mean).decode(),
            "std": msgspec.json.encode(self.dataset.std).decode(),
        }
        self.run.write_bytes(path, dump_weights(self.engine, metadata))

    def _record_epoch(self, epoch: "EpochRecord") -> None:
        self.run.append_metrics(epoch.metrics)
        if epoch.gradflow:
            self.run.append_gradflow(epoch.gradflow)
        if self.best_num_wrong is None or epoch.num_selected_wrong < self.best_num_wrong:
            self.best, self.best_num_wrong = epoch.metrics, epoch.num_selected_wrong
            self._write_weights(self.run.best_weights_path)
        if self.engine.is_finished:
            self.run.write_predictions(Predictions(self.dataset.test.labels, epoch.test_logits.numpy()))

    # ----------------------------------------------------------------- records

    def _record_divergence(self) -> None:
        from resnet_cli.optim import lr_at

        step = int(self.engine.sums.first_bad_step)
        self.run.write_divergence(
            Divergence(
                run_id=self.record.run_id,
                finished_at=_now(),
                epoch=self.engine.epochs_done + 1,
                step=step,
                lr=lr_at(step, self.config, self.engine.num_train),
            )
        )

    def _finish(self) -> Summary:
        metrics = self.run.read_metrics()
        last = {str(name): _scalar(value) for name, value in metrics.iloc[-1].items()}
        peak = metrics["peak_memory_bytes"].max()
        summary = Summary(
            run_id=self.record.run_id,
            finished_at=_now(),
            last=last,
            best=self.best,
            best_chosen_on="val" if self.dataset.val else "test",
            train_seconds=float(metrics["train_seconds"].sum()),
            eval_seconds=float(metrics["eval_seconds"].sum()),
            peak_memory_bytes=None if math.isnan(peak) else int(peak),
        )
        self.run.write_summary(summary, run_page(self.record, summary))
        return summary

    def _planned_images(self) -> int:
        from resnet_cli.optim import total_steps

        return total_steps(self.config, len(self.dataset.train)) * self.config.batch_size

    def _model_record(self) -> ModelRecord:
        import torch

        from resnet_cli.model import CifarNet, count_macs, count_parameters

        config, num_classes = self.config, len(self.dataset.classes)
        with torch.device("meta"):
            parameters = count_parameters(CifarNet(config.depth, config.shortcut, num_classes))
        return ModelRecord(
            arch=config.arch, depth=config.depth, shortcut=config.shortcut, num_classes=num_classes,
            parameters=parameters,
            macs=count_macs(config.depth, config.shortcut, num_classes, image_size=self.dataset.image_size),
        )  # fmt: skip

    def _dataset_record(self) -> DatasetRecord:
        data = self.dataset
        return DatasetRecord(
            name=data.name, display_name=data.display_name, fingerprint=data.fingerprint,
            num_train=len(data.train), num_val=len(data.val) if data.val else 0, num_test=len(data.test),
            classes=data.classes, image_size=data.image_size, mean=data.mean, std=data.std, location=data.location,
        )  # fmt: skip


def _scalar(value: float) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
