"""Layout of a comparison as tables of strings, the source of every human-readable format."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from resnet_cli.analysis.frames import Group
from resnet_cli.analysis.paper import BEST_ON_TEST_PCT, BEST_ON_TEST_SOURCE
from resnet_cli.analysis.tables.document import group_names
from resnet_cli.util.text import duration

Row = Mapping[str, Any]

MISSING = "—"
CHOSEN_ON_TEST = "*"
RECIPE_CHANGED = "†"
NO_INTERVAL = "No interval with one seed."


class Column(msgspec.Struct, frozen=True):
    """One column of a table."""

    header: str
    align: Literal["left", "right"] = "right"
    rank: int = 0
    """Order in which a narrow terminal hides columns: the highest rank first, 0 never (unless all cells are dashes)."""
    is_text: bool = False
    """Whether cells are text of any length, which may wrap."""


class Table(msgspec.Struct, frozen=True):
    """A titled table of strings."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    """One cell per column."""
    footnotes: tuple[str, ...] = ()

    def without_empty_columns(self) -> "Table":
        """This table without the columns in which every cell is a dash."""
        kept = [i for i in range(len(self.columns)) if not self.rows or any(row[i] != MISSING for row in self.rows)]
        columns = tuple(self.columns[i] for i in kept)
        return Table(self.title, columns, tuple(tuple(row[i] for i in kept) for row in self.rows), self.footnotes)


class Report(msgspec.Struct, frozen=True):
    """Tables of a comparison, in reading order, and notes on the whole."""

    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def layout(document: Mapping[str, Any]) -> Report:
    """Lay out a document of `study_document`.

    Each group has Table 1, the differences between its networks and their amplification with
    depth, if there are any; the excluded runs follow.
    """
    grouped: dict[Group, list[Row]] = {}
    for row in document["networks"]:
        grouped.setdefault(_group(row), []).append(row)
    tables = []
    for group, name in group_names(list(grouped)).items():
        gaps, depth_gaps, amplified = (
            [row for row in document[part] if _group(row) == group] for part in ("gaps", "depth_gaps", "amplification")
        )
        tables.append(_table_1(name, grouped[group]))
        if gaps or depth_gaps:
            tables.append(_differences(name, [*gaps, *depth_gaps]))
        if amplified:
            tables.append(_amplification(name, amplified))
    if document["skipped"]:
        tables.append(_excluded(document["skipped"]))
    return Report(tuple(tables), tuple(document["notes"]))


def _group(row: Row) -> Group:
    return Group(row["dataset"], row["fingerprint"], row["recipe"])


def _table_1(name: str, rows: Sequence[Row]) -> Table:
    is_changed = " " in rows[0]["recipe"] and any(row["published_accuracy_pct"] is not None for row in rows)
    columns = (
        Column("network", "left"), Column("layers", rank=6), Column("parameters", rank=3), Column("n"),
        Column("test accuracy %"), Column("best %", rank=2), Column("published %" + RECIPE_CHANGED * is_changed),
        Column("diff. pp", rank=1), Column("clean training error %", rank=1), Column("training time", rank=5),
    )  # fmt: skip
    cells = tuple(
        (
            row["network"], str(row["depth"]), f"{row['parameters'] / 1e6:.2f}M", str(row["n"]),
            plus_minus(row, "test_accuracy_pct"),
            plus_minus(row, "best_test_accuracy_pct") + CHOSEN_ON_TEST * (row["best_chosen_on"] == "test"),
            plus_minus(row, "published_accuracy_pct"), signed(row["difference_from_published_pp"]),
            plus_minus(row, "train_clean_error_pct"), duration(row["train_seconds"]),
        )
        for row in rows
    )  # fmt: skip
    return Table(f"Table 1: {name}", columns, cells, _table_1_footnotes(rows, is_changed))


def _table_1_footnotes(rows: Sequence[Row], is_changed: bool) -> tuple[str, ...]:
    recipe, _, overrides = rows[0]["recipe"].partition(" ")
    sources = "; ".join(dict.fromkeys(row["published_source"] for row in rows if row["published_source"]))
    if sources:
        published = f"Published: {sources}."
    elif rows[0]["dataset_name"] != "cifar10":
        published = f"Published values are for CIFAR-10 and are not comparable with {rows[0]['dataset']}."
    elif "limit_" in overrides:
        published = "Published values are for all of CIFAR-10 and are not comparable with a subset of it."
    else:
        published = f"No values have been published for these networks with recipe {recipe}."
    networks = [row["network"] for row in rows if sources and row["network"] in BEST_ON_TEST_PCT]
    others = ", ".join(f"{network} {BEST_ON_TEST_PCT[network]:.2f}" for network in networks)
    has_seeds = any(row["n"] > 1 for row in rows)
    return _applicable({
        "Mean ± standard deviation over n seeds at the last epoch; training time is the mean per run.": has_seeds,
        "One run per network, last epoch; the deviation between seeds was not measured.": not has_seeds,
        f"{CHOSEN_ON_TEST} best epoch selected on the test set, so optimistically biased.":
            any(row["best_chosen_on"] == "test" for row in rows),
        published: True,
        f"{RECIPE_CHANGED} published for the unmodified recipe {recipe}; these runs use {overrides}.": is_changed,
        f"Best test accuracy of another implementation with another schedule ({BEST_ON_TEST_SOURCE}): {others}.":
            bool(others),
    })  # fmt: skip


def _differences(name: str, rows: Sequence[Row]) -> Table:
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        pairs.setdefault((row["first"], row["second"]), {})[row["measure"]] = row
    columns = (
        Column("difference", "left"), Column("test accuracy pp"), Column("95 % interval"), Column("n"),
        Column("method", "left", rank=5), Column("test-set sampling ±", rank=3), Column("published pp", rank=2),
        Column("clean training error pp", rank=1), Column("error 95 % interval", rank=4),
    )  # fmt: skip
    cells = []
    for (first, second), measures in pairs.items():
        accuracy, error = measures["test_accuracy_pct"], measures.get("train_clean_error_pct", {})
        cells.append((
            f"{first} − {second}", signed(accuracy["difference_pp"]), _gap_interval(accuracy), str(accuracy["n"]),
            accuracy["method"], _number(accuracy["sampling_standard_error_pp"]),
            signed(accuracy["published_difference_pp"]), signed(error.get("difference_pp")), _gap_interval(error),
        ))  # fmt: skip
    notes = _applicable({
        "Intervals: Student's t on differences paired by seed, or Welch's t where seeds differ.":
            any(row["low_pp"] is not None for row in rows),
        "Test-set sampling: binomial standard error due to the finite number of test images; "
        "the errors of the two networks are treated as independent.": True,
        NO_INTERVAL: any(row["method"] == "single" for row in rows),
    })  # fmt: skip
    return Table(f"Differences in percentage points: {name}", columns, tuple(cells), notes)


def _amplification(name: str, rows: Sequence[Row]) -> Table:
    columns = (
        Column("residual gap at", "left"), Column("ratio"), Column("95 % interval"), Column("width"), Column("n"),
        Column("published", rank=1),
    )  # fmt: skip
    cells = []
    for row in rows:
        of = "" if row["shortcut"] == "A" else f", shortcut {row['shortcut']}"
        interval = "unbounded" if row["is_unbounded"] else _interval(row["low"], row["high"], _number)
        cells.append((
            f"{row['deep_depth']} ÷ {row['shallow_depth']} layers{of}", _number(row["ratio"]), interval,
            _number(row["width"]), str(row["n"]), _number(row["published_ratio"]),
        ))  # fmt: skip
    notes = _applicable({
        "Intervals: percentile bootstrap over seeds, which is too narrow with few seeds.":
            any(row["low"] is not None for row in rows),
        "unbounded: the interval of the shallow gap includes zero, so the ratio can take any value.":
            any(row["is_unbounded"] for row in rows),
        NO_INTERVAL: any(row["n"] == 1 for row in rows),
    })  # fmt: skip
    return Table(f"Amplification of the residual gap: {name}", columns, tuple(cells), notes)


def _excluded(skipped: Sequence[Row]) -> Table:
    columns = (Column("run", "left", is_text=True), Column("status", "left"), Column("reason", "left", is_text=True))
    rows = tuple((row["path"], row["status"], row["reason"]) for row in skipped)
    return Table(f"Excluded runs: {len(rows)}", columns, rows)


def _applicable(notes: Mapping[str, bool]) -> tuple[str, ...]:
    return tuple(note for note, is_applicable in notes.items() if is_applicable)


def plus_minus(row: Row, measure: str) -> str:
    """Format a mean as `93.25 ± 0.14`, as `93.25` without a deviation, or as a dash if missing."""
    mean, std = row[measure], row[f"{measure}_std"]
    if mean is None:
        return MISSING
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def signed(value: float | None) -> str:
    """Format a number as `+1.11` or `−4.13`, never as a negative zero, or as a dash if missing."""
    if value is None:
        return MISSING
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}".replace("-", "−")


def _gap_interval(row: Row) -> str:
    return _interval(row.get("low_pp"), row.get("high_pp"), signed)


def _interval(low: float | None, high: float | None, shown: Callable[[float | None], str]) -> str:
    return MISSING if low is None or high is None else f"[{shown(low)}, {shown(high)}]"
