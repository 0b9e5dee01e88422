"""Layout of a comparison as tables of strings, the source of every human-readable format."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from resnet_cli.analysis.frames import CONFIG_COLUMNS, Group
from resnet_cli.analysis.paper import BEST_ON_TEST_PCT, BEST_ON_TEST_SOURCE
from resnet_cli.analysis.stats import MAX_SEEDS_SHOWN
from resnet_cli.analysis.tables.document import by_recipe, group_names, settings_order
from resnet_cli.recipes import RECIPE_FIELDS
from resnet_cli.util.text import duration

Row = Mapping[str, Any]

MISSING = "—"
CHOSEN_ON_TEST = "*"
RECIPE_CHANGED = "†"
NO_INTERVAL = "No interval with one seed."
_DIVERGED = (
    "Diverged runs (of all networks in a row) count as guessing at random here, but not in the means of the results "
    "and the SE of test images."
)


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


class Sweep(msgspec.Struct, frozen=True):
    """The groups that share a dataset and a recipe, and the settings in which they differ; usually one group."""

    name: str
    settings: tuple[str, ...]
    """Fields of the configuration; empty for one group."""
    rows: Sequence[Row]
    """Rows of `networks`."""
    row_of: Mapping[Group, Row]
    """The first row of each group."""

    @property
    def by(self) -> str:
        """The settings in titles: ` by lr`."""
        return f" by {', '.join(map(_words, self.settings))}" if self.settings else ""

    def columns(self) -> tuple[Column, ...]:
        """One column per setting."""
        return tuple(Column(_words(name)) for name in self.settings)

    def cells(self, row: Row) -> tuple[str, ...]:
        """The settings of a row of `networks`, `gaps` or `amplification`."""
        source = row if "network" in row else self.row_of[_group(row)]
        values = (source[CONFIG_COLUMNS[name]] for name in self.settings)
        return tuple(MISSING if value is None else str(value) for value in values)

    def select(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that belong to this sweep, ordered by their settings."""
        found = [row for row in rows if _group(row) in self.row_of]
        return sorted(found, key=lambda row: settings_order(self.row_of[_group(row)]))


def layout(document: Mapping[str, Any], *, seeds_shown: bool = False) -> Report:
    """Lay out a document of `study_document`; `seeds_shown` adds the results of each seed of networks with at most ten.

    Each dataset and recipe has a table of results, the differences between its networks and their amplification with
    depth, if there are any; settings in which runs of a recipe differ have a column. The excluded runs follow.
    """
    tables = []
    for sweep in _sweeps(document["networks"]):
        tables.append(_results(sweep))
        if seeds_shown and any(1 < row["n"] <= MAX_SEEDS_SHOWN for row in sweep.rows):
            tables.append(_seeds(sweep))
        if gaps := sweep.select([*document["gaps"], *document["depth_gaps"]]):
            tables.append(_differences(sweep, gaps))
        if amplified := sweep.select(document["amplification"]):
            tables.append(_amplification(sweep, amplified))
    if document["skipped"]:
        tables.append(_excluded(document["skipped"]))
    return Report(tuple(table.without_empty_columns() for table in tables), tuple(document["notes"]))


def _sweeps(networks: Sequence[Row]) -> list[Sweep]:
    found = [(_shared_group(rows), rows) for rows in by_recipe(networks).values()]
    names = group_names([group for group, _ in found])
    return [
        Sweep(names[group], _differing_settings(rows), rows, {_group(row): row for row in reversed(rows)})
        for group, rows in found
    ]


def _shared_group(rows: Sequence[Row]) -> Group:
    """The group of `rows`, without the overrides that only some of them have."""
    first, *others = dict.fromkeys(row["recipe"] for row in rows)
    words = [word for word in first.split(" ") if all(word in other.split(" ") for other in others)]
    return Group(rows[0]["dataset"], rows[0]["fingerprint"], " ".join(words))


def _differing_settings(rows: Sequence[Row]) -> tuple[str, ...]:
    if len({row["recipe"] for row in rows}) == 1:
        return ()  # a recipe may have different values for networks of different depths
    return tuple(name for name in RECIPE_FIELDS if len({row[CONFIG_COLUMNS[name]] for row in rows}) > 1)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _group(row: Row) -> Group:
    return Group(row["dataset"], row["fingerprint"], row["recipe"])


def _results(sweep: Sweep) -> Table:
    columns = (
        Column("network", "left"), *sweep.columns(), Column("layers", rank=6), Column("parameters", rank=3),
        Column("n"), Column("test accuracy %"), Column("best %", rank=2), Column("published %"),
        Column("diff. pp", rank=1), Column("clean training error %", rank=1), Column("training time", rank=5),
    )  # fmt: skip
    cells = tuple(
        (
            row["network"], *sweep.cells(row), str(row["depth"]), f"{row['parameters'] / 1e6:.2f}M", str(row["n"]),
            plus_minus(row, "test_accuracy_pct"),
            plus_minus(row, "best_test_accuracy_pct") + CHOSEN_ON_TEST * (row["best_chosen_on"] == "test"),
            plus_minus(row, "published_accuracy_pct") + RECIPE_CHANGED * _is_changed(row),
            signed(row["difference_from_published_pp"]),
            plus_minus(row, "train_clean_error_pct"), duration(row["train_seconds"]),
        )
        for row in sweep.rows
    )  # fmt: skip
    return Table(f"Results{sweep.by}: {sweep.name}", columns, cells, _results_footnotes(sweep.rows))


