"""Runs one by one: results, settings, environment, commands and data, with what they share written once."""

from collections.abc import Mapping, Sequence
from itertools import islice
from string import ascii_uppercase
from typing import Any

import msgspec

from resnet_cli.analysis.frames import Group, Run, Skipped, Study
from resnet_cli.analysis.overview import recipe_values
from resnet_cli.analysis.report.blocks import Block, Commands, Facts, Folded, Grid, Heading
from resnet_cli.analysis.report.probes import run_order
from resnet_cli.analysis.tables import Column, Table
from resnet_cli.analysis.tables.layout import MISSING
from resnet_cli.recipes import train_arguments
from resnet_cli.rundir import RunRecord
from resnet_cli.util.text import duration, shell_text, shorten, value_text

_MAX_OPEN = 40  # rows of a table that is not folded
_MAX_RUNS = 10_000  # of a group, in lists of single runs: these make a page of five megabytes
_MAX_VALUES = 6
_MAX_SETTINGS = 60  # of an environment, which can be of any size
_MAX_EXCLUDED = 200
_MAX_CLASSES = 20
_MAX_TEXT = 300
_OF_THE_NETWORK = ("arch", "depth", "shortcut", "seed")
_LETTERS = ascii_uppercase[:-1]
_OTHER = "Z"  # every environment after the first 25

Values = Mapping[str, Any]


def run_blocks(study: Study, names: Mapping[Group, str]) -> list[Block]:
    """Results of each run, then configuration, environment and commands."""
    blocks: list[Block] = []
    for group, runs in study.groups().items():
        if len(names) > 1:
            blocks.append(Heading(names[group]))
        blocks += _group_blocks(sorted(runs, key=run_order))
    if study.skipped:
        blocks.append(_folded(_excluded(study.skipped)))
    return blocks


def _group_blocks(runs: Sequence[Run]) -> list[Block]:
    configs = [run.record.config.to_dict() for run in runs]
    environments = [_environment(run) for run in runs]
    letters = _letters(environments)
    table = _results(runs, _differences(configs), letters)
    settings = Grid(_settings(configs, recipe_values(runs[0].record.config)))
    commands = [f"resnet {' '.join(map(shell_text, _arguments(run.record)))}" for run in runs[:_MAX_RUNS]]
    return [
        _folded(Grid(table)),
        Folded("Configuration", [settings]),
        Folded("Environment", _environment_blocks(environments, letters)),
        Folded("Commands that repeat each run, in the same order", [Commands(commands)]),
    ]


def _arguments(record: RunRecord) -> list[str]:
    initial = ["--init-from", record.init_from.path] if record.init_from else []
    return [*train_arguments(record.config), *initial]


def _folded(grid: Grid) -> Block:
    """The table, folded if it is long."""
    table = grid.table
    if len(table.rows) <= _MAX_OPEN:
        return grid
    return Folded(table.title, [Grid(msgspec.structs.replace(table, title=""))])


def _results(runs: Sequence[Run], differences: Sequence[str], letters: Sequence[str]) -> Table:
    columns = (
        Column("run", "left", is_text=True), Column("network", "left"), Column("seed"), Column("test accuracy %"),
        Column("best %"), Column("clean training error %"), Column("training time"), Column("finished", "left"),
        Column("environment", "left"), Column("other settings", "left", is_text=True),
    )  # fmt: skip
    folders = {run.dir.path.parent for run in runs}
    folder = folders.pop() if len(folders) == 1 else None
    rows = tuple(
        (
            str(run.dir.path) if folder is None else run.dir.path.name, run.network, str(run.seed),
            f"{run.summary.last.test_accuracy_pct:.2f}", f"{run.summary.best.test_accuracy_pct:.2f}",
            _percent(run.summary.last.train_clean_error_pct),
            duration(run.summary.train_seconds), run.summary.finished_at[:16].replace("T", " "), letter, difference,
        )
        for run, difference, letter in islice(zip(runs, differences, letters, strict=True), _MAX_RUNS)
    )  # fmt: skip
    chosen = sorted({run.summary.best_chosen_on for run in runs})
    notes = [
        f"Accuracy and error after the last epoch; best: epoch chosen on the {' or '.join(chosen)} set. Times are UTC."
    ]
    if len(runs) > _MAX_RUNS:
        notes.append(f"The first {_MAX_RUNS:,} runs; resnet ls lists all.")
    if folder is not None:
        notes.append(f"Folder of the runs: {folder}")
    return Table(f"Results of each run: {len(runs):,}", columns, rows, tuple(notes)).without_empty_columns()


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _differences(configs: Sequence[Values]) -> list[str]:
    """What distinguishes each run besides its network and seed: `lr 0.05, device cuda`; a dash for nothing."""
    names = [
        name for name in configs[0]
        if name not in _OF_THE_NETWORK and any(config[name] != configs[0][name] for config in configs)
    ]  # fmt: skip
    return [
        ", ".join(f"{name} {_short(config[name])}" for name in names) or MISSING for config in configs
    ]  # fmt: skip


