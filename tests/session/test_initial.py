"""`train --init-from` starts from given weights, and repeats and resumes exactly."""

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.tables import layout, study_document
from resnet_cli.cli.app import run as run_command
from resnet_cli.config import RunOptions, SaveEvery
from resnet_cli.errors import InputError, StoppedError, UsageError
from resnet_cli.measure.opening import Opener
from resnet_cli.measure.subjects import Subject
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir, RunRecord
from resnet_cli.session import Reporter, train
from resnet_cli.util.files import file_sha256
from resnet_cli.util.progress import silent

pytestmark = pytest.mark.usefixtures("one_thread")

FIELDS = {"depth": 8, "limit_train": 120, "limit_test": 40, "batch_size": 40, "epochs": 2, "gradflow_every": 1}


def config_of(**fields):
    return make_config("demo", **{"arch": "resnet", **FIELDS, **fields})


def numbers(run):
    """Everything in a run directory that training computes, apart from times."""
    rows = [msgspec.structs.asdict(row) for row in run.read_epochs()]
    timed = ("images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes")
    return (
        [{name: value for name, value in row.items() if name not in timed} for row in rows],
        run.gradflow_path.read_bytes(),
        run.last_weights_path.read_bytes(),
        run.read_predictions().logits.tobytes(),
    )


