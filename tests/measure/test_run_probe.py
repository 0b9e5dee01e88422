"""A probe measures every unit once, keeps what it finishes, and stores rows that can be trusted."""

import json
import os
import shutil
import signal

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch

from resnet_cli.data.digits import load_digits
from resnet_cli.errors import (
    InputError,
    InterruptedByUserError,
    NotApplicableError,
    ResnetError,
    StoppedError,
    UsageError,
)
from resnet_cli.measure import ProbeOptions, Subject, fresh_subjects, run_probe, saved_subjects
from resnet_cli.measure.probe import parse_settings
from resnet_cli.model import build_model
from resnet_cli.probes.base import Probe
from resnet_cli.probes.registry import load_probe
from resnet_cli.recipes import make_config
from resnet_cli.rundir import Predictions, RunDir
from resnet_cli.rundir.probe_files import ProbeFiles
from resnet_cli.session import train
from resnet_cli.weights import load_run_weights


class Recorder:
    """A probe of three units that records what it measures; `fail` is called instead of unit b."""

    def __init__(self, monkeypatch, **fields):
        self.measured, self.fail = [], None
        settings = {"settings": {"power": 2}, "limits": {"power": (0, 9)}}
        values = {"reference": "", "needs": "predictions"} | settings | fields
        probe = Probe(units=lambda config, settings: ["a", "b", "c"], measure=self.measure, **values)
        monkeypatch.setattr("resnet_cli.measure.probe.load_probe", lambda name: probe)

    def measure(self, target, unit):
        if unit == "b" and self.fail:
            self.fail()
        self.measured.append(unit)
        self.target = target
        return [{"unit": unit, "value": 0.1 + 0.2, "missing": None, "is_odd": unit != "b"}] * 2

    @property
    def calls(self):
        """The units measured since the last time, as one string."""
        calls, self.measured = "".join(self.measured), []
        return calls


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "run", dataset="digits", depth=8)