def _settings(configs: Sequence[Values], recipe: Values) -> Table:
    """One row per setting, with every value that it has in these runs."""
    columns = (Column("setting", "left"), Column("value", "left", is_text=True), Column("recipe", "left", is_text=True))
    rows = []
    for name in configs[0]:
        values = list(dict.fromkeys(_short(config[name]) for config in configs))
        default = _short(recipe[name]) if recipe and name not in _OF_THE_NETWORK else MISSING
        rows.append((name, _joined(values), MISSING if values == [default] else default))
    table = Table("", columns, tuple(rows), ("recipe: the value of the recipe, where it differs",))
    return table.without_empty_columns() if any(row[2] != MISSING for row in rows) else _without_recipe(table)


def _without_recipe(table: Table) -> Table:
    return Table(table.title, table.columns[:2], tuple(row[:2] for row in table.rows))


def _joined(values: Sequence[str]) -> str:
    more = len(values) - _MAX_VALUES
    return ", ".join([*values[:_MAX_VALUES], *([f"… ({len(values):,} values)"] if more > 0 else [])])


def _environment(run: Run) -> dict[str, str]:
    record = run.record
    decisions = {name: decision.value for name, decision in record.decisions.items()}
    values = {"tool version": record.tool_version, **record.environment, **decisions}
    return {name: _short(value) for name, value in list(values.items())[:_MAX_SETTINGS]}


def _letters(environments: Sequence[Values]) -> list[str]:
    """A letter for each run, the same for equal environments; dashes if all are equal."""
    distinct: dict[tuple[tuple[str, str], ...], str] = {}
    for environment in environments:
        key = tuple(sorted(environment.items()))
        distinct.setdefault(key, _LETTERS[len(distinct)] if len(distinct) < len(_LETTERS) else _OTHER)
    if len(distinct) == 1:
        return [MISSING] * len(environments)
    return [distinct[tuple(sorted(environment.items()))] for environment in environments]


def _environment_blocks(environments: Sequence[Values], letters: Sequence[str]) -> list[Block]:
    names = list(dict.fromkeys(name for environment in environments for name in environment))
    shared = [name for name in names if len({environment.get(name) for environment in environments}) == 1]
    blocks: list[Block] = [Facts([(name, environments[0][name]) for name in shared])]
    differing = [name for name in names if name not in shared]
    if differing:
        columns = (
            Column("environment", "left"), Column("runs"), *(Column(name, "left", is_text=True) for name in differing)
        )  # fmt: skip
        rows = tuple(
            (letter, str(letters.count(letter)), *(
                _joined(list(dict.fromkeys(
                    environment.get(name, MISSING)
                    for environment, other in zip(environments, letters, strict=True) if other == letter
                )))
                for name in differing
            ))
            for letter in dict.fromkeys(letters)
        )  # fmt: skip
        blocks.append(Grid(Table("Where the environments differ", columns, rows)))
    return blocks


def _short(value: Any) -> str:
    return shorten(value_text(value), _MAX_TEXT)


def _excluded(skipped: Sequence[Skipped]) -> Grid:
    columns = (Column("run", "left", is_text=True), Column("status", "left"), Column("reason", "left", is_text=True))
    rows = tuple((run.path, run.status, shorten(run.reason, _MAX_TEXT)) for run in skipped[:_MAX_EXCLUDED])
    more = len(skipped) - len(rows)
    return Grid(Table(
        f"Excluded runs: {len(skipped):,}", columns, rows,
        (f"And {more:,} more; resnet ls lists all.",) if more > 0 else (),
    ))  # fmt: skip


def data_blocks(study: Study) -> list[Block]:
    """Every dataset: fingerprint, splits, classes and normalisation."""
    datasets = {run.record.dataset.fingerprint: run.record.dataset for run in study.runs}
    blocks: list[Block] = []
    for data in datasets.values():
        if len(datasets) > 1:
            blocks.append(Heading(data.display_name))
        more = f" and {len(data.classes) - _MAX_CLASSES:,} more" if len(data.classes) > _MAX_CLASSES else ""
        blocks.append(Facts((
            ("Dataset", f"{data.display_name} (--dataset {data.name})"),
            ("Fingerprint", f"{data.fingerprint} (SHA-256 of all images and labels)"),
            ("Images", f"{data.num_train:,} training, {data.num_val:,} validation, {data.num_test:,} test; "
                       f"{data.image_size:,}×{data.image_size:,} pixels"),
            ("Classes", f"{len(data.classes):,}: {', '.join(data.classes[:_MAX_CLASSES])}{more}"),
            ("Channel mean", f"{_numbers(data.mean)} (of pixels in [0, 1])"),
            ("Channel deviation", _numbers(data.std)),
        )))  # fmt: skip
    return blocks


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values) or MISSING