class StopAfterFirstEpoch(Reporter):
    def epoch(self, metrics):
        raise StoppedError("stopped by the test")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A run that starts from its seed."""
    return train(config_of(), tmp_path_factory.mktemp("seeded") / "run").run


@pytest.fixture(scope="module")
def started(seeded, tmp_path_factory):
    """A run that starts from the last weights of `seeded`."""
    return train(config_of(), tmp_path_factory.mktemp("started") / "run", init_from=seeded.path).run


def test_the_initial_weights_of_a_seed_give_the_numbers_of_the_seed(seeded, tmp_path):
    save_file(build_model("resnet", 8, seed=0).state_dict(), tmp_path / "init.safetensors")
    run = train(config_of(), tmp_path / "run", init_from=tmp_path / "init.safetensors").run
    assert numbers(run) == numbers(seeded)


def test_the_last_weights_of_a_run_are_copied_and_recorded(seeded, started):
    record = started.read_record().init_from
    assert record.path == str(seeded.path)
    assert record.sha256 == file_sha256(seeded.last_weights_path)
    assert record.copy_sha256 == file_sha256(started.init_weights_path)
    copy, original = load_file(started.init_weights_path), load_file(seeded.last_weights_path)
    assert all(torch.equal(copy[name], tensor) for name, tensor in original.items())
    assert numbers(started) != numbers(seeded)
    assert f"--init-from {seeded.path}" in started.readme_path.read_text()


@pytest.mark.parametrize("save_every", ["1epochs", "2epochs"], ids=["from a checkpoint", "from scratch"])
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(seeded, started, tmp_path, save_every):
    options = RunOptions(save_every=SaveEvery.parse(save_every))
    with pytest.raises(StoppedError):
        train(config_of(), tmp_path / "run", init_from=seeded.path, options=options, reporter=StopAfterFirstEpoch())
    copy = tmp_path / "run" / "weights" / "init.safetensors"  # stands for the original, which may be gone
    run = train(config_of(), tmp_path / "run", init_from=copy, options=options).run
    assert numbers(run) == numbers(started)
    assert run.read_record().init_from == started.read_record().init_from


def test_a_repeated_run_starts_from_the_same_weights_without_their_file(started, tmp_path, capsys):
    moved = started.path.rename(tmp_path / "moved")
    try:
        assert run_command(["train", "--from", str(moved), "--out", str(tmp_path / "repeat"), "--quiet"]) == 0
    finally:
        moved.rename(started.path)
    repeated = RunDir(tmp_path / "repeat")
    assert numbers(repeated) == numbers(started)
    assert repeated.read_record().init_from == started.read_record().init_from


def test_the_toml_text_of_a_run_starts_from_the_same_weights(started, tmp_path, capsys):
    assert run_command(["show", str(started.path), "--toml"]) == 0
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)
    out = tmp_path / "repeat"
    assert run_command(["train", "--config", str(tmp_path / "run.toml"), "--out", str(out), "--quiet"]) == 0
    assert numbers(RunDir(out)) == numbers(started)
    assert RunDir(out).read_record().init_from == started.read_record().init_from


def test_the_copy_in_a_run_is_recognised_by_any_of_its_paths(started, monkeypatch):
    monkeypatch.chdir(started.init_weights_path.parent)
    assert train(config_of(), started.path, init_from="init.safetensors").was_complete


def test_other_weights_for_an_existing_run_are_refused(seeded, started, tmp_path):
    with pytest.raises(UsageError, match=r"started from other weights \(init_from: .* → random weights\)"):
        train(config_of(), started.path)
    with pytest.raises(UsageError, match=r"\(init_from: random weights → .* with SHA-256 [0-9a-f]{12}\)"):
        train(config_of(), seeded.path, init_from=started.path)
    changed = load_file(seeded.last_weights_path)
    changed["fc.bias"] += 1
    save_file(changed, tmp_path / "changed.safetensors")
    with pytest.raises(UsageError, match=r"resnet train --from .* --out"):
        train(config_of(), started.path, init_from=tmp_path / "changed.safetensors")
    assert train(config_of(), started.path, init_from=seeded.path).was_complete


def test_a_changed_copy_is_refused(started, tmp_path):
    copy = started.init_weights_path.read_bytes()
    started.init_weights_path.write_bytes(copy[:-1] + bytes([copy[-1] ^ 1]))
    try:
        with pytest.raises(InputError, match="was changed since the run started"):
            train(config_of(), tmp_path / "run", init_from=started.init_weights_path)
        with pytest.raises(InputError, match="was changed since the run started"):
            initial_network(started)
    finally:
        started.init_weights_path.write_bytes(copy)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arch": "plain"}, "arch plain .* contradicts"),
        ({"depth": 14}, "depth 14 .* contradicts"),
        ({"shortcut": "B"}, "shortcut B contradicts"),
    ],
)
def test_another_network_is_refused_before_the_run_directory_exists(seeded, tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        train(config_of(**fields), tmp_path / "run", init_from=seeded.path)
    assert not (tmp_path / "run").exists()


def test_a_network_with_other_classes_is_refused(tmp_path):
    save_file(build_model("resnet", 8, num_classes=7).state_dict(), tmp_path / "seven.safetensors")
    with pytest.raises(InputError, match="has 7 outputs, but digits"):
        train(config_of(), tmp_path / "run", init_from=tmp_path / "seven.safetensors")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"init_from .*nowhere does not exist"):
        train(config_of(), tmp_path / "run", init_from=tmp_path / "nowhere")


def test_a_failed_overwrite_keeps_the_run(seeded, started):
    before = started.record_path.read_bytes()
    with pytest.raises(UsageError):
        train(config_of(arch="plain"), started.path, init_from=seeded.path, overwrite=True)
    assert started.record_path.read_bytes() == before


def initial_network(run):
    subject = Subject("run", run.read_record().config, "init", run)
    opener = Opener(None, "cpu", silent)
    return opener.network(subject, images=None, batch_size=10, seed=0, settings={})


def test_probes_of_the_initial_weights_measure_those_that_the_run_started_from(seeded, started):
    expected = load_file(seeded.last_weights_path)
    network = initial_network(started)
    for model in (network.model, network.initial()):
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_the_default_directory_differs_from_that_of_the_seed(seeded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = train(config_of(), init_from=seeded.path).run.path
    assert path.name.endswith(f"-init-{file_sha256(seeded.last_weights_path)[:8]}")


def test_runs_with_other_initial_weights_are_not_averaged(seeded, started):
    study = load_study([seeded.path, started.path])
    groups = study.groups()
    assert len(groups) == 2
    assert sum("init=" in group.recipe for group in groups) == 1
    results = [table for table in layout(study_document(study)).tables if table.title.startswith("Results")]
    assert sorted("init=" in table.title for table in results) == [False, True]


def test_a_run_from_before_the_option_is_read_as_started_from_its_seed(seeded):
    document = msgspec.json.decode(seeded.record_path.read_bytes())
    del document["init_from"]
    assert msgspec.convert(document, RunRecord) == seeded.read_record()
    assert seeded.read_record().init_from is None
    assert not seeded.init_weights_path.exists()
