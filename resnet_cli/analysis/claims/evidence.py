"""Tidy frames of the runs that a claim is about."""

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from resnet_cli.analysis.claims.decisions import Term
from resnet_cli.analysis.frames import AnyRun, Group, Run, Study, epochs_of
from resnet_cli.analysis.probe_frames import load_probes
from resnet_cli.analysis.stats import Sample
from resnet_cli.analysis.tables.provenance import provenance_notes
from resnet_cli.errors import RunFileError
from resnet_cli.recipes import RECIPE_FIELDS
from resnet_cli.rundir.probe_files import WHICH, ProbeFiles

MAX_WARMUP_SHARE = 0.1 * (1 + 1e-9)  # a tenth, whatever the rounding
"""Share of the learning rate above which the first steps are no warm-up. He et al. (2015, section 4.2) use a tenth."""

# Columns of probes that claims use; files may have any.
_COLUMNS: dict[str, dict[str, type]] = {
    "bn": {"statistics": str, "split": str, "error_pct": float, "num_images": float},
    "gradflow": {"stage": float, "block": float},
    "capacity": {
        "statistics": str, "mode": str, "dtype": str, "split": str, "built_depth": float, "epoch": float,
        "error_pct": float, "max_logit_difference": float, "num_changed": float,
    },
    "shattering": {"quantity": str, "series": str, "lag": float, "distance": float, "autocorrelation": float},
    "responses": {"downsampling": str, "branch_to_skip_growth": float, "deviation": float},
    "lesion": {
        "lesion": str, "statistics": str, "downsampling": str, "repeat": float, "deleted_share": float,
        "error_pct": float, "error_change_pp": float, "num_images": float, "blocks": str,
    },
    "landscape": {
        "part": str, "matrix": str, "end": str, "eigenvalue": float, "residual": float, "alpha": float, "loss": float,
    },
    "similarity": {"quantity": str, "block_index": float, "accuracy_pct": float, "num_images": float},
    "calibration": {
        "scaling": str, "bin": float, "confidence_pct": float, "gap_pct": float, "entropy": float, "nll": float,
        "brier": float, "ece_pct": float,
    },
}  # fmt: skip


class Networks(msgspec.Struct, frozen=True):
    """Names of the four networks that the report compares; shallow and deep ones are the same if one depth exists."""

    plain_shallow: str
    plain_deep: str
    resnet_shallow: str
    resnet_deep: str

    @property
    def depths(self) -> tuple[int, int]:
        """Weighted layers of the shallow and of the deep networks."""
        shallow, deep = (int(name.split("-")[1]) for name in (self.plain_shallow, self.plain_deep))
        return shallow, deep


class CorrectImages(NamedTuple):
    """Which test images the runs of a network classify correctly."""

    runs: pd.DataFrame
    """One row per run: network, depth, seed and path."""
    labels: "np.ndarray[Any, np.dtype[np.int64]]"
    """True classes, (N,)."""
    correct: "np.ndarray[Any, np.dtype[np.bool_]]"
    """(runs, N)."""


class Evidence(msgspec.Struct, frozen=True, dict=True, kw_only=True):
    """Everything measured on runs of one dataset and recipe.

    Every frame has the columns network, depth, seed and path (of the run) besides those named here.
    """

    networks: Networks
    num_classes: int
    num_train: int
    num_test: int
    runs: pd.DataFrame
    """One row per run with status (`complete` or `diverged`), test_accuracy_pct and train_clean_error_pct. A diverged
    run has those of guessing: to leave it out would be survivorship exactly where plain networks fail."""
    epochs: pd.DataFrame
    """metrics.csv of complete runs."""
    gradflow: pd.DataFrame
    """gradflow.csv of complete and diverged runs."""
    load_probe: Callable[[str], pd.DataFrame]
    """Rows of a probe by its name; empty if it was not measured."""
    load_correct: "Callable[[str], CorrectImages | None]"
    """For a network; None without predictions."""
    provenance: tuple[str, ...] = ()
    """Sentences about runs that diverged, and about machines, versions and numerical settings that differ."""
    is_warmed_up: bool = False
    """Whether the plain networks of these runs were trained with a warm-up."""
    warmup: "Evidence | None" = None
    """The arm of plain networks that were trained once more, with a warm-up."""

    @property
    def chance_error_pct(self) -> float:
        """Error of guessing."""
        return 100 * (1 - 1 / self.num_classes)

    @cached_property
    def test_resolution(self) -> float:
        """Half of what one test image contributes to an error, in percentage points."""
        return 50 / self.num_test

    def sample(self, frame: pd.DataFrame, network: str, measure: str, *, resolution: float = 0.0) -> Sample:
        """Values of one measure over the seeds of a network, from a frame with one row per run."""
        rows = frame[frame["network"] == network]
        return Sample.of(zip(rows["seed"].tolist(), rows[measure].tolist(), strict=True), resolution=resolution)

    def gap(
        self, frame: pd.DataFrame, plus: str, minus: str, measure: str = "value", *, resolution: float = 0.0
    ) -> list[Term] | None:
        """The difference `plus` − `minus` of one measure; None if the networks are the same or one has no value."""
        terms = [
            Term(weight, network, self.sample(frame, network, measure, resolution=resolution))
            for weight, network in ((1.0, plus), (-1.0, minus))
        ]
        return terms if plus != minus and all(term.sample.values for term in terms) else None

    def cautions(self, frame: pd.DataFrame, *networks: str) -> list[str]:
        """Sentences about seeds that diverged, and seeds without a row in `frame`."""
        sentences = []
        for network in dict.fromkeys(networks):
            runs = self.runs[self.runs["network"] == network]
            measured = set(frame.loc[frame["network"] == network, "seed"])
            diverged = set(runs.loc[runs["status"] == "diverged", "seed"])
            if counted := diverged & measured:
                sentences.append(f"{_count(counted)} of {network} diverged and {_be(counted)} included")
            if lost := diverged - measured:
                sentences.append(f"{_count(lost)} of {network} diverged and {_be(lost)} missing here")
            if missing := set(runs["seed"]) - diverged - measured:
                sentences.append(f"{_count(missing)} of {network} {_be(missing)} not measured")
        return sentences


