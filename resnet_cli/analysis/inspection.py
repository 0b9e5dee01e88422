"""One run in full, and the differences between runs, as plain data."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec

from resnet_cli.analysis.overview import (
    RESULT_COLUMNS,
    RunState,
    num_steps,
    overview_row,
    read_state,
    recipe_values,
)
from resnet_cli.errors import RunFileError
from resnet_cli.rundir import Divergence, EpochMetrics, RunDir, RunRecord, Summary
from resnet_cli.util.text import shell_text

# The speed of a run changes with the machine that trains it, so only the latest epochs count.
_EPOCHS_OF_SPEED = 10
_DATA_FIELDS = ("display_name", "fingerprint", "num_train", "num_val", "num_test", "image_size", "location")
_RESULTS = ("status", "reason", *RESULT_COLUMNS)


class RunInspection(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one run; the document of `resnet show --json`."""

    path: str
    status: str
    reason: str | None
    epoch: int
    """Number of finished epochs."""
    num_epochs: int
    saved_step: int | None
    """Step of the checkpoint of an unfinished run."""
    num_steps: int
    seconds_per_epoch: float | None
    """Mean of the latest epochs, with evaluation; None without a finished epoch."""
    seconds_left: float | None
    """At this speed; None for a run that is over."""
    run: RunRecord
    recipe_differences: dict[str, dict[str, Any]]
    """By field of the configuration: `value` and `recipe`, the recipe's value; empty for an unknown recipe."""
    last: EpochMetrics | None
    best: EpochMetrics | None
    """The epoch with the lowest error on the validation images if there are any, else on the test images."""
    summary: Summary | None
    divergence: Divergence | None
    attempts: list[dict[str, Any]]
    files: dict[str, int]
    """Sizes in bytes, by relative path."""
    commands: dict[str, str]
    """`repeat`, and `resume` for an incomplete run; empty if a Python program passed the images."""
    problems: list[str]
    """Files that could not be read, one line each."""


def inspect_run(run: RunDir) -> RunInspection:
    """Read everything about a run; raises `RunFileError` if the run is unreadable."""
    state = _readable(run)
    assert state.record is not None
    config, problems = state.record.config, []
    epochs: list[EpochMetrics] = []
    attempts = []
    try:
        epochs = run.read_epochs()
    except RunFileError as error:
        problems.append(str(error))
    try:
        attempts = run.read_attempts()
    except RunFileError as error:
        problems.append(str(error))
    is_over = isinstance(state.end, Summary | Divergence)
    summary = state.end if isinstance(state.end, Summary) else None
    num_epochs, done = state.num_epochs or 0, state.last.epoch if state.last else 0
    seconds = _seconds_per_epoch(epochs)
    default = recipe_values(config)
    path = shell_text(str(run.path))
    return RunInspection(
        path=str(run.path), status=state.status, reason=state.reason, epoch=done, num_epochs=num_epochs,
        saved_step=state.saved_step, num_steps=num_steps(state.record), seconds_per_epoch=seconds,
        seconds_left=None if is_over or seconds is None else max(0, num_epochs - done) * seconds,
        run=state.record,
        recipe_differences={
            name: {"value": value, "recipe": default[name]}
            for name, value in config.to_dict().items() if default and value != default[name]
        },
        last=state.last,
        best=summary.best if summary else min(epochs, key=EpochMetrics.selection_error_pct, default=None),
        summary=summary, divergence=state.end if isinstance(state.end, Divergence) else None,
        attempts=msgspec.to_builtins(attempts), files=run.file_sizes(),
        commands={} if config.dataset == "arrays" else {
            **({"resume": f"resnet train --from {path} --out {path}"} if state.status == "incomplete" else {}),
            "repeat": f"resnet train --from {path}",
        },
        problems=problems,
    )  # fmt: skip


def diff_document(runs: Sequence[RunDir]) -> dict[str, Any]:
    """Compare runs setting by setting.

    Returns:
        `runs`, the paths; `configuration`, `data`, `environment` and `results`, which map the names of values that
        differ to one value per run (None where a run has none). Identifiers, times and paths always differ and are
        omitted.

    Raises:
        RunFileError: a run is unreadable.
    """
    states = [_readable(run) for run in runs]
    parts: dict[str, list[Mapping[str, Any]]] = {"configuration": [], "data": [], "environment": [], "results": []}
    for state in states:
        record = state.record
        assert record is not None
        row = overview_row(state)
        initial = {"init_from": record.init_from.sha256} if record.init_from else {}
        parts["configuration"].append(record.config.to_dict() | initial)
        parts["data"].append({name: getattr(record.dataset, name) for name in _DATA_FIELDS})
        parts["environment"].append({
            "tool_version": record.tool_version, **record.environment,
            **{name: decision.value for name, decision in record.decisions.items()},
        })  # fmt: skip
        parts["results"].append({name: row[name] for name in _RESULTS})
    return {"runs": [str(run.path) for run in runs], **{name: _differing(values) for name, values in parts.items()}}


def _readable(run: RunDir) -> RunState:
    state = read_state(run)
    if state.record is None:
        run.read_record()  # raises the error with its hint, unless another file is damaged
        raise RunFileError(f"{run.path}: {state.reason}")
    return state


def _seconds_per_epoch(epochs: Sequence[EpochMetrics]) -> float | None:
    latest = epochs[1:][-_EPOCHS_OF_SPEED:] or epochs  # the first epoch includes compilation
    return fmean(row.train_seconds + row.eval_seconds for row in latest) if latest else None


def _differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for mapping in values for name in mapping)
    by_name = {name: [mapping.get(name) for mapping in values] for name in names}
    return {name: found for name, found in by_name.items() if any(value != found[0] for value in found)}