@pytest.fixture
def subjects(run):
    return [Subject("resnet-8", run.read_record().config, "last", run)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = make_config("demo", arch="resnet", depth=8, epochs=1, limit_train=100, limit_test=20, seed=3, device="cpu")
    return train(config, tmp_path_factory.mktemp("runs") / "run").run


def test_rows_follow_the_identity_of_the_network_and_are_stored_with_their_parameters(monkeypatch, run, subjects):
    recorder = Recorder(monkeypatch)
    result = run_probe("fake", subjects, ProbeOptions(seed=4, images=50))
    assert list(result.frame) == [
        "label", "network", "which", "dataset", "seed", "unit", "value", "missing", "is_odd",
    ]  # fmt: skip
    assert result.frame["unit"].tolist() == list("aabbcc")
    assert result.frame["value"].tolist() == pytest.approx([0.3] * 6)
    assert result.stored == [run.path / "probes" / "fake-last.csv"]
    stored = pd.read_csv(result.stored[0])
    pd.testing.assert_frame_equal(stored, result.frame[list(stored)])
    document = json.loads((run.path / "probes" / "fake-last.json").read_text())
    record = run.read_record()
    expected = {
        "probe": "fake", "which": "last", "seed": 4, "images": 50, "batch_size": 250, "settings": {"power": 2},
        "run_id": record.run_id, "dataset_fingerprint": record.dataset.fingerprint, "source": "predictions",
    }  # fmt: skip
    assert expected.items() <= document.items()
    assert sorted(path.name for path in (run.path / "probes").iterdir()) == ["fake-last.csv", "fake-last.json"]
    assert recorder.target.settings == {"power": 2}
    assert np.array_equal(recorder.target.predictions.labels, run.read_predictions().labels)


def test_a_finished_measurement_is_repeated_only_if_its_parameters_or_its_source_differ(monkeypatch, run, subjects):
    recorder = Recorder(monkeypatch)
    first = run_probe("fake", subjects).frame
    assert recorder.calls == "abc"
    pd.testing.assert_frame_equal(run_probe("fake", subjects).frame, first)
    assert recorder.calls == ""
    changed = [{"again": True}, {"seed": 1}, {"images": 20}, {"batch_size": 9}, {"settings": ("power=3",)}]
    for change in changed:
        run_probe("fake", subjects, ProbeOptions(**change))
        assert recorder.calls == "abc", change
    run_probe("fake", subjects)
    assert recorder.calls == "abc", "only the last measurement is stored"
    before = run.read_predictions()
    run.write_predictions(Predictions(labels=before.labels, logits=before.logits + 1))
    run_probe("fake", subjects)
    assert recorder.calls == "abc"


@pytest.mark.parametrize("damage", ["rows", "record", "no rows"])
def test_damaged_files_of_a_finished_measurement_are_measured_again(monkeypatch, subjects, damage):
    recorder = Recorder(monkeypatch)
    (rows,) = run_probe("fake", subjects).stored
    assert recorder.calls == "abc"
    if damage == "no rows":
        rows.unlink()
    else:
        path = rows if damage == "rows" else rows.with_suffix(".json")
        path.write_bytes(path.read_bytes().replace(b"0.30000000000000004", b"0.4")[:-3])
    run_probe("fake", subjects)
    assert recorder.calls == "abc"


def test_units_that_were_finished_before_an_interruption_are_not_measured_again(monkeypatch, run, subjects):
    recorder = Recorder(monkeypatch)

    def crash():
        raise RuntimeError("crash")

    recorder.fail = crash
    with pytest.raises(RuntimeError, match="crash"):
        run_probe("fake", subjects)
    assert recorder.calls == "a"
    (unfinished,) = (run.path / "probes").iterdir()
    unfinished.write_bytes(unfinished.read_bytes() + b'{"name": "b", "rows": [{"un')  # killed while writing
    recorder.fail = None
    frame = run_probe("fake", subjects).frame
    assert recorder.calls == "bc"
    assert frame["unit"].tolist() == list("aabbcc")
    assert not unfinished.exists()


def test_an_interruption_after_a_cut_line_keeps_every_finished_unit(monkeypatch, run, subjects):
    recorder = Recorder(monkeypatch)
    files = ProbeFiles(run, "fake", "last")

    def crash():
        raise RuntimeError("crash")

    recorder.fail = crash
    for expected in ("a", ""):
        with pytest.raises(RuntimeError, match="crash"):
            run_probe("fake", subjects)
        assert recorder.calls == expected
        path = files.rows_path.parent / ".fake-last.unfinished.jsonl"
        path.write_bytes(path.read_bytes() + b'{"name"')


@pytest.mark.parametrize("options", [ProbeOptions(seed=1), ProbeOptions(again=True)])
def test_unfinished_work_with_other_parameters_is_discarded(monkeypatch, subjects, options):
    recorder = Recorder(monkeypatch)

    def crash():
        raise RuntimeError("crash")

    recorder.fail = crash
    with pytest.raises(RuntimeError, match="crash"):
        run_probe("fake", subjects)
    recorder.fail = None
    assert recorder.calls == "a"
    run_probe("fake", subjects, options)
    assert recorder.calls == "abc"


@pytest.mark.parametrize(
    ("number", "error", "code"), [(signal.SIGTERM, StoppedError, 75), (signal.SIGINT, InterruptedByUserError, 130)]
)
def test_a_stop_signal_ends_the_measurement_at_once_and_keeps_finished_units(
    monkeypatch, subjects, number, error, code
):
    recorder = Recorder(monkeypatch)
    recorder.fail = lambda: os.kill(os.getpid(), number)
    with pytest.raises(error, match=f"stopped by {number.name}") as caught:
        run_probe("fake", subjects)
    assert caught.value.exit_code == code
    recorder.fail = None
    run_probe("fake", subjects)
    assert recorder.calls == "abc", "the first call finished unit a, the second one the others"


def test_progress_counts_units_and_the_expected_duration_follows_the_first(monkeypatch, make_run, tmp_path):
    recorder = Recorder(monkeypatch)
    subjects = saved_subjects(
        [make_run(tmp_path / str(depth), dataset="digits", depth=depth).path for depth in (8, 32)], "last", warn=print
    )
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr("resnet_cli.measure.probe.time.monotonic", lambda: next(clock))
    seen, notes = [], []
    run_probe("fake", subjects, progress=lambda *event: seen.append(event), note=notes.append)
    assert [event for event in seen if event[0] == "fake"] == [("fake", done, 6, "units") for done in range(7)]
    # five seconds for one of three units of 8 layers, to which three of 32 layers come
    assert notes == ["fake: expected duration about 1 min 15 s"]
    assert recorder.calls == "abcabc"


def test_networks_to_which_a_probe_does_not_apply_are_left_out_with_the_reason(monkeypatch, make_run, tmp_path):
    recorder = Recorder(monkeypatch, refuse=lambda config: "it has shortcuts" if config.arch == "resnet" else None)
    paths = [make_run(tmp_path / arch, arch=arch, dataset="digits", depth=8).path for arch in ("plain", "resnet")]
    result = run_probe("fake", saved_subjects(paths, "last", warn=print))
    assert result.refused == ["resnet-8: it has shortcuts"]
    assert set(result.frame["network"]) == {"plain-8"}
    assert recorder.calls == "abc"
    with pytest.raises(NotApplicableError, match="fake applies to none of the networks: resnet-8: it has shortcuts"):
        run_probe("fake", saved_subjects(paths[1:], "last", warn=print))


def test_networks_of_one_dataset_are_compared_with_each_other(monkeypatch):
    compared = []
    Recorder(monkeypatch, needs="network", combine=lambda networks: compared.append(networks) or [{"cka": 1.0}])
    result = run_probe("fake", fresh_subjects(depth=8), ProbeOptions(device="cpu"))
    assert [[network.label for network in networks] for networks in compared] == [["plain-8", "resnet-8"]]
    assert result.combined.to_dict("records") == [{"cka": 1.0}]
    assert result.stored == []
    assert len(run_probe("fake", fresh_subjects(arch="plain", depth=8), ProbeOptions(device="cpu")).combined) == 0


@pytest.mark.parametrize("which", ["init", "last", "best"])
def test_a_probe_sees_the_weights_the_data_and_the_initialisation_of_a_run(monkeypatch, trained, which):
    recorder = Recorder(monkeypatch, needs="network", images=30)
    options = ProbeOptions(which=which, device="cpu", batch_size=16, again=True)
    run_probe("fake", saved_subjects([trained.path], "last", warn=print), options)
    network = recorder.target
    fresh = build_model("resnet", 8, seed=3).state_dict()
    expected = fresh if which == "init" else load_run_weights(trained, which).state_dict
    assert all(torch.equal(value, expected[name]) for name, value in network.model.state_dict().items())
    assert all(torch.equal(value, fresh[name]) for name, value in network.initial().state_dict().items())
    assert (len(network.train), len(network.test)) == (100, 20)
    assert (network.which, network.images, network.batch_size) == (which, 30, 16)
    assert not network.model.training
    assert all(parameter.requires_grad for parameter in network.model.parameters())
    assert (trained.path / "probes" / f"fake-{which}.csv").is_file()


def test_a_foreign_weight_file_is_measured_on_the_named_dataset(monkeypatch, tmp_path):
    recorder = Recorder(monkeypatch, needs="network")
    state = build_model("resnet", 8, "B", seed=5).state_dict()
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"weights\.pt does not record its dataset; add dataset"):
        saved_subjects([path], "last", warn=print)
    (subject,) = saved_subjects([path], "last", dataset="digits", warn=print)
    result = run_probe("fake", [subject], ProbeOptions(device="cpu", which=None))
    assert all(torch.equal(value, state[name]) for name, value in recorder.target.model.state_dict().items())
    assert set(result.frame["which"]) == {"file"}
    assert result.stored == []
    (subject,) = saved_subjects([path], "last", dataset="cifar100", warn=print)
    monkeypatch.setattr("resnet_cli.measure.opening.load_source", _hundred_classes)
    with pytest.raises(InputError, match="10 outputs"):
        run_probe("fake", [subject], ProbeOptions(device="cpu"))


