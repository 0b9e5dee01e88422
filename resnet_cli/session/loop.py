"""One run in progress: drives the engine, saves its state and writes its records to the run directory."""

import hashlib
import os
import time
import uuid
from pathlib import Path

import msgspec
import torch

from resnet_cli.checkpoint import dump_state, dump_weights, load_state
from resnet_cli.config import RunConfig, RunOptions
from resnet_cli.data import Dataset
from resnet_cli.device import decide, describe_environment
from resnet_cli.engine import Engine, EpochRecord, InitialRecord, StepEvent
from resnet_cli.errors import DivergedError, InterruptedByUserError, RunFileError, StoppedError
from resnet_cli.model import CifarNet, count_macs, count_parameters
from resnet_cli.optim import lr_at, total_steps
from resnet_cli.recipes import recipe_label, train_arguments
from resnet_cli.rundir import (
    Attempt,
    DatasetRecord,
    Decision,
    Divergence,
    EpochMetrics,
    InitialWeights,
    ModelRecord,
    Predictions,
    RunDir,
    RunRecord,
    Summary,
    now,
)
from resnet_cli.rundir.page import run_page
from resnet_cli.rundir.records import FileState
from resnet_cli.session.initial import InitialFile
from resnet_cli.session.reporter import Reporter, Result, Start
from resnet_cli.session.team import InitialState, Team, agreed_signal, stop_flag
from resnet_cli.util.files import file_sha256
from resnet_cli.util.resources import check_disk_space
from resnet_cli.util.signals import StopFlag
from resnet_cli.version import __version__
from resnet_cli.weights.file import SCHEMA_VERSION

_BEST = "weights/best.safetensors"


