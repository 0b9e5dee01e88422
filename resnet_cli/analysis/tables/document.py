"""The comparison of runs as plain data: one row per network, the gaps between networks, and notes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from resnet_cli.analysis.frames import CONFIG_COLUMNS, AnyRun, Group, Run, Study, run_row
from resnet_cli.analysis.paper import published
from resnet_cli.analysis.selection import parse_sort, sort_rows
from resnet_cli.analysis.stats import estimate
from resnet_cli.analysis.tables.gaps import NetworkRuns, amplification_rows, depth_gap_rows, gap_rows
from resnet_cli.analysis.tables.provenance import provenance_notes
from resnet_cli.recipes import RECIPE_FIELDS

SCHEMA_VERSION = 1

Row = dict[str, Any]

_MEASURES = (
    "test_accuracy_pct", "best_test_accuracy_pct", "train_clean_error_pct", "test_error_pct", "test_loss",
    "train_error_pct", "train_loss", "train_clean_loss", "val_error_pct", "val_loss",
    "train_seconds", "eval_seconds", "images_per_second",
)  # fmt: skip
_BY_SEED = ("test_accuracy_pct", "train_clean_error_pct")
_WITH_INTERVAL = ("test_accuracy_pct", "best_test_accuracy_pct", "train_clean_error_pct")

_SETTINGS = tuple(column for name, column in CONFIG_COLUMNS.items() if name != "seed")

NETWORK_COLUMNS = tuple(dict.fromkeys((
    "arch", "depth", "shortcut", "dataset", "recipe", "n", "parameters",
    "test_accuracy_pct", "test_accuracy_pct_std", "best_test_accuracy_pct", "train_clean_error_pct",
    "network", "dataset_name", "fingerprint", "seeds", "macs", "num_train", "num_test", "epochs", "best_chosen_on",
    "published_accuracy_pct", "published_accuracy_pct_std", "published_source", "difference_from_published_pp",
    "peak_memory_bytes",
    *_MEASURES,
    *(f"{measure}_std" for measure in _MEASURES),
    *(f"{measure}_{end}" for measure in _WITH_INTERVAL for end in ("low", "high")),
    *(f"{measure}_by_seed" for measure in _BY_SEED),
    *_SETTINGS,
)))  # fmt: skip
"""Keys of a row of `networks`, in order: the names in `--sort` and `--assert` and the columns of the CSV format."""


def study_document(study: Study, *, sort: str | None = None) -> dict[str, Any]:
    """Compare the runs of a study, with results as JSON types.

    Args:
        study: complete and skipped runs.
        sort: a name of `NETWORK_COLUMNS`, preceded by `-` for descending order; rows without
            a value come last. None: by depth, then plain before residual. Runs of different datasets or recipes
            are sorted separately, overrides of one recipe together.

    Returns:
        `schema_version`; `networks`, one row per network with the keys `NETWORK_COLUMNS`: means
        over `n` runs, their sample standard deviation (`_std`) and 95 % Student-t interval (`_low`
        and `_high`), None for n = 1, the values of each seed (`_by_seed`, in the order of `seeds`), the largest
        `epochs` and `peak_memory_bytes`, and the fields of the configuration (names: `CONFIG_COLUMNS`), None where the
        runs differ;
        `gaps`, `depth_gaps` and `amplification` (see `resnet_cli.analysis.tables.gaps`);
        `skipped`, the excluded runs; `notes`, one line each; `assertions`, an empty list for the
        results of `resnet_cli.analysis.assertions`.

    Raises:
        UsageError: `sort` is not a column.
    """
    column, is_descending = parse_sort(sort, NETWORK_COLUMNS)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "networks": [], "gaps": [], "depth_gaps": [], "amplification": [],
        "skipped": msgspec.to_builtins(study.skipped), "notes": [], "assertions": [],
    }  # fmt: skip
    ordered: list[Mapping[str, Any]] = []
    groups = study.groups()
    names = group_names(list(groups))
    if len(groups) > 1:
        document["notes"].append(f"runs of {len(groups)} different datasets or settings are averaged separately")
    for group, runs in groups.items():
        diverged = [run for run in study.unfinished if run.status == "diverged" and run.group == group]
        networks = _networks(runs, diverged)
        document["networks"] += [_network_row(network) for network in networks if network.rows]
        place = {"dataset": group.dataset, "recipe": group.recipe, "fingerprint": group.fingerprint}
        document["gaps"] += [{**place, **row} for row in gap_rows(networks)]
        document["depth_gaps"] += [{**place, **row} for row in depth_gap_rows(networks)]
        document["amplification"] += [{**place, **row} for row in amplification_rows(networks)]
        document["notes"] += [f"{names[group]}: {note}" for note in (*provenance_notes(runs), *_notes(networks))]
    for rows in by_recipe(document["networks"]).values():
        ordered += sort_rows(sorted(rows, key=_order), column, is_descending)
    document["networks"] = ordered
    return document


def group_names(groups: Sequence[Group]) -> dict[Group, str]:
    """Map each group to its name in headings: its label, with the start of the fingerprint if labels coincide."""
    count = Counter(group.label for group in groups)
    return {
        group: group.label if count[group.label] == 1 else f"{group.label} [{group.fingerprint[:8]}]"
        for group in groups
    }  # fmt: skip


def by_recipe(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    """Group rows that differ in overrides of one recipe at most: rows of one sweep, on the same data.

    Runs that started from given weights are a sweep of their own, since no column shows where they started.
    """
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        initial = next((word for word in row["recipe"].split(" ") if word.startswith("init=")), "")
        found.setdefault((row["dataset"], row["fingerprint"], row["recipe_name"], initial), []).append(row)
    return found


def settings_order(row: Mapping[str, Any]) -> list[Any]:
    """A key that sorts rows by their settings, numbers as numbers."""
    values = (row[CONFIG_COLUMNS[name]] for name in RECIPE_FIELDS)
    return [(value is not None, value) for value in values]


def _order(row: Mapping[str, Any]) -> list[Any]:
    return [row["depth"], row["arch"], row["shortcut"], *settings_order(row)]


def _networks(runs: Sequence[Run], diverged: Sequence[AnyRun]) -> list[NetworkRuns]:
    found: dict[tuple[int, str, str], NetworkRuns] = {}
    for run in (*runs, *diverged):
        config = run.record.config
        key = config.depth, config.arch, config.shortcut
        network = found.setdefault(key, NetworkRuns(rows=[], diverged=[], published=published(config)))
        if isinstance(run, Run):
            network.rows.append(run_row(run))
        else:
            network.diverged.append(_guessing_row(run))
    return [network for _, network in sorted(found.items())]


def _guessing_row(run: AnyRun) -> Row:
    """A diverged run scores what guessing would: leaving it out would favour the networks that fail most."""
    config, dataset = run.record.config, run.record.dataset
    chance = 100 / len(dataset.classes)
    return {
        "network": run.network, "arch": config.arch, "depth": config.depth, "shortcut": config.shortcut,
        "seed": run.seed, "num_train": dataset.num_train, "num_test": dataset.num_test, "test_accuracy_pct": chance,
        "train_clean_error_pct": 100 - chance,
    }  # fmt: skip


def _network_row(network: NetworkRuns) -> Row:
    rows, reference = network.rows, network.published
    row = {**rows[0], "n": len({r["seed"] for r in rows}), "seeds": sorted({r["seed"] for r in rows})}
    for name in ("epochs", "peak_memory_bytes"):
        row[name] = max((r[name] for r in rows if r[name] is not None), default=None)
    for name in _SETTINGS:
        row[name] = rows[0][name] if all(r[name] == rows[0][name] for r in rows) else None
    for measure in _MEASURES:
        sample = network.sample(measure)
        value = estimate(sample.values, resolution=sample.resolution) if sample.values else None
        row[measure], row[f"{measure}_std"] = (value.mean, value.std) if value else (None, None)
        row[f"{measure}_low"], row[f"{measure}_high"] = (value and value.interval) or (None, None)
    for measure in _BY_SEED:
        row[f"{measure}_by_seed"] = list(network.sample(measure).values)
    row["published_accuracy_pct"] = reference and reference.accuracy_pct
    row["published_accuracy_pct_std"] = reference and reference.std
    row["published_source"] = reference and reference.source
    row["difference_from_published_pp"] = reference and row["test_accuracy_pct"] - reference.accuracy_pct
    return {name: row[name] for name in NETWORK_COLUMNS}


def _notes(networks: Sequence[NetworkRuns]) -> list[str]:
    notes = []
    for network in networks:
        n, name = len(network.rows), network.name
        seeds = sorted(Counter(row["seed"] for row in network.rows).items())
        if repeated := ", ".join(str(seed) for seed, count in seeds if count > 1):
            notes.append(f"several runs of {name} have seed {repeated}; they count as one")
        for measure in _MEASURES:
            measured = sum(row[measure] is not None for row in network.rows)
            if 0 < measured < n:
                notes.append(f"only {measured} of {n} runs of {name} recorded {measure}; averaged over these")
    return notes
