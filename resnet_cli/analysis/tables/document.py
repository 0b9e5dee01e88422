"""The comparison of runs as plain data: one row per network, the gaps between networks, and what to know about them."""

from collections.abc import Iterable, Sequence
from typing import Any

from resnet_cli.analysis.frames import Group, Run, Study, run_row
from resnet_cli.analysis.paper import Published, published
from resnet_cli.analysis.stats import estimate
from resnet_cli.analysis.tables.gaps import Network, amplification_rows, depth_gap_rows, gap_rows
from resnet_cli.analysis.tables.provenance import provenance_notes
from resnet_cli.errors import UsageError

SCHEMA_VERSION = 1

Row = dict[str, Any]

_MEASURES = (
    "test_accuracy_pct", "best_test_accuracy_pct", "train_clean_error_pct", "test_error_pct", "test_loss",
    "train_error_pct", "train_loss", "train_clean_loss", "val_error_pct", "val_loss",
    "train_seconds", "eval_seconds", "images_per_second",
)  # fmt: skip
_WITH_INTERVAL = ("test_accuracy_pct", "best_test_accuracy_pct", "train_clean_error_pct")
_FIRST = (
    "arch", "depth", "shortcut", "dataset", "recipe", "n", "parameters",
    "test_accuracy_pct", "test_accuracy_pct_std", "best_test_accuracy_pct", "train_clean_error_pct",
)  # fmt: skip
_SECOND = (
    "network", "dataset_name", "fingerprint", "seeds", "macs", "num_train", "num_test", "epochs", "best_chosen_on",
    "published_accuracy_pct", "published_accuracy_pct_std", "published_source", "difference_from_published_pp",
    "peak_memory_bytes",
)  # fmt: skip
_DERIVED = (
    *_MEASURES,
    *(f"{measure}_std" for measure in _MEASURES),
    *(f"{measure}_{end}" for measure in _WITH_INTERVAL for end in ("low", "high")),
)

NETWORK_COLUMNS = (*_FIRST, *_SECOND, *(name for name in _DERIVED if name not in _FIRST))
"""Keys of a row of `networks`, in order: what `--sort`, `--assert` and the CSV columns name."""


def study_document(study: Study, *, sort: str | None = None) -> dict[str, Any]:
    """Everything that the comparison knows, as JSON types.

    Args:
        study: complete runs and what was left out.
        sort: a name of `NETWORK_COLUMNS`, with `-` before it for descending order; rows without
            a value come last. None: by depth, then plain before residual. Groups stay apart.

    Returns:
        `schema_version`; `networks`, a row per network with the keys `NETWORK_COLUMNS`: means
        over `n` runs, `_std` their sample standard deviation, `_low` and `_high` the 95 %
        Student-t interval, None where n = 1, `epochs` and `peak_memory_bytes` the largest;
        `gaps`, `depth_gaps` and `amplification` (see `resnet_cli.analysis.tables.gaps`);
        `skipped`, the runs left out; `notes`, one line each; `checks`, empty, where the results
        of `resnet_cli.analysis.assertions` go.

    Raises:
        UsageError: `sort` is no column.
    """
    key = check_sort_column(sort)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "networks": [], "gaps": [], "depth_gaps": [], "amplification": [],
        "skipped": [{"path": s.path, "status": s.status, "reason": s.reason} for s in study.skipped],
        "notes": [], "checks": [],
    }  # fmt: skip
    groups = study.groups()
    names = group_names(groups)
    if len(groups) > 1:
        document["notes"].append(f"runs of {len(groups)} datasets or recipes, which are never averaged together")
    for group, runs in groups.items():
        networks = _networks(runs)
        rows = [_network_row(network) for network in networks]
        document["networks"] += _sorted(rows, *key)
        place = {"dataset": group.dataset, "recipe": group.recipe, "fingerprint": group.fingerprint}
        for name, make in (
            ("gaps", gap_rows), ("depth_gaps", depth_gap_rows), ("amplification", amplification_rows),
        ):  # fmt: skip
            document[name] += [{**place, **row} for row in make(networks)]
        document["notes"] += [f"{names[group]}: {note}" for note in (*provenance_notes(runs), *_notes(networks))]
    return document


