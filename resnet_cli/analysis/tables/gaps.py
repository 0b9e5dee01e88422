"""Differences between networks of one group: residual − plain, deep − shallow, and amplification with depth."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import msgspec

from resnet_cli.analysis.paper import Published
from resnet_cli.analysis.stats import Sample, amplification, difference, sampling_standard_error_pp

Row = dict[str, Any]

# Degradation concerns training error, so every gap is reported for both.
GAP_MEASURES = ("test_accuracy_pct", "train_clean_error_pct")


class NetworkRuns(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The complete runs of one network within a group."""

    rows: list[Row]
    """One row of `resnet_cli.analysis.frames.run_row` per run; at least one."""
    published: Published | None

    @property
    def name(self) -> str:
        """`plain-56`, `resnet-56`, `resnet-56-B`."""
        return str(self.rows[0]["network"])

    @property
    def depth(self) -> int:
        """Number of weighted layers."""
        return int(self.rows[0]["depth"])

    @property
    def family(self) -> tuple[str, str]:
        """Architecture and shortcut, shared by networks of different depths."""
        return self.rows[0]["arch"], self.rows[0]["shortcut"]

    def sample(self, measure: str) -> Sample:
        """Values of one measure over the seeds; runs without the measure are excluded."""
        return Sample.of((row["seed"], row[measure]) for row in self.rows)


# The functions below take the networks of one group, in order of depth.
Pair = tuple[NetworkRuns, NetworkRuns]


def gap_rows(networks: Sequence[NetworkRuns]) -> list[Row]:
    """Subtract plain from residual networks at each depth with both, one row per measure.

    Keys: `depth`, `shortcut` (of the residual network), `first`, `second` (network names),
    `measure`, `difference_pp` (first − second), `std_pp` (of paired differences), `low_pp`,
    `high_pp` (95 % interval), `n` (of the smaller sample), `method` (`paired`, `Welch`,
    `single`), `sampling_standard_error_pp` (of the finite test set; test accuracy only) and
    `published_difference_pp`.
    """
    return [
        {"depth": residual.depth, "shortcut": residual.family[1], **row}
        for residual, plain in _twins(networks)
        for row in _difference_rows(residual, plain)
    ]


def depth_gap_rows(networks: Sequence[NetworkRuns]) -> list[Row]:
    """Subtract the shallowest network of each architecture from the deeper ones, one row per measure.

    Keys: `arch`, `shortcut`, `deep_depth`, `shallow_depth`, and those of `gap_rows` from `first` on.
    """
    families: dict[tuple[str, str], list[NetworkRuns]] = {}
    for network in networks:
        families.setdefault(network.family, []).append(network)
    return [
        {"arch": arch, "shortcut": shortcut, "deep_depth": deep.depth, "shallow_depth": shallow.depth, **row}
        for (arch, shortcut), (shallow, *deeper) in sorted(families.items())
        for deep in deeper
        for row in _difference_rows(deep, shallow)
    ]


def amplification_rows(networks: Sequence[NetworkRuns]) -> list[Row]:
    """Divide the gap in test accuracy at each greater depth by the gap at the smallest depth.

    Keys: `shortcut`, `deep_depth`, `shallow_depth`, `ratio`, `low`, `high` (95 % bootstrap
    interval), `width` (high − low), `n`, `is_unbounded`, `published_ratio`.
    """
    by_shortcut: dict[str, list[Pair]] = {}
    for residual, plain in _twins(networks):
        by_shortcut.setdefault(residual.family[1], []).append((residual, plain))
    rows = []
    for shortcut, (shallow, *deeper) in sorted(by_shortcut.items()):
        for deep in deeper:
            ratio = amplification(_accuracies(deep), _accuracies(shallow))
            low, high = ratio.interval or (None, None)
            above, below = _published_difference(*deep), _published_difference(*shallow)
            rows.append({
                "shortcut": shortcut, "deep_depth": deep[0].depth, "shallow_depth": shallow[0].depth,
                "ratio": ratio.value, "low": low, "high": high,
                "width": None if low is None or high is None else high - low,
                "n": ratio.n, "is_unbounded": ratio.is_unbounded,
                "published_ratio": above / below if above is not None and below else None,
            })  # fmt: skip
    return rows


def _twins(networks: Sequence[NetworkRuns]) -> Iterator[Pair]:
    """Yield pairs (residual, plain) of equal depth, by depth."""
    plain = {network.depth: network for network in networks if network.family[0] == "plain"}
    for network in networks:
        if network.family[0] != "plain" and network.depth in plain:
            yield network, plain[network.depth]


def _difference_rows(first: NetworkRuns, second: NetworkRuns) -> Iterator[Row]:
    for measure in GAP_MEASURES:
        samples = first.sample(measure), second.sample(measure)
        if not all(sample.values for sample in samples):
            continue
        gap = difference(*samples)
        low, high = gap.interval or (None, None)
        row: Row = {
            "first": first.name, "second": second.name, "measure": measure, "difference_pp": gap.mean,
            "std_pp": gap.std, "low_pp": low, "high_pp": high, "n": gap.n, "method": gap.method,
            "sampling_standard_error_pp": None, "published_difference_pp": None,
        }  # fmt: skip
        if measure == "test_accuracy_pct":
            a, b = (fmean(sample.values) for sample in samples)
            row["sampling_standard_error_pp"] = sampling_standard_error_pp(a, b, first.rows[0]["num_test"])
            row["published_difference_pp"] = _published_difference(first, second)
        yield row


def _accuracies(pair: Pair) -> tuple[Sample, Sample]:
    return pair[0].sample("test_accuracy_pct"), pair[1].sample("test_accuracy_pct")


def _published_difference(first: NetworkRuns, second: NetworkRuns) -> float | None:
    if first.published is None or second.published is None:
        return None
    return round(first.published.accuracy_pct - second.published.accuracy_pct, 2)
