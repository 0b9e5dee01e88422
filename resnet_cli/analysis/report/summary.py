"""What was run and what came out, in five lines per group of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_cli.analysis.frames import Group, Run, Study
from resnet_cli.analysis.report.blocks import Block, Facts, Heading
from resnet_cli.analysis.tables.layout import plus_minus
from resnet_cli.analysis.words import and_, recipe_in_words
from resnet_cli.util.text import duration

Row = Mapping[str, Any]

_STATUSES = ("supported", "refuted", "underpowered", "not measured")
_MAX_VALUES = 3


def summary(
    study: Study, names: Mapping[Group, str], networks: Sequence[Row], claims: Sequence[Row], planned_seeds: int | None
) -> list[Block]:
    """Summarise every group.

    Args:
        study: the runs.
        names: the groups with complete runs, with their names in headings.
        networks: rows of the comparison.
        claims: rows of the verdicts.
        planned_seeds: seeds per network when the study is complete, if that was planned.
    """
    blocks: list[Block] = []
    for group, runs in study.groups().items():
        of_group = [row for row in networks if _is_of(row, group)]
        judged = [row for row in claims if _is_of(row, group)]
        if len(names) > 1:
            blocks.append(Heading(names[group]))
        blocks.append(Facts((
            ("Runs", _runs(study, group, runs, of_group, planned_seeds)),
            ("Training", _training(runs)),
            ("Training error", _means(of_group, "train_clean_error_pct", "clean, after the last epoch")),
            ("Test accuracy", _means(of_group, "test_accuracy_pct", "after the last epoch")),
            ("Verdicts", _verdicts(judged)),
        )))  # fmt: skip
    return blocks


def _is_of(row: Row, group: Group) -> bool:
    return (row["dataset"], row["fingerprint"], row["recipe"]) == (group.dataset, group.fingerprint, group.recipe)


def _runs(study: Study, group: Group, runs: Sequence[Run], networks: Sequence[Row], planned_seeds: int | None) -> str:
    counts = {row["n"] for row in networks}
    each = f"{_seeds(counts.pop())} each" if len(counts) == 1 else ""
    shown = and_(row["network"] if each else f"{row['network']} ({_seeds(row['n'])})" for row in networks)
    planned = f" of {planned_seeds} planned" if planned_seeds else ""
    recipe = recipe_in_words(runs[0].record.config)
    num_diverged = sum(run.status == "diverged" and run.group == group for run in study.unfinished)
    diverged = f"; {num_diverged} more diverged" if num_diverged else ""
    each = f", {each}{planned}" if each else planned
    return f"{len(runs):,} complete: {shown}{each}; {group.dataset}, {recipe}{diverged}."


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n != 1)}"


def _training(runs: Sequence[Run]) -> str:
    epochs = sorted({run.summary.last.epoch for run in runs})
    length = f"{epochs[0]:,}" if len(epochs) == 1 else f"{epochs[0]:,} to {epochs[-1]:,}"
    total = duration(sum(run.summary.train_seconds for run in runs))
    days = sorted({run.summary.finished_at[:10] for run in runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    where = _several(runs, "device_name")
    torch = _several(runs, "torch")
    return f"{length} epochs per run, {total} in total, on {where} with torch {torch}; finished {when}."


def _several(runs: Sequence[Run], name: str) -> str:
    """The first values of a setting of the environment."""
    values = (run.record.environment.get(name) for run in runs)
    distinct = sorted({"unknown" if value is None else str(value) for value in values})
    more = len(distinct) - _MAX_VALUES
    return and_([*distinct[:_MAX_VALUES], *([f"{more} more"] if more > 0 else [])])


def _means(networks: Sequence[Row], measure: str, what: str) -> str | list[str]:
    """Phrases: the mean of each network, then what they are."""
    measured = [(row, len(row[f"{measure}_by_seed"])) for row in networks if row[measure] is not None]
    if not measured:
        return "Not measured."
    counts = {n for _, n in measured}
    same_n = f"; n = {counts.pop()}{' each' * (len(measured) > 1)}" if len(counts) == 1 else ""
    values = [
        f"{row['network']} {plus_minus(row, measure)} %" + ("" if same_n else f" (n = {n})") for row, n in measured
    ]
    deviation = "; mean ± standard deviation" * any(row[f"{measure}_std"] is not None for row, _ in measured)
    return [*(f"{value}," for value in values[:-1]), values[-1], f"({what}{deviation}{same_n})."]


def _verdicts(claims: Sequence[Row]) -> str:
    if not claims:
        return "None: claims compare plain with residual networks."
    parts = []
    for status in _STATUSES:
        found = [row["claim"] for row in claims if row["status"] == status]
        named = f" ({', '.join(found)})" if found and status in ("supported", "refuted") else ""
        parts.append(f"{len(found)} {status}{named}")
    return f"Of {len(claims)} claims, {', '.join(parts)}."