def check_sort_column(sort: str | None) -> tuple[str | None, bool]:
    """The column that `sort` names and whether it is descending; raises `UsageError` on an unknown one."""
    if sort is None:
        return None, False
    column = sort.removeprefix("-")
    if column not in NETWORK_COLUMNS:
        raise UsageError(f"--sort {sort!r} is not a column", hint=f"use one of {', '.join(NETWORK_COLUMNS)}")
    return column, sort.startswith("-")


def group_names(groups: Iterable[Group]) -> dict[Group, str]:
    """What to call each group in a heading; with the start of the fingerprint where two would be called the same."""
    groups = list(groups)
    labels = [group.label for group in groups]
    return {
        group: f"{group.label} [{group.fingerprint[:8]}]" if labels.count(group.label) > 1 else group.label
        for group in groups
    }


def _networks(runs: Sequence[Run]) -> list[Network]:
    found: dict[tuple[int, str, str], list[Row]] = {}
    published_of: dict[tuple[int, str, str], Published | None] = {}
    for run in runs:
        config = run.record.config
        key = (config.depth, config.arch, config.shortcut)
        found.setdefault(key, []).append(run_row(run))
        is_whole = config.limit_train is None and config.limit_test is None
        value = published(
            config.recipe, run.record.dataset.name, config.arch, config.depth, shortcut=config.shortcut
        )  # fmt: skip
        published_of[key] = value if is_whole else None
    return [Network(rows=rows, published=published_of[key]) for key, rows in sorted(found.items())]


def _network_row(network: Network) -> Row:
    rows, reference = network.rows, network.published
    first = rows[0]
    same = (
        "arch", "depth", "shortcut", "network", "dataset", "dataset_name", "fingerprint", "recipe", "parameters",
        "macs", "num_train", "num_test",
    )  # fmt: skip
    row: Row = {name: first[name] for name in same}
    row["n"] = len(rows)
    row["seeds"] = sorted(r["seed"] for r in rows)
    row["epochs"] = _largest(rows, "epochs")
    row["peak_memory_bytes"] = _largest(rows, "peak_memory_bytes")
    row["best_chosen_on"] = "test" if any(r["best_chosen_on"] == "test" for r in rows) else "val"
    for measure in _MEASURES:
        sample = network.sample(measure)
        value = estimate(sample.values) if sample.values else None
        row[measure] = value.mean if value else None
        row[f"{measure}_std"] = value.std if value else None
        interval = value.interval if value and value.interval else (None, None)
        if measure in _WITH_INTERVAL:
            row[f"{measure}_low"], row[f"{measure}_high"] = interval
    row["published_accuracy_pct"] = reference.accuracy_pct if reference else None
    row["published_accuracy_pct_std"] = reference.std if reference else None
    row["published_source"] = reference.source if reference else None
    accuracy = row["test_accuracy_pct"]
    is_both = reference is not None and accuracy is not None
    row["difference_from_published_pp"] = accuracy - reference.accuracy_pct if is_both and reference else None
    return {name: row[name] for name in NETWORK_COLUMNS}


def _largest(rows: Sequence[Row], name: str) -> float | None:
    return max((row[name] for row in rows if row[name] is not None), default=None)


def _sorted(rows: list[Row], column: str | None, is_descending: bool) -> list[Row]:
    if column is None:
        return rows
    present = [row for row in rows if row[column] is not None]
    missing = [row for row in rows if row[column] is None]
    return sorted(present, key=lambda row: row[column], reverse=is_descending) + missing


def _notes(networks: Sequence[Network]) -> list[str]:
    notes = []
    for network in networks:
        seeds = [row["seed"] for row in network.rows]
        repeated = [str(seed) for seed in sorted(set(seeds)) if seeds.count(seed) > 1]
        if repeated:
            notes.append(
                f"{network.name} has several runs of seed {', '.join(repeated)}; each counts, and none is paired"
            )
        for measure in _MEASURES:
            measured, n = len(network.sample(measure).values), len(network.rows)
            if 0 < measured < n:
                notes.append(f"{network.name} has {measure} in {measured} of {n} runs only; its mean is over these")
    return notes
