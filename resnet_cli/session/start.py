"""Start, resume or skip a run, or refuse to touch its directory."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from resnet_cli.config import RunConfig, RunOptions
from resnet_cli.data import arrays, load_source, open_data
from resnet_cli.dist import Ranks, joined, rank, torchrun
from resnet_cli.errors import DivergedError, UsageError
from resnet_cli.recipes import RECIPES, make_config
from resnet_cli.rundir import DatasetRecord, Decision, Divergence, RunDir, RunRecord, Summary
from resnet_cli.session.initial import InitialFile, find_initial_file
from resnet_cli.session.reporter import Reporter, Result
from resnet_cli.session.team import Team, follow
from resnet_cli.util.resources import translate_errors
from resnet_cli.util.spinning import bound_spinning


def default_out(config: RunConfig, folder: Path = Path("runs"), initial: InitialFile | None = None) -> Path:
    """The default run directory: one per configuration, for example `runs/cifar10-report2025-resnet-56-seed0`.

    A fingerprint is appended when any field differs from its recipe, and that of the initial weights if any are given.
    """
    name = f"{config.dataset}-{config.recipe}-{config.network}-seed{config.seed}"
    named = {field: getattr(config, field) for field in ("arch", "depth", "shortcut", "dataset", "seed")}
    is_standard = config.recipe in RECIPES and config == make_config(config.recipe, **named)
    if not is_standard:
        name += f"-{config.fingerprint()[:8]}"
    return folder / (f"{name}-init-{initial.source_sha256[:8]}" if initial else name)


def train(
    config: RunConfig,
    out: Path | str | None = None,
    *,
    dataset: tuple[Any, Any] | None = None,
    init_from: Path | str | None = None,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
    accept_changes: bool = False,
    decisions: dict[str, Decision] | None = None,
    recorded_data: DatasetRecord | None = None,
    argv: list[str] | None = None,
) -> Result:
    """Train `config` in the run directory `out`: start the run, resume it, or return its result if it is complete.

    Args:
        config: configuration of the run.
        out: run directory (None: `default_out(config)`).
        init_from: run directory, whose last weights are used, or weight file to start from (None: the seed determines
            the initial weights).
        dataset: training and test images that replace the dataset of `config`, which becomes `arrays`. Each split is a
            tuple (images, labels) or a torch `Dataset`; see `resnet_cli.data.arrays.source_of`.
        options: dataset folder, checkpoint interval and use of CUDA graphs.
        reporter: receives progress (None: nothing is reported).
        overwrite: remove the files of an earlier run in `out` and start from scratch.
        accept_changes: resume a run even if this machine cannot reproduce its device, precision or compile settings.
        decisions: device, precision and so on of the run that a new run repeats (None: decide).
        recorded_data: dataset of the run that a new run repeats; its folder is used if it still exists.
        argv: the command line, for run.json.

    Returns:
        The run directory with its record and its result.

    Raises:
        ConfigError: `dataset` has another form.
        UsageError: `out` contains a different configuration, other initial weights or foreign files; `init_from`
            contains another network; another process trains there; or this machine cannot reproduce the original
            settings of the run.
        ResnetError: a batch does not fit into memory, or the disk is full or not writable.
        InputError: the dataset or `init_from` cannot be read, or is not the original dataset of the run.
        DivergedError: a loss was not finite, now or in an earlier attempt.
        StoppedError: a signal stopped the run after saving; call again to resume.
        RankZeroError: rank 0 raised one of these errors.

    Under torchrun every process calls it with the same arguments. Rank 0 alone writes files and reports.
    """
    if dataset is not None:
        config = msgspec.structs.replace(config, dataset=arrays.NAME)
    options, reporter = options or RunOptions(), reporter or Reporter()
    read_data = functools.partial(
        open_data,
        config,
        data_dir=Path(options.data_dir) if options.data_dir else None,
        override="--overwrite",
        progress=reporter.progress,
        warn=reporter.warn,
        load=load_source if dataset is None else arrays.loader(dataset),
    )
    if torchrun() and not rank():
        reporter.note("loading PyTorch and waiting for the other processes of this run")
    with joined() as ranks, Team(ranks) as team:
        if ranks and ranks.rank:
            return follow(ranks, config, read_data)
        initial = find_initial_file(Path(init_from)) if init_from else None
        run = RunDir(out or default_out(config, initial=initial))
        earlier = None if overwrite else _earlier(run, config, initial)
        read_data = functools.partial(
            read_data, recorded=earlier.dataset if earlier else recorded_data, run=run.path,
            allow_other_data=earlier is None,
        )  # fmt: skip
        # images in memory are compared with the record of a complete run too
        data = None if dataset is None else read_data()
        if earlier and (done := _already_done(run, earlier)):
            return team.end(done)
        _check_folder(run)
        if "torch" not in sys.modules:
            reporter.note("loading PyTorch")
            bound_spinning()
        # imported late, since complete runs and wrong configurations are recognised without torch
        from resnet_cli.device import decide
        from resnet_cli.session.loop import Session

        # refuses what this machine does not support before data are read
        decide(config, recorded=_recorded_decisions(earlier, decisions, accept_changes), ranks=ranks)
        data = data or read_data()
        for warning in () if earlier else _warnings(config, len(data.train), ranks):
            reporter.warn(warning)
        hint = f"resume {run.path} on a machine with more memory; a smaller --batch-size is a different experiment"
        with translate_errors(run=run.path, batch_size=config.batch_size, memory_hint=hint), _locked(run):
            # another process may have completed the run while this one read the data
            earlier = None if overwrite else _earlier(run, config, initial)
            if earlier and (done := _already_done(run, earlier)):
                return team.end(done)
            decisions = _recorded_decisions(earlier, decisions, accept_changes)
            session = Session(run, config, data, options, reporter, initial, team)
            return team.end(session.run_to_end(earlier, decisions, argv or _command_line()))


def _warnings(config: RunConfig, num_train: int, ranks: Ranks | None) -> Iterator[str]:
    """Settings that are valid, but hardly meant."""
    from resnet_cli.optim import total_steps

    if config.sync_bn and not ranks:
        yield "--sync-bn has no effect on a single process; torchrun starts several"
    if config.batch_size >= num_train:
        yield (
            f"each epoch is a single step: --batch-size {config.batch_size} takes all {num_train} training images at "
            "once"
        )
    steps = total_steps(config, num_train)
    if config.warmup_steps >= steps:
        yield f"--warmup-steps {config.warmup_steps} covers all {steps} steps of the run, which never reaches --lr"
    length, unit = (config.epochs, "epoch") if config.epochs else (steps, "step")
    if late := [milestone for milestone in config.milestones if milestone >= length]:
        end = f"{length} {unit}{'s' * (length > 1)}"
        yield f"--milestones {','.join(map(str, late))} has no effect: the run ends after {end}"


def _command_line() -> list[str]:
    """The command line of this process, without the folder that the program is installed in."""
    name = Path(sys.argv[0]).name
    return ["resnet" if name == "__main__.py" else name, *sys.argv[1:]]


@contextlib.contextmanager
def _locked(run: RunDir) -> Iterator[None]:
    is_new = not run.path.exists()
    lock = run.lock()
    try:
        yield
    finally:
        if is_new and not run.exists() and run.has_lock():
            # the run did not start: remove its folder, before the lock is released, so that no process can be using it
            with contextlib.suppress(OSError):
                for path in (run.holder_path, run.lock_path):
                    path.unlink(missing_ok=True)
                run.path.rmdir()
        lock.release()


def _earlier(run: RunDir, config: RunConfig, initial: InitialFile | None) -> RunRecord | None:
    if not run.exists():
        return None
    record = run.read_record()
    if record.config != config:
        raise UsageError(
            f"{run.path} contains a run with a different configuration ({'; '.join(record.config.diff(config))})",
            hint="choose another --out, or use --overwrite to start from scratch",
        )
    before = record.init_from
    if (before.sha256 if before else None) != (initial.source_sha256 if initial else None):
        ours, theirs = (
            _describe_weights(before.path, before.sha256) if before else _RANDOM,
            _describe_weights(initial.source, initial.source_sha256) if initial else _RANDOM,
        )
        raise UsageError(
            f"{run.path} contains a run that started from other weights (--init-from: {ours} → {theirs})",
            hint=f"to resume it, use: resnet train --from {run.path} --out {run.path}; or choose another --out",
        )
    return record


_RANDOM = "random weights"


def _describe_weights(path: str, sha256: str) -> str:
    return f"{path} with SHA-256 {sha256[:12]}"


def _recorded_decisions(
    earlier: RunRecord | None, repeated: dict[str, Decision] | None, accept_changes: bool
) -> dict[str, Decision] | None:
    """The decisions to compute with: those of the run to resume, else of the run to repeat; None: decide."""
    if earlier is None:
        return repeated
    return None if accept_changes else earlier.decisions


def _already_done(run: RunDir, record: RunRecord) -> Result | None:
    end = run.read_end(record)
    if isinstance(end, Summary):
        return Result(run, record, end, was_complete=True)
    if isinstance(end, Divergence):
        raise DivergedError(
            f"{run.path} diverged at step {end.step} (epoch {end.epoch}, lr {end.lr:g})",
            hint="choose a smaller --lr or more --warmup-steps, with --overwrite or another --out",
        )
    return None


def _check_folder(run: RunDir) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise UsageError(f"--out {run.path} is a file", hint="choose a folder")
    # .holder.json without run.json: an interrupted --overwrite of a run, whose folder was accepted before
    if run.path.is_dir() and not run.exists() and not run.holder_path.exists():
        foreign = [path.name for path in run.path.iterdir() if path != run.lock_path and path.name[0] != "."]
        known = {run.metrics_path.name, run.gradflow_path.name, "weights", "checkpoints"}
        if set(foreign) - known:
            raise UsageError(
                f"--out {run.path} is not empty and not a run directory (it contains {sorted(foreign)[0]})",
                hint="choose a new folder",
            )