def _count(seeds: set[int]) -> str:
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"


def _be(seeds: set[int]) -> str:
    return "is" if len(seeds) == 1 else "are"


def per_run(frame: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """Apply a measure to the rows of each run; NaN and infinite values are left out.

    Returns:
        Columns network, depth, seed, path and value.
    """
    rows = []
    keys = ["network", "depth", "seed", "path"]
    for identity, of_run in frame.groupby(keys, sort=False):
        value = measure(of_run)
        if math.isfinite(value):
            rows.append({**dict(zip(keys, identity, strict=True)), "value": value})
    return pd.DataFrame(rows, columns=[*keys, "value"])


def load_evidence(study: Study, *, warn: Callable[[str], None] = warnings.warn) -> dict[Group, Evidence]:
    """Collect the evidence of every group that has plain and residual networks.

    Args:
        study: loaded with metrics.
        warn: receives one line for each file of a probe that cannot be used.

    Returns:
        By group, in alphabetical order. The plain networks of another group that differs in its warm-up alone are
        the `warmup` arm of a group without a warm-up.
    """
    members: dict[Group, list[AnyRun]] = {}
    for run in (*study.runs, *(run for run in study.unfinished if run.status == "diverged")):
        members.setdefault(run.group, []).append(run)
    found = {}
    for group, runs in sorted(members.items()):
        networks = _compared_networks(runs)
        if networks is None:
            continue
        is_warmed_up = _is_warmed_up(runs, networks)
        arms = [other for other in members.values() if not is_warmed_up and _is_warmup_arm(other, runs, networks)]
        found[group] = msgspec.structs.replace(
            _gather(study, runs, networks, warn), is_warmed_up=is_warmed_up,
            warmup=_gather(study, max(arms, key=len), networks, warn) if arms else None,
        )  # fmt: skip
    return found


def _compared_networks(runs: Sequence[AnyRun]) -> Networks | None:
    """The networks of the smallest and the greatest depth that has both kinds; None if one kind is missing.

    With fewer than two such depths, any depth counts, and the networks that are not there were not measured.
    """
    depths: dict[str, set[int]] = {}
    for run in runs:
        depths.setdefault(run.record.config.shortcut, set()).add(run.record.config.depth)
    for shortcut in ("A", "B"):
        plain, residual = depths.get("none", set()), depths.get(shortcut, set())
        if plain and residual:
            both = plain & residual
            both = both if len(both) > 1 else plain | residual
            suffix = "" if shortcut == "A" else "-B"
            return Networks(
                f"plain-{min(both)}", f"plain-{max(both)}",
                f"resnet-{min(both)}{suffix}", f"resnet-{max(both)}{suffix}",
            )  # fmt: skip
    return None


def _is_warmed_up(runs: Sequence[AnyRun], networks: Networks) -> bool:
    plain = [run.record.config for run in runs if run.network in (networks.plain_shallow, networks.plain_deep)]
    return bool(plain) and all(
        config.warmup_steps and config.warmup_lr <= MAX_WARMUP_SHARE * config.lr for config in plain
    )


def _is_warmup_arm(others: Sequence[AnyRun], runs: Sequence[AnyRun], networks: Networks) -> bool:
    """Whether the deep plain network was trained in `others` as in `runs`, except for a warm-up."""
    pair = [next((run for run in group if run.network == networks.plain_deep), None) for group in (others, runs)]
    other, run = pair
    if other is None or run is None or not _is_warmed_up(others, networks):
        return False
    if (other.record.dataset.fingerprint, other.record.init_from) != (
        run.record.dataset.fingerprint, run.record.init_from
    ):  # fmt: skip
        return False
    same = (name for name in RECIPE_FIELDS if name not in ("warmup_steps", "warmup_lr"))
    return all(getattr(other.record.config, name) == getattr(run.record.config, name) for name in same)


def _gather(study: Study, runs: Sequence[AnyRun], networks: Networks, warn: Callable[[str], None]) -> Evidence:
    complete = [run for run in runs if isinstance(run, Run)]
    compared = [run for run in complete if run.network in msgspec.structs.astuple(networks)]
    dataset = runs[0].record.dataset
    chance = 100 * (1 - 1 / len(dataset.classes))
    rows = [
        {
            **_identity(run), "status": "complete", "test_accuracy_pct": run.summary.last.test_accuracy_pct,
            "train_clean_error_pct": run.summary.last.train_clean_error_pct,
        }
        for run in complete
    ] + [
        {**_identity(run), "status": "diverged", "test_accuracy_pct": 100 - chance, "train_clean_error_pct": chance}
        for run in runs
        if not isinstance(run, Run)
    ]  # fmt: skip

    def gradflow() -> Iterator[pd.DataFrame]:
        for run in runs:
            if run.record.config.gradflow_every:
                summary = run.summary if isinstance(run, Run) else None
                try:
                    rows = run.dir.read_gradflow(run.record.config.depth, summary)
                except RunFileError as error:
                    warn(str(error))
                else:
                    yield rows.assign(**_identity(run))

    def correct(network: str) -> CorrectImages | None:
        kept: list[Run] = []
        rows: list[np.ndarray[Any, np.dtype[np.bool_]]] = []
        labels = np.zeros(0, np.int64)
        for run in complete:
            path = run.dir.predictions_path
            if run.network != network or not path.exists():
                continue
            try:
                found = run.dir.read_predictions(len(dataset.classes), run.summary)
            except RunFileError as error:
                warn(str(error))
                continue
            labels = labels if rows else found.labels
            if not np.array_equal(labels, found.labels):
                warn(f"{path} has other labels than {kept[0].dir.predictions_path} and is ignored")
                continue
            kept.append(run)
            rows.append(found.logits.argmax(axis=1) == labels)
        return CorrectImages(pd.DataFrame(map(_identity, kept)), labels, np.stack(rows)) if rows else None

    return Evidence(
        networks=networks, num_classes=len(dataset.classes), num_train=dataset.num_train, num_test=dataset.num_test,
        runs=pd.DataFrame(rows), epochs=epochs_of(complete, study.metrics),
        gradflow=pd.concat([pd.DataFrame(), *gradflow()], ignore_index=True),
        provenance=(*_divergences(runs, networks), *provenance_notes(compared)),
        load_probe=functools.cache(lambda name: _load_probe(compared, name, warn)), load_correct=correct,
    )  # fmt: skip


def _divergences(runs: Sequence[AnyRun], networks: Networks) -> Iterator[str]:
    """How many runs of each compared network diverged, one sentence for each network with such runs."""
    for network in sorted(set(msgspec.structs.astuple(networks))):
        diverged = [not isinstance(run, Run) for run in runs if run.network == network]
        if any(diverged):
            yield (
                f"{sum(diverged)} of {len(diverged)} runs of {network} diverged; claims about results count them as "
                "guessing, other claims leave them out or use what was recorded"
            )


def _load_probe(runs: Sequence[Run], name: str, warn: Callable[[str], None]) -> pd.DataFrame:
    """Rows of a probe; none if runs were measured with different settings, which could look like an effect."""
    settings: dict[str, set[str]] = {}
    for run in runs:
        for which in WHICH:
            files = ProbeFiles(run.dir, name, which)
            with contextlib.suppress(RunFileError):  # load_probes warns
                record = files.read_record() if files.exists() else None
                if record:
                    found = repr((record.images, record.seed, sorted(record.settings.items())))
                    settings.setdefault(which, set()).add(found)
    if any(len(found) > 1 for found in settings.values()):
        warn(f"probe {name} was measured with different --images, --seed or --set; "
             f"measure again with the same options: resnet probe {name} RUNS")  # fmt: skip
        return pd.DataFrame()
    rows = load_probes(runs, name, warn=warn)
    if len(rows) and (missing := [column for column in _COLUMNS[name] if column not in rows]):
        warn(f"probe {name} has no column {missing[0]} and is ignored; measure again: resnet probe {name} RUNS --again")
        return pd.DataFrame()
    numbers = [column for column, kind in _COLUMNS[name].items() if kind is float and column in rows]
    return rows.assign(**{column: _numbers(rows[column]) for column in numbers})


def _numbers(column: pd.Series) -> "pd.Series[float]":
    """Finite numbers; anything else is NaN."""
    return pd.to_numeric(column, errors="coerce").astype(float).replace([math.inf, -math.inf], math.nan)


def _identity(run: AnyRun) -> dict[str, str | int]:
    config = run.record.config
    return {"network": run.network, "depth": config.depth, "seed": run.seed, "path": str(run.dir.path)}
