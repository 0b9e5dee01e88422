"""Runs become event files that TensorBoard's own reader understands."""

import io
import itertools
import json
import subprocess
import sys

import pytest
from PIL import Image

from resnet_cli.analysis import tensorboard
from resnet_cli.analysis.tensorboard import SCALARS, event_path, export_runs
from resnet_cli.errors import InputError, RunFileError, UsageError
from resnet_cli.rundir import RunDir

pytest.importorskip("tensorboard", reason="needs the extra tensorboard")


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("runs") / "plain-20", arch="plain", epochs=4, gradflow=True, val_size=5000, seed=7
    )


@pytest.fixture(scope="module")
def events(run, tmp_path_factory):
    """The exported run, as TensorBoard reads it."""
    out = tmp_path_factory.mktemp("events")
    export_runs([run], out)
    return read_events(out / "plain-20")


@pytest.fixture
def without_figures(monkeypatch):
    """Drawing takes most of the time of an export."""
    monkeypatch.setattr(tensorboard, "_figures", lambda run: {})


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def scalars(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.parametrize("column", SCALARS)
def test_a_column_of_metrics_becomes_a_scalar_at_every_epoch(events, run, column):
    rows = run.read_epochs()
    expected = [(row.epoch, pytest.approx(getattr(row, column), rel=1e-6)) for row in rows]
    assert scalars(events, SCALARS[column]) == expected


def test_the_gradient_flow_has_a_scalar_per_layer_in_forward_order(events, run):
    frame = run.read_gradflow()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("scale_free_grad_norm/")]
    layers = frame[frame["epoch"] == 0].sort_values("layer_index")["layer"]
    assert [tag.split("_", 4)[-1] for tag in sorted(tags)] == layers.tolist()
    first = frame[frame["layer"] == "layer1.0.conv1"]
    expected = list(zip(first["epoch"], first["scale_free_grad_norm"].map(pytest.approx), strict=True))
    assert scalars(events, "scale_free_grad_norm/0002_layer1.0.conv1") == expected
    assert [step for step, _ in scalars(events, "update_to_weight_ratio/0001_conv1")] == [1, 2, 3, 4]


def test_the_figures_of_the_run_are_images(events):
    tags = events.Tags()["images"]
    assert {"figures/curves", "figures/gradients-20"} <= set(tags)
    for tag in tags:
        (image,) = events.Images(tag)
        assert image.step == 4
        assert Image.open(io.BytesIO(image.encoded_image_string)).size == (image.width, image.height)


def test_the_configuration_becomes_hyperparameters_with_the_errors_next_to_them(events, run):
    from tensorboard.plugins.hparams import metadata

    contents = events.summary_metadata
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG].plugin_data.content)
    config = run.read_record().config
    assert start.hparams["seed"].number_value == 7
    assert start.hparams["lr"].number_value == config.lr
    assert start.hparams["arch"].string_value == "plain"
    assert start.hparams["milestones"].string_value == ",".join(map(str, config.milestones))
    assert start.hparams["deterministic"].HasField("bool_value")
    assert "steps" not in start.hparams  # not set
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG].plugin_data.content)
    assert {info.name for info in experiment.hparam_infos} == set(start.hparams)
    assert {info.name.tag for info in experiment.metric_infos} <= set(events.Tags()["scalars"])
    end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG].plugin_data.content)
    assert end.status == 1  # success


def test_times_count_the_epochs_from_the_start_of_the_run(events):
    times = [event.wall_time for event in events.Scalars("loss/train")]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [33.0, 33.0, 33.0]


def test_exporting_again_replaces_the_file_with_equal_bytes(run, tmp_path):
    (path,) = export_runs([run], tmp_path)
    before = path.read_bytes()
    assert export_runs([run], tmp_path) == {path: run}
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("without_figures")
def test_events_of_anything_else_are_not_mixed_in(run, make_run, tmp_path):
    folder = tmp_path / "plain-20"
    folder.mkdir()
    (folder / "events.out.tfevents.1.host").write_bytes(b"")
    namesake = make_run(tmp_path / "other" / "plain-20")
    paths = [path for one in (run, namesake, run) for path in export_runs([one], tmp_path)]
    assert [path.parent.name[:9] for path in paths] == ["plain-20-"] * 3
    assert paths[0] == paths[2] != paths[1]
    assert [file.name for file in folder.iterdir()] == ["events.out.tfevents.1.host"]


