"""Everything that is known after a slot, in at most 60 lines."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu.results import Record, Results
from gpu.steps import Step
from gpu.study import Run, state_of

MAX_LINES = 60
_MAX_FAILED_TESTS = 6
_MAX_NOTES = 6
_MAX_RUNS = 12
_WIDTH = 120
_EPOCHS = 200
_STEPS = _EPOCHS * 391  # batches of 128 of 50,000 images
_CLEAN_EVALUATIONS = 20  # every tenth epoch
_STEP_GOALS = {"resnet-20": 0.6, "resnet-56": 1.6}  # ms, on one H200

Values = dict[str, Any]


def write_lines(results: Results, steps: list[Step], runs: list[Run], folder: Path, notes: list[str]) -> list[str]:
    """The lines of the summary.

    Args:
        results: of all slots.
        steps: all steps of the stages.
        runs: all runs of the study.
        folder: folder of the run directories.
        notes: what the user should know, the most important first.
    """
    values = {name: _by_key(results.values(name)) for name in ("step", "epoch", "shared", "profile", "traffic")}
    lines = [
        _head(results),
        *_older(results),
        *_states(results, steps),
        *_failed_tests(results),
        *_step_lines(values["step"]),
        *_epoch_lines(values["epoch"]),
        *_shared_lines(values["shared"]),
        *_profile_lines(values, results),
        *_goal_lines(values),
        *_run_lines(runs, folder),
    ]
    lines = [line[:_WIDTH] for line in lines]
    ending = [f"note: {note}"[:_WIDTH] for note in notes[:_MAX_NOTES]]
    room = MAX_LINES - len(ending)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"({len(lines) - room + 1} more lines; all values are in results.json)"]
    return lines + ending


def _by_key(values: list[Values]) -> dict[tuple[str, str], Values]:
    """Values by network (or way of sharing) and variant."""
    found = {}
    for value in values:
        network = value.get("network") or f"{value['how']} {' '.join(value['networks'])}"
        found[network, value.get("variant", "")] = value
    return found


def _head(results: Results) -> str:
    found, code = results.values("environment"), f"{results.sources['speed']} (tests {results.sources['tests']})"
    if not found:
        return f"{results.device}, code {code}; the environment was not examined"
    one = found[-1]
    speed = f"{one['copy_bytes_per_second'] / 1e12:.2f} TB/s copied"
    return f"{one['name']}, torch {one['torch']}, python {one['python']}, {speed}, code {code}"


def _older(results: Results) -> list[str]:
    found = [text for one in results.values("environment")[-1:] for text in one.get("older", [])]
    return [f"older than required: {'; '.join(found)}"] if found else []


def _states(results: Results, steps: list[Step]) -> Iterator[str]:
    for stage in ("tests", "speed"):
        chosen = [step for step in steps if step.stage == stage]
        records = [(step, results.find(step.name)) for step in chosen]
        done = sum(record is not None and record.state == "done" for _, record in records)
        yield f"{stage}: {done} of {len(chosen)} steps done"
        for step, record in records:
            if record and record.state in ("failed", "slow"):
                yield f"  {step.name} {record.state}: {record.reason}"


def _failed_tests(results: Results) -> Iterator[str]:
    for record in results.records:
        if not (results.is_current(record) and record.step.startswith("tests/")):
            continue
        tests = [value for value in record.values if value["kind"] == "test"]
        counts = Counter(test["outcome"] for test in tests)
        yield f"  {record.step}: {', '.join(f'{n} {name}' for name, n in sorted(counts.items())) or 'no tests'}"
        failed = [test for test in tests if test["outcome"] == "failed"]
        for test in failed[:_MAX_FAILED_TESTS]:
            yield f"    {test['name'].rpartition('::')[2]}: {test['message']}"
        if len(failed) > _MAX_FAILED_TESTS:
            yield f"    and {len(failed) - _MAX_FAILED_TESTS} more"
        ended = {test["name"] for test in tests}
        for value in record.values:
            if value["kind"] == "started" and value["name"] not in ended:
                yield f"    {value['name'].rpartition('::')[2]}: did not end"


def _step_lines(steps: dict[tuple[str, str], Values]) -> list[str]:
    lines = []
    for network in dict.fromkeys(network for network, _ in steps):
        cells = []
        for (other, variant), value in steps.items():
            if other == network and "skipped" not in value:
                time = f"{1e3 * value['seconds']:.3f}" if "seconds" in value else value["error"][:30]
                cells.append(f"{variant} {time}")
        lines += _wrap(f"{network}, ms per step: ", cells)
    return lines


def _wrap(head: str, cells: list[str]) -> list[str]:
    lines = [head]
    for index, cell in enumerate(cells):
        text = cell + ("; " if index < len(cells) - 1 else "")
        if len(lines[-1]) + len(text) > _WIDTH:
            lines.append("  ")
        lines[-1] += text
    return lines


def _epoch_lines(epochs: dict[tuple[str, str], Values]) -> list[str]:
    cells = [
        f"{network} ({variant}) {value['seconds']:.2f}" if "seconds" in value else f"{network} {value['error'][:40]}"
        for (network, variant), value in epochs.items()
    ]
    return _wrap("epoch with evaluation, s: ", cells) if cells else []


def _shared_lines(shared: dict[tuple[str, str], Values]) -> list[str]:
    return [
        f"{name}: steps/s {', '.join(f'{rate:.0f}' for rate in value['steps_per_second'])}"
        if "steps_per_second" in value
        else f"{name}: {value['error']}"
        for (name, _), value in shared.items()
    ]


def _profile_lines(values: dict[str, dict[tuple[str, str], Values]], results: Results) -> Iterator[str]:
    for (network, variant), value in values["profile"].items():
        if "error" in value:
            yield f"profile {network} ({variant}): {value['error']}"
            continue
        longest = value["longest"][0][0] if value["longest"] else "none"
        yield (
            f"profile {network} ({variant}): {value['kernels_per_step']:.0f} kernels per step, "
            f"{1e3 * value['kernel_seconds']:.3f} of {1e3 * value['step_seconds']:.3f} ms in them, longest {longest}"
        )
    found = results.values("environment")
    for (network, _), value in values["traffic"].items():
        if "bytes" in value and found:
            per_ms = found[-1]["copy_bytes_per_second"] / 1e3
            all_ms, convolution_ms = value["bytes"] / per_ms, value["convolution_bytes"] / per_ms
            yield (
                f"bandwidth floor {network}: {all_ms:.3f} ms for all {value['operations']} operations, "
                f"{convolution_ms:.3f} ms for the convolutions alone"
            )


def _goal_lines(values: dict[str, dict[tuple[str, str], Values]]) -> Iterator[str]:
    for network, goal in _STEP_GOALS.items():
        ours = [
            (value["seconds"], variant)
            for (other, variant), value in values["step"].items()
            if other == network and variant != "textbook" and "seconds" in value
        ]
        if ours:
            best, variant = min(ours)
            yield _verdict(f"{network} step ≤ {goal} ms", 1e3 * best <= goal, f"{1e3 * best:.3f} ms ({variant})")
        epochs = {
            variant: value["seconds"]
            for (other, variant), value in values["epoch"].items()
            if other == network and "seconds" in value
        }
        textbook = [seconds for variant, seconds in epochs.items() if variant.startswith("textbook")]
        if textbook and len(epochs) > 1:
            ratio = textbook[0] / min(seconds for variant, seconds in epochs.items() if "textbook" not in variant)
            yield _verdict(f"{network} epoch ≥ 10 × the textbook loop", ratio >= 10, f"{ratio:.1f} ×")
    sequence = table1_seconds(values["epoch"])
    if sequence:
        yield _verdict("Table 1 in sequence ≤ 8 min (estimate)", sequence <= 480, f"{sequence / 60:.1f} min")
        if (seconds := shared_table1_seconds(values["shared"], sequence, values["step"])) is not None:
            yield _verdict("Table 1 shared ≤ 5 min (estimate)", seconds <= 300, f"{seconds / 60:.1f} min")


def _verdict(goal: str, reached: bool, found: str) -> str:
    return f"goal {goal}: {'reached' if reached else 'missed'}, {found}"


def table1_seconds(epochs: dict[tuple[str, str], Values]) -> float | None:
    """Estimated time of Table 1, one run after the other: 200 epochs with evaluation, clean error every tenth."""
    ours = [value for (_, variant), value in epochs.items() if "textbook" not in variant and "seconds" in value]
    if len(ours) < 4:
        return None
    return sum(
        (value["first_seconds"] - value["seconds"])
        + _EPOCHS * value["seconds"]
        + _CLEAN_EVALUATIONS * (value["with_clean_error_seconds"] - value["seconds"])
        for value in ours
    )


def shared_table1_seconds(
    shared: dict[tuple[str, str], Values], sequence: float, steps: dict[tuple[str, str], Values]
) -> float | None:
    """Estimated time of Table 1 with four runs at once, then the two deeper ones.

    The training steps take the measured shared rates; all else (evaluation, start) takes as long as in sequence.
    """
    rates = {
        (value["how"], len(value["networks"])): value["steps_per_second"]
        for value in shared.values()
        if "steps_per_second" in value
    }
    four, two = rates.get(("processes", 4)), rates.get(("processes", 2))
    alone = [steps.get((network, "tf32, graph"), {}).get("seconds") for network in ("resnet-20", "resnet-56")]
    if four is None or two is None or None in alone:
        return None
    shallow, deep = min(four[:2]), min(four[2:])
    first = _STEPS / max(shallow, deep)
    rest = max(_STEPS - deep * first, 0.0) / min(two)
    return first + rest + max(sequence - 2 * _STEPS * sum(alone), 0.0)


def _run_lines(runs: list[Run], folder: Path) -> Iterator[str]:
    states = Counter(state_of(folder / run.name) for run in runs)
    yield f"study: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}"
    touched = [run.name for run in runs if state_of(folder / run.name) != "planned"]
    for name in touched[-_MAX_RUNS:]:
        state = state_of(folder / name)
        yield f"  {name}: {state}{_progress(folder / name, state)}"


def _progress(run: Path, state: str) -> str:
    try:
        if state == "complete":
            summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
            last, seconds = summary["last"], summary["train_seconds"] + summary["eval_seconds"]
            errors = (
                f"test error {last['test_error_pct']:.2f} %, clean training error {last['train_clean_error_pct']:.2f} %"
            )
            return f", {errors}, {seconds:.0f} s"
        with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return f", epoch {rows[-1]['epoch']}, test error {float(rows[-1]['test_error_pct']):.2f} %" if rows else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def missing_work(results: Results, steps: list[Step], runs: list[Run], folder: Path) -> int:
    """Number of steps that are not done and of runs that have not ended."""
    undone = sum(not _is_done(results.find(step.name)) for step in steps)
    return undone + sum(state_of(folder / run.name) in ("planned", "started") for run in runs)


def _is_done(record: Record | None) -> bool:
    return record is not None and record.state == "done"


def best_concurrency(shared: list[Values], steps: list[Values]) -> int | None:
    """Number of runs that share the device: 4 if together they take more steps than alone, else 1; None if unknown.

    Compares, per network, the time that its share of the device stands for: rates are relative to the network alone.
    """
    alone = {
        value["network"]: 1 / value["seconds"]
        for value in steps
        if value.get("variant") == "tf32, graph" and "seconds" in value
    }
    for value in shared:
        if value["how"] == "processes" and len(value["networks"]) == 4 and "steps_per_second" in value:
            # plain networks cost about as much as their residual twins, which are measured
            twins = [alone.get(network.replace("plain", "resnet"), math.nan) for network in value["networks"]]
            gain = sum(rate / twin for rate, twin in zip(value["steps_per_second"], twins, strict=True))
            return None if math.isnan(gain) else (4 if gain > 1 else 1)
    return None
