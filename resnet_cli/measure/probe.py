"""Run one probe on several networks, unit by unit, and keep what it finds in the directories of runs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from resnet_cli.errors import NotApplicableError, UsageError
from resnet_cli.measure.opening import Opener
from resnet_cli.measure.subjects import Subject
from resnet_cli.probes.base import Network, Probe, Row, StoredPredictions, Which
from resnet_cli.probes.registry import load_probe
from resnet_cli.rundir import Predictions, now
from resnet_cli.rundir.probe_files import ProbeFiles, ProbeKey, Unit, rows_from_csv, rows_to_csv
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors
from resnet_cli.util.signals import StopInterrupt
from resnet_cli.util.text import duration, shorten
from resnet_cli.version import __version__

if TYPE_CHECKING:
    import pandas as pd

_WORTH_A_NOTE_SECONDS = 2.0


class ProbeOptions(NamedTuple):
    """How to apply a probe."""

    which: Which | None = None
    """Weights of the runs; None: the probe's default, as for `images`."""
    images: int | None = None
    batch_size: int = 250
    seed: int = 0
    settings: tuple[str, ...] = ()
    """Settings to change, each as `NAME=VALUE`."""
    device: str = "auto"
    data_dir: Path | None = None
    again: bool = False
    """Also measure what is already stored."""


class ProbeResult(NamedTuple):
    """What a probe found."""

    frame: "pd.DataFrame"
    """Columns label, network, which, dataset and seed, then those of the probe; networks in the order given."""
    combined: "pd.DataFrame"
    """Rows that compare the networks with each other; empty if the probe does not."""
    refused: list[str]
    """One line for each network to which the probe does not apply."""
    stored: list[Path]
    """CSV files in run directories that contain the rows."""


class _Task(NamedTuple):
    """One network, and what is known about it already."""

    subject: Subject
    files: ProbeFiles | None  # None for a network without a run directory, as for `key`
    key: ProbeKey | None
    rows: "pd.DataFrame | None"  # of a finished measurement
    units: list[str]


def run_probe(
    name: str,
    subjects: list[Subject],
    options: ProbeOptions | None = None,
    *,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
) -> ProbeResult:
    """Measure networks with the probe `name`, and store the rows of runs in their directories.

    A finished measurement of the same weights and data, with the same parameters and version, is read instead of
    repeated. Finished units of an interrupted one are kept.

    Args:
        name: a name in `resnet_cli.probes.registry.TITLES`.
        subjects: networks to measure.
        options: parameters of the measurement.
        progress: receives the number of units done.
        note: receives one line with the expected duration, once it is known.

    Raises:
        InputError: data, weights or predictions cannot be read, or are not those of the run.
        UsageError: an option is wrong.
        NotApplicableError: the probe applies to none of the networks.
        StoppedError: a signal stopped the measurement; finished units are saved.
        ResnetError: the batch does not fit into memory.
    """
    with StopInterrupt(hint="the same command keeps the finished units of runs"):
        return _Measurement(name, options or ProbeOptions(), progress, note).run(subjects)