class Session:
    """One run in progress; see `train`."""

    def __init__(
        self, run: RunDir, config: RunConfig, dataset: Dataset, options: RunOptions, reporter: Reporter,
        initial: InitialFile | None, team: Team,
    ) -> None:  # fmt: skip
        self.team = team
        self.run, self.config, self.dataset = run, config, dataset
        self.options, self.reporter, self.initial = options, reporter, initial
        self.epochs: list[EpochMetrics] = []
        self.best: EpochMetrics | None = None
        self._new_best: bytes | None = None  # weights of a better epoch, until the next checkpoint
        self._saved_best: FileState | None = None
        self._last_save = time.monotonic()

    def run_to_end(self, earlier: RunRecord | None, decisions: dict[str, Decision] | None, argv: list[str]) -> Result:
        """Start a run, or resume the one recorded in `earlier`, and return when it is complete.

        Args:
            earlier: run.json of the run to resume (None: start a new run).
            decisions: device, precision and so on to compute with (None: decide).
            argv: the command line, for run.json.
        """
        model = self._model_record()
        # best and last weights, the checkpoint with momentum (twice while it is replaced), tables and predictions
        check_disk_space(self.run.path, 4 * model.parameters * 6 + 8_000_000)
        planned_images = total_steps(self.config, len(self.dataset.train)) * self.config.batch_size
        setup = decide(
            self.config, planned_macs=planned_images * model.macs, recorded=decisions,
            cuda_graph=self.options.cuda_graph, ranks=self.team.ranks,
        )  # fmt: skip
        attempt = Attempt(
            started_at=now(), argv=tuple(argv), tool_version=__version__, step=0,
            environment=describe_environment(setup), decisions=setup.decisions,
        )  # fmt: skip
        self.engine = Engine(self.config, self.dataset, setup)
        if self.initial:
            self.engine.model.load_state_dict(self.initial.read(self.config, self.dataset))
        if earlier is None:
            self.run.clear()
            self.record = RunRecord(
                run_id=uuid.uuid4().hex[:12], created_at=attempt.started_at, argv=attempt.argv,
                tool_version=attempt.tool_version, config=self.config, environment=attempt.environment,
                dataset=self._dataset_record(), model=model, decisions=attempt.decisions,
                init_from=self._copy_initial_weights(),
            )  # fmt: skip
            self.run.create(self.record)
        else:
            self.record = earlier
            self._restore()
            self._report_changes(attempt)
        self.run.append_attempt(msgspec.structs.replace(attempt, step=self.engine.step))
        engine = self.engine
        start = Start(engine.step, engine.total_steps, engine.epochs_done, engine.num_epochs, earlier is not None)
        self.reporter.started(self.record, self.run.path, start)
        if self.team.ranks:
            self.team.begin(InitialState(self.config, self.record.dataset, setup.decisions, dump_state(engine, {})))
        with stop_flag(self.team.ranks) as stop:
            try:
                self._train(stop)
            except DivergedError:  # recorded before a signal of torchrun, which follows the end of another process
                self._record_divergence()
                raise
        summary = self._finish()
        self.reporter.finished(summary)
        return Result(self.run, self.record, summary, was_complete=False)

    def _copy_initial_weights(self) -> InitialWeights | None:
        """Keep the initial weights in the run directory, so that it does not depend on their file."""
        if self.initial is None:
            return None
        data = dump_weights(self.engine, {"format": "resnet-cli initial weights"})
        self.run.write_bytes(self.run.init_weights_path, data)
        return InitialWeights(
            path=self.initial.source, sha256=self.initial.source_sha256, copy_sha256=hashlib.sha256(data).hexdigest()
        )

    def _report_changes(self, attempt: Attempt) -> None:
        before, after = (
            {"ranks": "1", **one.environment, **{name: made.value for name, made in one.decisions.items()}}
            for one in (self.record, attempt)
        )
        changed = [f"{name} {before.get(name)} → {after[name]}" for name in after if after[name] != before.get(name)]
        if changed:
            self.reporter.note(f"results may differ from those of an uninterrupted run: {', '.join(changed)}")

    def _restore(self) -> None:
        self.run.remove_leftovers()
        tables = None
        if os.path.lexists(self.run.checkpoint_path):  # a folder or broken link is an error, never overwritten
            tables = load_state(self.engine, self.run.checkpoint_path)
            self._write_weights(self.run.last_weights_path)  # a kill may have left those of the checkpoint before
            self._saved_best = tables.get(_BEST)
            # a kill may have left those of an epoch after the checkpoint, which need not come again
            best, saved = self.run.best_weights_path, self._saved_best
            if saved and _is_regular(best) and file_sha256(best) != saved.sha256:
                best.unlink()
        else:
            self._check_no_checkpoint_was_lost()
        self.run.restore_tables(tables)
        self.epochs = self.run.read_epochs()
        self.best = min(self.epochs, key=EpochMetrics.selection_error_pct, default=None)

    def _check_no_checkpoint_was_lost(self) -> None:
        """Raise `RunFileError` if the missing checkpoint existed, instead of dropping the epochs that it contained."""
        # the last weights are written after the first checkpoint, and an attempt that resumed had read one
        if os.path.lexists(self.run.last_weights_path) or any(attempt.step for attempt in self.run.read_attempts()):
            raise RunFileError(
                f"{self.run.checkpoint_path} is missing, so the run cannot be resumed",
                hint="restore it, or use --overwrite to start from scratch",
            )
        self.reporter.note(f"no checkpoint was saved in {self.run.path}: training starts from the beginning")

    def _train(self, stop: StopFlag) -> None:
        for event in self.engine.run():
            if isinstance(event, InitialRecord):
                self.run.append_gradflow(event.gradflow)
                self.reporter.gradflow(event.gradflow)
                continue  # a signal is acted on after the first step, when there is a state to save
            if isinstance(event, StepEvent):
                self.reporter.tick(event)
            else:
                self._record_epoch(event)
            # read once: a signal that comes while saving waits for the next event
            signal_name = agreed_signal(self.team.ranks, stop)
            if signal_name or self.engine.is_finished:
                self.team.wait()
            is_saved = (signal_name or self._is_save_due(event)) and self._save()
            if isinstance(event, EpochRecord):
                self.reporter.epoch(event.metrics)
                if event.gradflow:
                    self.reporter.gradflow(event.gradflow)
            if signal_name and not self.engine.is_finished:
                self._stop(signal_name, "checkpoint saved" if is_saved else "weights not finite, last checkpoint kept")

    def _stop(self, signal_name: str, outcome: str) -> None:
        kind = InterruptedByUserError if signal_name == "SIGINT" else StoppedError
        step, last = self.engine.step, self.engine.total_steps
        raise kind(
            f"stopped by {signal_name} at step {step} of {last}; {outcome} in {self.run.path}",
            hint="run the same command again to resume",
        )

    def _is_save_due(self, event: StepEvent | EpochRecord) -> bool:
        """Whether the run is complete or the interval between saves is over, after a step, batch or epoch."""
        every = self.options.save_every
        if isinstance(event, EpochRecord):
            return self.engine.is_finished or (every.unit == "epochs" and self.engine.epochs_done % every.amount == 0)
        if every.unit == "steps":
            return event.phase == "train" and event.step % every.amount == 0
        return every.unit == "minutes" and time.monotonic() - self._last_save >= 60 * every.amount

    def _save(self) -> bool:
        """Write weights of a new best epoch, the checkpoint, then the last weights.

        Returns False, and writes nothing, if the weights are not finite. The previous checkpoint then stays, and the
        next loss, which is not finite, ends the run.
        """
        self.engine.check_finite()
        if not self.engine.is_finite():
            return False
        if self._new_best is not None:
            self.run.write_bytes(self.run.best_weights_path, self._new_best)
            self._saved_best = FileState(len(self._new_best), hashlib.sha256(self._new_best).hexdigest())
            self._new_best = None
        files = self.run.table_states() | ({_BEST: self._saved_best} if self._saved_best else {})
        self.run.write_bytes(self.run.checkpoint_path, dump_state(self.engine, files))
        self._write_weights(self.run.last_weights_path)
        self._last_save = time.monotonic()
        return True

    def _write_weights(self, path: Path) -> None:
        self.run.write_bytes(path, self._dump_weights())

    def _dump_weights(self) -> bytes:
        # allows `resnet eval` to read the file without its run directory
        metadata = {
            "format": "resnet-cli",
            "schema_version": str(SCHEMA_VERSION),
            "config": msgspec.json.encode(self.config).decode(),
            "network": self.config.network,
            "num_classes": str(len(self.dataset.classes)),
            "dataset": self.dataset.display_name,
            "mean": msgspec.json.encode(self.dataset.mean).decode(),
            "std": msgspec.json.encode(self.dataset.std).decode(),
        }
        return dump_weights(self.engine, metadata)

    def _record_epoch(self, epoch: EpochRecord) -> None:
        self.run.append_metrics(epoch.metrics)
        if epoch.gradflow:
            self.run.append_gradflow(epoch.gradflow)
        self.epochs.append(epoch.metrics)
        if self.best is None or epoch.metrics.selection_error_pct() < self.best.selection_error_pct():
            self.best = epoch.metrics
            self._new_best = self._dump_weights()
        if self.engine.is_finished:
            self._write_predictions(epoch.test_logits)

    def _write_predictions(self, logits: torch.Tensor) -> None:
        self.run.write_predictions(Predictions(self.dataset.test.labels, logits.numpy()))

    def _record_divergence(self) -> None:
        step = int(self.engine.sums.first_bad_step)
        lr = lr_at(step, self.config, self.engine.num_train)
        epoch = self.engine.epochs_done + 1
        where = Divergence(run_id=self.record.run_id, finished_at=now(), epoch=epoch, step=step, lr=lr)
        self.run.write_divergence(where)

    def _replace_missing_results(self) -> None:
        """Write again what was deleted between the last epoch and the end of the run."""
        if not _is_regular(self.run.predictions_path):
            self._write_predictions(self.engine.predict_test())
        if not _is_regular(self.run.last_weights_path):
            self._write_weights(self.run.last_weights_path)
        if not _is_regular(self.run.best_weights_path):
            assert self.best is not None
            if self.best.epoch == self.engine.epochs_done:
                self._write_weights(self.run.best_weights_path)
            else:
                self.reporter.note(f"{self.run.best_weights_path} was lost during training and cannot be restored")

    def _finish(self) -> Summary:
        assert self.best is not None  # a run has at least one epoch
        self._replace_missing_results()
        peaks = [row.peak_memory_bytes for row in self.epochs if row.peak_memory_bytes is not None]
        summary = Summary(
            run_id=self.record.run_id, finished_at=now(), last=self.epochs[-1], best=self.best,
            best_chosen_on="val" if self.dataset.val else "test",
            train_seconds=sum(row.train_seconds for row in self.epochs),
            eval_seconds=sum(row.eval_seconds for row in self.epochs),
            peak_memory_bytes=max(peaks, default=None), files=self.run.hash_results(),
        )  # fmt: skip
        location = self.record.dataset.location if self.config.dataset == "imagefolder" else None
        arguments = train_arguments(self.config, data_dir=location)
        if self.record.init_from:
            arguments += ["--init-from", self.record.init_from.path]
        page = run_page(self.record, summary, recipe=recipe_label(self.config), arguments=arguments)
        self.run.write_summary(summary, page)
        return summary

    def _model_record(self) -> ModelRecord:
        config, num_classes = self.config, len(self.dataset.classes)
        with torch.device("meta"):
            parameters = count_parameters(CifarNet(config.depth, config.shortcut, num_classes))
        macs = count_macs(config.depth, config.shortcut, num_classes, image_size=self.dataset.image_size)
        return ModelRecord(
            arch=config.arch, depth=config.depth, shortcut=config.shortcut, num_classes=num_classes,
            parameters=parameters, macs=macs,
        )  # fmt: skip

    def _dataset_record(self) -> DatasetRecord:
        data = self.dataset
        return DatasetRecord(
            name=data.name, display_name=data.display_name, fingerprint=data.fingerprint,
            num_train=len(data.train), num_val=len(data.val) if data.val else 0, num_test=len(data.test),
            classes=data.classes, image_size=data.image_size, mean=data.mean, std=data.std, location=data.location,
        )  # fmt: skip


def _is_regular(path: Path) -> bool:
    """Whether `path` is a regular file with content, and not a link."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0
