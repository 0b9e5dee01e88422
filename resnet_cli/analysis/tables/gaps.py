"""Differences between networks of one group: residual − plain, deep − shallow, and amplification with depth."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from resnet_cli.analysis.paper import Published
from resnet_cli.analysis.stats import Sample, contrast, difference, fieller, image_sampling_error_pp
from resnet_cli.errors import RunFileError
from resnet_cli.rundir import RunDir

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]

# Degradation concerns training error, so every gap is reported for both.
_MAX_PREDICTIONS = 10

GAP_MEASURES = ("test_accuracy_pct", "train_clean_error_pct")


class NetworkRuns(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """The complete and the diverged runs of one network within a group; at least one."""

    rows: list[Row]
    """One row of `resnet_cli.analysis.frames.run_row` per complete run."""
    diverged: list[Row]
    """One row per diverged run: what identifies it, num_train, num_test, and accuracy and error of guessing."""
    published: Published | None

    @property
    def name(self) -> str:
        """`plain-56`, `resnet-56`, `resnet-56-B`."""
        return str(self._first["network"])

    @property
    def depth(self) -> int:
        """Number of weighted layers."""
        return int(self._first["depth"])

    @property
    def family(self) -> tuple[str, str]:
        """Architecture and shortcut, shared by networks of different depths."""
        return self._first["arch"], self._first["shortcut"]

    @property
    def _first(self) -> Row:
        return (self.rows or self.diverged)[0]

    def sample(self, measure: str, *, with_diverged: bool = False) -> Sample:
        """Values of one measure over the seeds; runs without the measure are excluded.

        Args:
            measure: a column of the rows.
            with_diverged: also count diverged runs, which have a value for `GAP_MEASURES` only.
        """
        images = self._first["num_train" if measure.startswith("train") else "num_test"]
        is_share = measure.endswith("_pct")
        rows = [*self.rows, *self.diverged] if with_diverged else self.rows
        return Sample.of(((row["seed"], row[measure]) for row in rows), resolution=50 / images if is_share else 0.0)

    @cached_property
    def correct(self) -> "np.ndarray[Any, np.dtype[np.bool_]] | None":
        """Whether each test image was classified correctly, (runs ≤ 10, N); None without predictions."""
        import numpy as np

        try:
            found = [RunDir(row["path"]).read_predictions() for row in self.rows[:_MAX_PREDICTIONS]]
            return np.stack([one.logits.argmax(axis=1) == one.labels for one in found])
        except (RunFileError, ValueError):  # stack: runs on different test images
            return None


# The functions below take the networks of one group, in order of depth.
Pair = tuple[NetworkRuns, NetworkRuns]


def gap_rows(networks: Sequence[NetworkRuns]) -> list[Row]:
    """Subtract plain from residual networks at each depth with both, one row per measure.

    Keys: `depth`, `shortcut` (of the residual network), `first`, `second` (network names),
    `measure`, `difference_pp` (first − second), `low_pp`, `high_pp` (95 % interval by Welch's method), `n` (seeds of
    the smaller sample), `num_diverged` (runs that diverged and count with the accuracy of guessing),
    `sampling_standard_error_pp` (of the finite test set; test accuracy only, from predictions of complete runs) and
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
    """Compare the gap in test accuracy at each greater depth with the gap at the smallest depth.

    Keys: `shortcut`, `deep_depth`, `shallow_depth`, `difference_pp` (deep gap − shallow gap), `low_pp`, `high_pp` (95 %
    interval), `n`, `num_diverged`, `ratio` (deep gap ÷ shallow gap), `ratio_set` (of `stats.RatioSet`: the kind of its
    95 % Fieller set), `ratio_low`, `ratio_high` and `published_ratio`.
    """
    by_shortcut: dict[str, list[Pair]] = {}
    for residual, plain in _twins(networks):
        by_shortcut.setdefault(residual.family[1], []).append((residual, plain))
    rows = []
    for shortcut, (shallow, *deeper) in sorted(by_shortcut.items()):
        for deep in deeper:
            above, below = (
                difference(*(network.sample("test_accuracy_pct", with_diverged=True) for network in pair))
                for pair in (deep, shallow)
            )
            change = contrast(
                (sign, network.sample("test_accuracy_pct", with_diverged=True))
                for sign, network in zip((1.0, -1.0, -1.0, 1.0), (*deep, *shallow), strict=True)
            )
            ratio = fieller(above, below)
            low, high = change.interval or (None, None)
            reported = _published_difference(*deep), _published_difference(*shallow)
            rows.append({
                "shortcut": shortcut, "deep_depth": deep[0].depth, "shallow_depth": shallow[0].depth,
                "difference_pp": change.mean, "low_pp": low, "high_pp": high, "n": change.n,
                "num_diverged": sum(len(network.diverged) for network in (*deep, *shallow)),
                "ratio": ratio.value, "ratio_set": ratio.kind, "ratio_low": ratio.low, "ratio_high": ratio.high,
                "published_ratio": reported[0] / reported[1] if reported[0] is not None and reported[1] else None,
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
        samples = [network.sample(measure, with_diverged=True) for network in (first, second)]
        if not all(sample.values for sample in samples):
            continue
        gap = difference(*samples)
        low, high = gap.interval or (None, None)
        row: Row = {
            "first": first.name, "second": second.name, "measure": measure, "difference_pp": gap.mean,
            "low_pp": low, "high_pp": high, "n": gap.n, "num_diverged": len(first.diverged) + len(second.diverged),
            "sampling_standard_error_pp": None, "published_difference_pp": None,
        }  # fmt: skip
        if measure == "test_accuracy_pct":
            row["sampling_standard_error_pp"] = _sampling_error(first, second)
            row["published_difference_pp"] = _published_difference(first, second)
        yield row


def _sampling_error(first: NetworkRuns, second: NetworkRuns) -> float | None:
    a, b = first.correct, second.correct
    return image_sampling_error_pp(a, b) if a is not None and b is not None and a.shape[1] == b.shape[1] else None


def _published_difference(first: NetworkRuns, second: NetworkRuns) -> float | None:
    if first.published is None or second.published is None:
        return None
    return round(first.published.accuracy_pct - second.published.accuracy_pct, 2)