def _hundred_classes(*_, **__):
    return msgspec.structs.replace(load_digits(), classes=tuple(map(str, range(100))))


def test_a_weight_file_of_a_run_has_the_logits_of_its_predictions(monkeypatch, trained):
    recorder = Recorder(monkeypatch)
    (subject,) = saved_subjects([trained.last_weights_path], "last", warn=print)
    run_probe("fake", [subject], ProbeOptions(device="cpu"))
    expected = trained.read_predictions()
    assert np.array_equal(recorder.target.predictions.labels, expected.labels)
    np.testing.assert_allclose(recorder.target.predictions.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_folders_of_runs_are_searched_and_unfinished_runs_are_skipped_with_a_warning(make_run, tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"seed-{seed}", seed=seed)
    make_run(tmp_path / "runs" / "unfinished", seed=2, status="incomplete")
    warnings = []
    found = saved_subjects([tmp_path / "runs"], "best", warn=warnings.append)
    assert [(subject.label, subject.which) for subject in found] == [("seed-0", "best"), ("seed-1", "best")]
    assert len(warnings) == 1
    assert "unfinished (incomplete)" in warnings[0]


def test_a_run_with_other_data_is_refused(monkeypatch, trained, tmp_path):
    Recorder(monkeypatch, needs="network")
    copy = RunDir(shutil.copytree(trained.path, tmp_path / "run"))
    record = copy.record_path.read_text()
    copy.record_path.write_text(record.replace(trained.read_record().dataset.fingerprint, "0" * 64))
    with pytest.raises(InputError, match="trained on other data"):
        run_probe("fake", saved_subjects([copy.path], "last", warn=print), ProbeOptions(device="cpu"))


def test_settings_keep_the_type_of_their_default_and_unknown_ones_are_listed():
    probe = Probe(
        "", lambda config, settings: [], lambda network, unit: [],
        settings={"points": 11, "range": 1.0, "kind": "filter"}, limits={"points": (0, 1000), "range": (0, 2)},
    )  # fmt: skip
    assert parse_settings("x", probe, ("points=51", "range=2", "kind=layer")) == {
        "points": 51, "range": 2.0, "kind": "layer",
    }  # fmt: skip
    for text, message in {
        "points=1.5": "set points=1.5: the value must be a whole number between 0 and 1,000",
        "range=wide": "the value must be a number between",
        "range=nan": "the value must be a number between",
        "points=-1": "the value must be a whole number between",
        "size=3": "x has no such setting; use points=11, range=1.0, kind=filter",
        "points": "set points: x has no such setting",
    }.items():
        with pytest.raises(UsageError, match=message):
            parse_settings("x", probe, (text,))
    with pytest.raises(ResnetError, match="omit set"):
        parse_settings("bn", load_probe("bn"), ("points=1",))