class _Measurement:
    def __init__(self, name: str, options: ProbeOptions, progress: Progress, note: Callable[[str], None]) -> None:
        self._name, self._options, self._progress, self._note = name, options, progress, note
        self._probe: Probe = load_probe(name)
        self._settings = parse_settings(name, self._probe, options.settings)
        self._images = options.images if options.images is not None else self._probe.images
        self._opener = Opener(options.data_dir, options.device, progress)
        self._networks: dict[int, Network] = {}  # by position; kept for `combine` only

    def run(self, subjects: list[Subject]) -> ProbeResult:
        import pandas as pd

        subjects = [self._choose_weights(subject) for subject in subjects]
        reasons = [self._probe.refuse(subject.config) for subject in subjects]
        refused = [f"{subject.label}: {reason}" for subject, reason in zip(subjects, reasons, strict=True) if reason]
        accepted = [subject for subject, reason in zip(subjects, reasons, strict=True) if not reason]
        if not accepted:
            raise NotApplicableError(f"{self._name} applies to none of the networks: {refused[0]}")
        tasks = [self._plan(subject) for subject in accepted]
        timer = _Timer(self._name, tasks, self._progress, self._note)
        frames = []
        for index, task in enumerate(tasks):
            rows = task.rows if task.rows is not None else self._measure(index, task, timer)
            frames.append(task.subject.identify(self._dataset_name(task.subject), rows))
        stored = [task.files.rows_path for task in tasks if task.files]
        return ProbeResult(pd.concat(frames, ignore_index=True), self._combine(tasks), refused, stored)

    def _choose_weights(self, subject: Subject) -> Subject:
        return subject._replace(which=self._options.which or self._probe.which) if subject.run else subject

    def _plan(self, subject: Subject) -> _Task:
        units = self._probe.units(subject.config, self._settings)
        if not subject.run:
            return _Task(subject, None, None, None, units)
        files = ProbeFiles(subject.run, self._name, subject.which)
        record, options = subject.run.read_record(), self._options
        source: Literal["weights", "predictions"] = "predictions" if self._reads_predictions(subject) else "weights"
        key = ProbeKey(
            probe=self._name, which=subject.which, run_id=record.run_id,
            dataset_fingerprint=record.dataset.fingerprint,
            source=source, source_sha256=files.source_sha256(source),
            images=self._images, batch_size=options.batch_size, seed=options.seed, settings=dict(self._settings),
            tool_version=__version__,
        )  # fmt: skip
        return _Task(subject, files, key, None if options.again else files.find(key), units)

    def _reads_predictions(self, subject: Subject) -> bool:
        is_stored = subject.run is not None and subject.which == "last" and subject.run.predictions_path.is_file()
        return self._probe.needs == "predictions" and is_stored

    def _measure(self, index: int, task: _Task, timer: "_Timer") -> "pd.DataFrame":
        """Measure the units that are not finished, and store the rows."""
        found: dict[str, Unit] = {}
        if task.files and task.key and not self._options.again:
            found = task.files.read_finished_units(task.key)
        target = self._open(index, task.subject)
        if task.files and task.key:
            task.files.start(task.key, found.values())
        with translate_errors(batch_size=self._options.batch_size, network=task.subject.label):
            for unit in task.units:
                if unit not in found:
                    started = time.monotonic()
                    rows = self._probe.measure(target, unit)
                    found[unit] = Unit(unit, rows, time.monotonic() - started)
                    if task.files:
                        task.files.append_unit(found[unit])
                timer.count(task, found[unit].seconds)
        units = [found[name] for name in task.units]
        data = rows_to_csv([row for unit in units for row in unit.rows])
        if task.files and task.key:
            device = None if task.key.source == "predictions" else self._opener.device(task.subject).type
            seconds = sum(unit.seconds for unit in units)
            task.files.write(task.key, data, device=device, seconds=seconds, measured_at=now())
        return rows_from_csv(data)

    def _open(self, index: int, subject: Subject) -> Network | StoredPredictions:
        options = self._options
        if self._probe.needs == "predictions":
            predictions = self._predictions(subject)
            return StoredPredictions(
                subject.label, subject.config, subject.which, predictions, options.seed, self._settings
            )
        network = self._network(subject)
        if self._probe.combine:
            self._networks[index] = network
        return network

    def _network(self, subject: Subject) -> Network:
        options = self._options
        return self._opener.network(
            subject, images=self._images, batch_size=options.batch_size, seed=options.seed, settings=self._settings
        )

    def _predictions(self, subject: Subject) -> Predictions:
        if self._reads_predictions(subject):
            assert subject.run
            return subject.run.read_predictions(len(subject.run.read_record().dataset.classes))
        from resnet_cli.probes.scoring import predict

        network = self._network(subject)
        with translate_errors(batch_size=network.batch_size, network=subject.label):
            logits = predict(network.model, network.test, network.normalizer, network.batch_size)
        return Predictions(labels=network.test.labels.cpu().numpy(), logits=logits.numpy())

    def _dataset_name(self, subject: Subject) -> str:
        if subject.run:
            return subject.run.read_record().dataset.display_name
        return self._opener.data(subject).display_name

    def _combine(self, tasks: list[_Task]) -> "pd.DataFrame":
        """Compare the networks of each dataset that has at least two."""
        import pandas as pd

        rows: list[Row] = []
        if self._probe.combine and len(tasks) > 1:
            groups: dict[str, list[Network]] = {}
            for index, task in enumerate(tasks):
                network = self._networks.get(index) or self._network(task.subject)
                groups.setdefault(self._opener.data(task.subject).fingerprint, []).append(network)
            for networks in groups.values():
                if len(networks) > 1:
                    rows += self._probe.combine(networks)
        return pd.DataFrame(rows)


def parse_settings(name: str, probe: Probe, given: tuple[str, ...]) -> dict[str, int | float | str]:
    """Settings of the probe `name`: the defaults, with the values of `NAME=VALUE` texts in the types of the defaults.

    Raises:
        UsageError: a setting is unknown, or its value has another type or is outside its limits.
    """
    defaults = probe.settings
    settings = dict(defaults)
    for text in given:
        setting, equals, value = text.partition("=")
        if not equals or setting not in defaults:
            known = ", ".join(f"{key}={default}" for key, default in defaults.items())
            raise UsageError(
                f"--set {shorten(text)}: {name} has no such setting", hint=f"use {known}" if known else "omit --set"
            )
        kind = type(defaults[setting])
        settings[setting] = value if kind is str else _parse_number(text, value, kind, *probe.limits[setting])
    return settings


def _parse_number(text: str, value: str, kind: type, low: float, high: float) -> int | float:
    try:
        parsed: int | float = kind(value)
        if low <= parsed <= high:
            return parsed
    except ValueError:
        pass
    expected = "a whole number" if kind is int else "a number"
    raise UsageError(f"--set {shorten(text)}: the value must be {expected} between {low:,g} and {high:,g}")


class _Timer:
    """Reports progress, and the expected duration after the first unit."""

    def __init__(self, name: str, tasks: list[_Task], progress: Progress, note: Callable[[str], None]) -> None:
        self._name, self._progress, self._note = name, progress, note
        todo = [task for task in tasks if task.rows is None]
        self._total = sum(len(task.units) for task in todo)
        # the time of a unit is roughly proportional to the depth
        self._work = sum(len(task.units) * task.subject.config.depth for task in todo)
        self._done = 0
        if self._total:
            progress(name, 0, self._total, "units")

    def count(self, task: _Task, seconds: float) -> None:
        """Count one unit that took `seconds`."""
        self._done += 1
        expected = seconds * self._work / task.subject.config.depth
        if self._done == 1 and self._total > 1 and expected >= _WORTH_A_NOTE_SECONDS:
            self._note(f"{self._name}: expected duration about {duration(expected)}")
        self._progress(self._name, self._done, self._total, "units")
