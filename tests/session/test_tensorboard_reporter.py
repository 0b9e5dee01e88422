"""`train --tensorboard` writes events while it trains."""

import pytest

from resnet_cli.analysis.tensorboard import export_runs
from resnet_cli.cli.app import run as run_command
from resnet_cli.config import RunOptions, SaveEvery
from resnet_cli.errors import StoppedError, UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.session import Reporter, Reporters, train
from resnet_cli.util import extras

pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
pytestmark = pytest.mark.usefixtures("one_thread")

FIELDS = {"depth": 8, "limit_train": 120, "limit_test": 40, "batch_size": 40, "epochs": 3, "gradflow_every": 1}


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def content(events):
    """All scalars, and the steps of the images; speed and memory differ between runs."""
    tags = events.Tags()
    scalars = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in tags["scalars"]
        if tag not in ("training/images_per_second", "training/peak_memory_bytes")
    }
    return scalars, {tag: [image.step for image in events.Images(tag)] for tag in tags["images"]}


class StopAfter(Reporter):
    """Stops a run as a signal does, after some epochs."""

    def __init__(self, epochs):
        self._left = epochs

    def epoch(self, metrics):
        self._left -= 1
        if not self._left:
            raise StoppedError("stopped by the test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run trained in one piece, with its events."""
    from resnet_cli.session.tensorboard import TensorBoardReporter

    folder = tmp_path_factory.mktemp("trained")
    result = train(
        make_config("demo", arch="resnet", **FIELDS), folder / "run",
        reporter=TensorBoardReporter(folder / "events"),
    )  # fmt: skip
    return result.run, folder / "events" / "run"


def test_the_events_of_training_are_those_of_an_export(trained, tmp_path):
    run, folder = trained
    export_runs([run], tmp_path)
    assert content(read_events(folder)) == content(read_events(tmp_path / "run"))
    assert content(read_events(folder))[0]["loss/train"] == [
        (row.epoch, pytest.approx(row.train_loss)) for row in run.read_epochs()
    ]


@pytest.mark.parametrize(("stopped_after", "save_every"), [(2, 1), (1, 2)], ids=["from a checkpoint", "from scratch"])
def test_a_resumed_run_has_every_epoch_once(trained, tmp_path, stopped_after, save_every):
    from resnet_cli.session.tensorboard import TensorBoardReporter

    config = make_config("demo", arch="resnet", **FIELDS)
    options = RunOptions(save_every=SaveEvery(save_every, "epochs"))
    events = tmp_path / "events"
    reporter = Reporters(TensorBoardReporter(events), StopAfter(stopped_after))
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", options=options, reporter=reporter)
    assert len(read_events(events / "run").Scalars("loss/train")) == stopped_after
    train(config, tmp_path / "run", options=options, reporter=TensorBoardReporter(events))
    assert len(list((events / "run").iterdir())) == 2
    assert content(read_events(events / "run")) == content(read_events(trained[1]))


def test_events_of_an_attempt_without_tensorboard_are_added_when_the_run_is_resumed(trained, tmp_path):
    from resnet_cli.session.tensorboard import TensorBoardReporter

    config = make_config("demo", arch="resnet", **FIELDS)
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", reporter=StopAfter(2))
    train(config, tmp_path / "run", reporter=TensorBoardReporter(tmp_path / "events"))
    assert content(read_events(tmp_path / "events" / "run")) == content(read_events(trained[1]))


def test_the_command_writes_to_the_folder_and_changes_nothing_else(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FIELDS.items()]
    command = ["train", "--recipe", "demo", "--arch", "resnet", *options, "--out", "run", "--quiet"]
    assert run_command([*command, "--tensorboard"]) == 0
    assert content(read_events(tmp_path / "tensorboard" / "run")) == content(read_events(trained[1]))
    weights = tmp_path / "run" / "weights" / "last.safetensors"
    assert weights.read_bytes() == trained[0].last_weights_path.read_bytes()
    capsys.readouterr()
    assert run_command([*command[:-1], "--tensorboard-dir", "other"]) == 0
    assert "to write its events, use: resnet export run --to tensorboard --out other" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_events_that_were_exported_before_a_run_resumed_are_replaced(trained, tmp_path):
    from resnet_cli.session.tensorboard import TensorBoardReporter

    config, events = make_config("demo", arch="resnet", **FIELDS), tmp_path / "events"
    with pytest.raises(StoppedError):
        train(config, tmp_path / "run", reporter=StopAfter(1))
    export_runs([RunDir(tmp_path / "run")], events)
    train(config, tmp_path / "run", reporter=TensorBoardReporter(events))
    assert content(read_events(events / "run")) == content(read_events(trained[1]))


def test_a_run_that_starts_from_scratch_leaves_no_events_of_the_one_it_replaces(tmp_path):
    from tensorboard.plugins.hparams import metadata

    from resnet_cli.session.tensorboard import TensorBoardReporter

    for lr, gradflow_every in ((0.01, 1), (0.02, 0)):
        config = make_config(
            "demo", arch="resnet", **FIELDS | {"lr": lr, "gradflow_every": gradflow_every, "epochs": 1}
        )
        train(config, tmp_path / "run", reporter=TensorBoardReporter(tmp_path / "events"), overwrite=True)
    events = read_events(tmp_path / "events" / "run")
    start = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    assert metadata.parse_session_start_info_plugin_data(start).hparams["lr"].number_value == 0.02
    assert not [tag for tag in events.Tags()["scalars"] if "grad" in tag]


def test_runs_of_one_name_in_different_folders_have_events_of_their_own(tmp_path):
    from resnet_cli.session.tensorboard import TensorBoardReporter

    for study, epochs in (("first", 2), ("second", 1)):
        config = make_config("demo", arch="resnet", **FIELDS | {"epochs": epochs, "gradflow_every": 0})
        train(config, tmp_path / study / "run", reporter=TensorBoardReporter(tmp_path / "events"))
    folders = sorted((tmp_path / "events").iterdir())
    assert [folder.name[:4] for folder in folders] == ["run", "run-"]
    assert [len(read_events(folder).Scalars("loss/train")) for folder in folders] == [2, 1]


def test_a_file_in_the_place_of_the_folder_is_reported_before_training(tmp_path, capsys):
    (tmp_path / "notes").write_text("notes")
    command = ["train", "--recipe", "demo", "--arch", "resnet", "--depth", "8", "--out", str(tmp_path / "run")]
    assert run_command([*command, "--tensorboard-dir", str(tmp_path / "notes")]) == 2
    assert "notes is not a folder; choose another --tensorboard-dir" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_is_reported_before_training(tmp_path, monkeypatch):
    from resnet_cli.session.tensorboard import TensorBoardReporter

    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs tensorboard, .* pip install tensorboard"):
        TensorBoardReporter(tmp_path)


def test_several_reporters_receive_everything_in_order(tmp_path):
    calls = []

    def recorder(number):
        class Recorder(Reporter):
            pass

        for name in ("progress", "note", "warn", "started", "tick", "epoch", "gradflow", "finished"):
            setattr(Recorder, name, lambda self, *_, name=name: calls.append((name, number)))
        return Recorder()

    reporters = Reporters(recorder(1), recorder(2))
    reporters.progress("data", 1, 2)
    train(make_config("demo", arch="resnet", **FIELDS | {"batch_size": 120}), tmp_path / "run", reporter=reporters)
    names = [name for name, number in calls if number == 1]
    assert calls == [(name, number) for name in names for number in (1, 2)]
    assert names.count("epoch") == 3
    assert names.count("gradflow") == 4
    assert {"progress", "warn", "started", "tick"} < set(names)
    assert names[-1] == "finished"