@pytest.mark.usefixtures("without_figures")
def test_a_part_that_a_killed_export_left_is_removed(run, tmp_path):
    path = event_path(run, tmp_path / "plain-20")
    path.parent.mkdir()
    (path.parent / f".{path.name}.abc.resnet-tmp").write_bytes(b"part")  # TensorBoard would read it too
    assert list(export_runs([run], tmp_path)) == [path]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("is_running", [True, False])
def test_an_export_replaces_events_of_training_unless_it_is_still_going_on(make_run, tmp_path, is_running):
    run = make_run(tmp_path / "run", status="incomplete")
    live = event_path(run, tmp_path / "out" / "run", time_ns=1)
    live.parent.mkdir(parents=True)
    live.write_bytes(b"")
    lock = run.lock()
    if not is_running:
        lock.release()
    (exported,) = export_runs([RunDir(run.path)], tmp_path / "out")
    lock.release()
    assert sorted(live.parent.iterdir()) == ([exported, live] if is_running else [exported])


def test_a_file_in_the_place_of_the_folder_is_refused(run, tmp_path):
    (tmp_path / "notes").write_text("notes")
    for out in (tmp_path / "notes", tmp_path / "notes" / "events"):
        with pytest.raises(UsageError, match="notes is not a folder; choose another out"):
            export_runs([run], out)


@pytest.mark.usefixtures("without_figures")
def test_runs_of_one_name_go_to_folders_of_their_own(make_run, tmp_path):
    runs = [make_run(tmp_path / study / "resnet-20") for study in ("first", "second")]
    paths = export_runs(runs, tmp_path / "out")
    assert [path.parent for path in paths] == [tmp_path / "out" / study / "resnet-20" for study in ("first", "second")]


@pytest.mark.usefixtures("without_figures")
def test_of_several_runs_those_that_cannot_be_read_are_skipped_with_a_warning(run, make_run, tmp_path):
    damaged, timeless = (make_run(tmp_path / name) for name in ("damaged", "timeless"))
    damaged.metrics_path.write_text("not a table\n")
    timeless.record_path.write_text(timeless.record_path.read_text().replace("2026-01-02T03:04:05Z", "yesterday"))
    messages = []
    written = export_runs([damaged, run, timeless], tmp_path / "out", warn=messages.append)
    assert list(written.values()) == [run]
    assert [str(one.path) in message for one, message in zip((damaged, timeless), messages, strict=True)] == [
        True,
        True,
    ]
    with pytest.raises(RunFileError, match="created_at is not a time: 'yesterday'"):
        export_runs([timeless], tmp_path / "out")
    with pytest.raises(InputError, match="none of the 2 runs can be read"):
        export_runs([damaged, timeless], tmp_path / "out", warn=messages.append)


@pytest.mark.parametrize("status", ["incomplete", "diverged"])
def test_unfinished_runs_are_exported_up_to_their_last_epoch(make_run, tmp_path, status):
    run = make_run(tmp_path / "run", epochs=4, status=status)
    export_runs([run], tmp_path / "out")
    events = read_events(tmp_path / "out" / "run")
    assert [step for step, _ in scalars(events, "loss/train")] == [1, 2]
    assert "figures/curves" in events.Tags()["images"]


def test_a_run_without_an_epoch_is_exported(make_run, tmp_path):
    run = make_run(tmp_path / "run", status="incomplete")
    run.metrics_path.write_text(run.metrics_path.read_text().splitlines(keepends=True)[0])
    export_runs([run], tmp_path / "out")
    assert read_events(tmp_path / "out" / "run").Tags()["scalars"] == []


def test_the_command_reads_run_directories_without_torch(run, tmp_path):
    program = (
        "import sys; from resnet_cli.cli.app import run; code = run(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; raise SystemExit(code)"
    )
    arguments = ["export", str(run.path.parent), "--to", "tensorboard", "--out", str(tmp_path), "--json"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["subjects"] == [str(run.path)]
    assert document["files"] == [str(event_path(run, tmp_path / "plain-20"))]
    assert RunDir(run.path).status() == "complete"