def _seeds(sweep: Sweep) -> Table:
    columns = (
        Column("network", "left"), *sweep.columns(), Column("seeds", "left", rank=2, is_text=True),
        Column("test accuracy % of each seed", "left", is_text=True),
        Column("clean training error % of each seed", "left", rank=1, is_text=True),
    )  # fmt: skip
    cells = tuple(
        (
            row["network"], *sweep.cells(row), ", ".join(map(str, row["seeds"])),
            *(", ".join(f"{value:.2f}" for value in row[f"{measure}_by_seed"]) or MISSING
              for measure in ("test_accuracy_pct", "train_clean_error_pct")),
        )
        for row in sweep.rows if 1 < row["n"] <= MAX_SEEDS_SHOWN
    )  # fmt: skip
    return Table(f"Seeds{sweep.by}: {sweep.name}", columns, cells)


def _is_changed(row: Row) -> bool:
    """Whether the published accuracy of this network was reached with other settings."""
    return " " in row["recipe"] and row["published_accuracy_pct"] is not None


def _results_footnotes(rows: Sequence[Row]) -> tuple[str, ...]:
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
    networks = dict.fromkeys(row["network"] for row in rows if sources and row["network"] in BEST_ON_TEST_PCT)
    others = ", ".join(f"{network} {BEST_ON_TEST_PCT[network]:.2f}" for network in networks)
    has_seeds = any(row["n"] > 1 for row in rows)
    return _applicable({
        "Mean ± standard deviation over n seeds at the last epoch; training time is the mean per run.": has_seeds,
        "One run per network, last epoch; the deviation between seeds was not measured.": not has_seeds,
        f"{CHOSEN_ON_TEST} best epoch selected on the test set, so optimistically biased.":
            any(row["best_chosen_on"] == "test" for row in rows),
        published: True,
        f"{RECIPE_CHANGED} published for the unmodified recipe {recipe}.": any(map(_is_changed, rows)),
        f"Best test accuracy of another implementation with another schedule ({BEST_ON_TEST_SOURCE}): {others}.":
            bool(others),
    })  # fmt: skip


def _differences(sweep: Sweep, rows: Sequence[Row]) -> Table:
    pairs: dict[tuple[str, str], dict[Group, dict[str, Row]]] = {}
    for row in rows:
        of_pair = pairs.setdefault((row["first"], row["second"]), {})
        of_pair.setdefault(_group(row), {})[row["measure"]] = row
    columns = (
        Column("difference", "left"), *sweep.columns(), Column("test accuracy pp"), Column("95 % interval"),
        Column("n"), Column("diverged", rank=5), Column("SE of test images", rank=3),
        Column("published pp", rank=2), Column("clean training error pp", rank=1),
        Column("error 95 % interval", rank=4),
    )  # fmt: skip
    cells = []
    for (first, second), by_group in pairs.items():
        for measures in by_group.values():
            accuracy, error = measures["test_accuracy_pct"], measures.get("train_clean_error_pct", {})
            cells.append((
                f"{first} − {second}", *sweep.cells(accuracy), signed(accuracy["difference_pp"]),
                _gap_interval(accuracy), str(accuracy["n"]), _num_diverged(accuracy),
                _number(accuracy["sampling_standard_error_pp"]), signed(accuracy["published_difference_pp"]),
                signed(error.get("difference_pp")), _gap_interval(error),
            ))  # fmt: skip
    notes = _applicable({
        "n counts seeds. Intervals: Welch's t, not narrower than half a test image.":
            any(row["low_pp"] is not None for row in rows),
        "SE of test images: standard error, not an interval, due to the choice of test images, "
        "which both networks share.": any(row["sampling_standard_error_pp"] is not None for row in rows),
        NO_INTERVAL: any(row["low_pp"] is None for row in rows),
        _DIVERGED: any(row["num_diverged"] for row in rows),
    })  # fmt: skip
    return Table(f"Differences in percentage points{sweep.by}: {sweep.name}", columns, tuple(cells), notes)


def _amplification(sweep: Sweep, rows: Sequence[Row]) -> Table:
    columns = (
        Column("change of the residual gap", "left"), *sweep.columns(), Column("pp"), Column("95 % interval"),
        Column("n"), Column("diverged", rank=4), Column("ratio", rank=2), Column("95 % Fieller set", rank=3),
        Column("published ratio", rank=1),
    )  # fmt: skip
    cells = []
    for row in rows:
        of = "" if row["shortcut"] == "A" else f", shortcut {row['shortcut']}"
        cells.append((
            f"{row['shallow_depth']} → {row['deep_depth']} layers{of}", *sweep.cells(row),
            signed(row["difference_pp"]), _gap_interval(row), str(row["n"]), _num_diverged(row),
            _number(row["ratio"]), _ratio_set(row),
            _number(row["published_ratio"]),
        ))  # fmt: skip
    notes = _applicable({
        "Amplification means that the difference of the two gaps is above 0; Welch's t over four networks.":
            any(row["low_pp"] is not None for row in rows),
        "The ratio divides the gap of the deep networks by that of the shallow ones; it is unstable if the latter is "
        "small.": any(row["ratio_set"] in ("two rays", "everything") for row in rows),
        NO_INTERVAL: any(row["n"] == 1 for row in rows),
        _DIVERGED: any(row["num_diverged"] for row in rows),
    })  # fmt: skip
    return Table(f"Amplification of the residual gap{sweep.by}: {sweep.name}", columns, tuple(cells), notes)


def _num_diverged(row: Row) -> str:
    return str(row["num_diverged"]) if row["num_diverged"] else MISSING


def _ratio_set(row: Row) -> str:
    low, high = row["ratio_low"], row["ratio_high"]
    return {
        "interval": _interval(low, high, _number),
        "two rays": f"below {_number(low)} or above {_number(high)}",
        "everything": "all numbers",
        "none": MISSING,
    }[row["ratio_set"]]


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
