"""Networks are exported for other tools with their normalisation, and compute the same there."""

import json
import re
import sys
import types

import msgspec
import pytest
import torch
from safetensors import safe_open
from weight_files import save_as_akamaster, save_zip, small_network

import resnet_cli
from resnet_cli.data import open_data
from resnet_cli.errors import InputError, ResnetError, RunFileError, UsageError
from resnet_cli.evaluation import EvalOptions, evaluate_saved
from resnet_cli.rundir import InitialWeights
from resnet_cli.util import checksum, extras
from resnet_cli.weights import export as export_module
from resnet_cli.weights import read_weights
from resnet_cli.weights.export import ExportOptions, export
from resnet_cli.weights.model_card import model_card, model_config

OVERWRITE = ExportOptions(overwrite=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs with both normalisations; the plain network shows that its weights are not taken for a residual one's."""
    folder = tmp_path_factory.mktemp("runs")
    fields = {"depth": 8, "limit_train": 100, "limit_test": 300, "epochs": 1, "gradflow_every": 0, "device": "cpu"}
    return {
        name: resnet_cli.train(
            resnet_cli.make_config("demo", arch=arch, normalization=name, **fields), folder / name
        ).run
        for name, arch in (("channel", "resnet"), ("pixel-mean", "plain"))
    }


def recorded(run, num_images):
    """Test images of a run as floats (N, 3, H, W) in [0, 1], and the logits that training recorded for them."""
    pixels = open_data(run.read_record().config).test.pixels[:num_images]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(run.read_predictions().logits[:num_images])


def assert_close(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual), expected, rtol=1e-4, atol=1e-4)


def test_an_onnx_model_gives_the_recorded_logits_for_any_number_of_images(runs, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    exported = export(runs["pixel-mean"].path, "onnx", tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(exported.path)
    for num_images in (1, 7):
        images, logits = recorded(runs["pixel-mean"], num_images)
        assert_close(session.run(None, {"images": images.numpy()})[0], logits)
    assert exported.check.num_images == exported.check.num_same_predictions == 256
    assert 0 <= exported.check.max_difference < 1e-4 * exported.check.largest_logit
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["classes"]) == list("0123456789")
    assert properties["network"] == "plain-8"


@pytest.mark.parametrize("name", ["channel", "pixel-mean"])
def test_a_torch_program_gives_the_recorded_logits_for_any_number_of_images(runs, name, tmp_path):
    exported = export(runs[name].path, "torch-export", tmp_path / "network.pt2")
    properties = {"classes": "", "network": ""}
    program = torch.export.load(exported.path, extra_files=properties).module()
    for num_images in (1, 7):
        images, logits = recorded(runs[name], num_images)
        with torch.no_grad():
            assert_close(program(images), logits)
    assert exported.check.max_difference < 1e-4 * exported.check.largest_logit
    assert json.loads(properties["classes"]) == list("0123456789")


@pytest.mark.parametrize("name", ["channel", "pixel-mean"])
def test_an_exported_weight_file_is_complete_without_its_run(runs, name, tmp_path):
    run = runs[name]
    path = export(run.path, "safetensors", tmp_path / "network.safetensors").path
    model = resnet_cli.load_model(path)
    images, logits = recorded(run, 20)
    with torch.no_grad():
        assert_close(model(images), logits)
    assert model.classes == run.read_record().dataset.classes
    options = EvalOptions(limit_test=300)
    assert evaluate_saved(path, options).metrics.accuracy_pct == run.read_summary().last.test_accuracy_pct


def test_a_weight_file_keeps_the_names_of_the_tensors(runs, tmp_path):
    run = runs["channel"]
    path = export(run.path, "safetensors", tmp_path / "network.safetensors").path
    with safe_open(path, "pt") as ours, safe_open(run.last_weights_path, "pt") as theirs:
        assert list(ours.keys()) == list(theirs.keys())
        assert all(torch.equal(ours.get_tensor(name), theirs.get_tensor(name)) for name in list(ours.keys()))


def test_a_mean_image_is_read_with_bounds(runs, tmp_path):
    path = export(runs["pixel-mean"].path, "safetensors", tmp_path / "network.safetensors").path
    from safetensors.torch import load_file, save_file

    tensors, metadata = load_file(path), safe_open(path, "pt").metadata()
    for wrong in (torch.full((3, 16, 16), 2.0), torch.full((3, 16, 16), torch.nan), torch.zeros(16, 16)):
        metadata.pop("file_sha256", None)
        save_file(tensors | {"mean_image": wrong}, path, metadata | {"schema_version": "1"})
        with pytest.raises(InputError, match=r"mean_image is not an image \(3, H, W\)"):
            read_weights(path)
    save_file(tensors | {"mean_image": torch.zeros(3, 32, 32)}, path, metadata | {"schema_version": "1"})
    with pytest.raises(InputError, match=r"mean image, \(3, 32, 32\), but digits .* has 16×16 pixels"):
        evaluate_saved(path)


def test_the_best_weights_are_exported_on_request(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = export(runs["channel"].path, "safetensors", options=ExportOptions(which="best"))
    assert exported.path.name == "channel-best.safetensors"
    assert exported.which == "best"
    best = read_weights(runs["channel"].best_weights_path).state_dict
    assert all(torch.equal(value, best[name]) for name, value in read_weights(exported.path).state_dict.items())


def test_the_loader_in_a_model_card_restores_the_network(runs, tmp_path, monkeypatch):
    run = runs["channel"]
    folder = export(run.path, "hf", tmp_path / "resnet-8").path
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    loader = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert len([line for line in loader.splitlines() if line]) <= 5
    images, logits = recorded(run, 9)
    names = {}
    monkeypatch.chdir(folder)
    exec(loader, names)  # noqa: S102
    with torch.no_grad():
        assert_close(names["model"](images), logits)


def test_the_loader_in_a_model_card_works_with_a_folder_from_the_hub(runs, tmp_path, monkeypatch):
    folder = export(runs["channel"].path, "hf", tmp_path / "resnet-8").path
    loader = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = lambda repository: str(folder)  # a string, as in the real package
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    names = {"huggingface_hub": hub, "REPOSITORY": "user/resnet-8"}
    from_hub = re.sub(r'= Path\("\."\)  # or (.*)', r"= \1", loader)
    assert from_hub != loader
    exec(from_hub, names)  # noqa: S102
    assert names["model"].classes == tuple("0123456789")


def test_a_card_of_a_run_with_given_initial_weights_repeats_it_from_them(runs):
    initial = InitialWeights(path="/home/me/resnet.th", sha256="5" * 64, copy_sha256="6" * 64)
    record = msgspec.structs.replace(runs["channel"].read_record(), init_from=initial)
    card = model_card(record, runs["channel"].read_summary(), "last")
    assert f"Training started from existing weights, from a file with SHA-256 {'5' * 64}" in card
    assert re.search(r"^    resnet train .* --init-from WEIGHTS$", card, re.MULTILINE)
    assert initial.path not in card
    assert json.loads(model_config(record, "last"))["init_from_sha256"] == "5" * 64


def test_a_card_names_the_validation_set_the_images_of_an_error_and_the_kind_of_shortcuts(runs):
    record, summary = runs["channel"].read_record(), runs["channel"].read_summary()
    projected = msgspec.structs.replace(
        record,
        config=msgspec.structs.replace(record.config, shortcut="B"),
        model=msgspec.structs.replace(record.model, shortcut="B"),
    )
    card = model_card(projected, msgspec.structs.replace(summary, best_chosen_on="val"), "best")
    assert "chosen on the validation set" in card
    assert "with projections instead of its identity shortcuts" in card
    assert f"{summary.best.train_clean_error_pct:.2f} % of 100 images |" in card
    assert "projections" not in model_card(record, summary, "last")


def test_weights_that_are_not_those_of_the_results_get_no_card(runs, tmp_path):
    run = runs["channel"]
    weights = run.last_weights_path.read_bytes()
    replace_tensor(run.last_weights_path, "fc.bias")
    try:
        with pytest.raises(RunFileError, match=r"last.safetensors is not the file that this run wrote"):
            export(run.path, "hf", tmp_path / "folder")
        assert not (tmp_path / "folder").exists()
    finally:
        run.last_weights_path.write_bytes(weights)


def replace_tensor(path, name):
    """Set a tensor in a weight file to zeros and sign the file again."""
    from safetensors.torch import load_file, save

    tensors, metadata = load_file(path), safe_open(path, "pt").metadata()
    tensors[name] = torch.zeros_like(tensors[name])
    path.write_bytes(checksum.with_checksum(save(tensors, metadata)))


def test_a_model_card_reports_results_and_data_and_leaves_the_licence_open(runs, tmp_path):
    run = runs["channel"]
    folder = export(run.path, "hf", tmp_path / "card").path
    card, summary, record = (folder / "README.md").read_text(), run.read_summary(), run.read_record()
    front, body = card.split("---\n")[1:3]
    keys = dict(line.split(": ", 1) for line in front.splitlines() if not line.startswith("#"))
    assert "license" not in keys
    (entry,) = json.loads(keys["model-index"])
    assert entry["results"][0]["metrics"] == [{"type": "accuracy", "value": round(summary.last.test_accuracy_pct, 2)}]
    assert f"{summary.last.test_accuracy_pct:.2f} % of 300 images" in body
    assert record.dataset.fingerprint in body
    assert "resnet train --recipe demo --arch resnet --depth 8" in body
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {str(digit): str(digit) for digit in range(10)}
    assert config["mean"] == list(record.dataset.mean)
    assert config["training"] == json.loads(msgspec.json.encode(record.config))
    assert str(run.path) not in card + json.dumps(config)


def test_a_card_warns_of_weights_that_were_chosen_on_the_test_set(runs, tmp_path):
    folder = export(runs["channel"].path, "hf", tmp_path / "best", ExportOptions(which="best")).path
    assert "its test accuracy is optimistically biased" in (folder / "README.md").read_text()


def test_a_file_of_another_project_becomes_a_program(tmp_path):
    network = small_network()
    path = save_as_akamaster(network.state_dict(), tmp_path / "resnet8.th")
    options = ExportOptions(dataset="digits")
    exported = export(path, "torch-export", tmp_path / "network.pt2", options)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert_close(torch.export.load(exported.path).module()(images), network((images - mean) / std))
    assert exported.network == "resnet-8"
    with pytest.raises(UsageError, match="does not record its configuration, which to safetensors needs"):
        export(path, "safetensors", tmp_path / "network.safetensors")
    with pytest.raises(UsageError, match="to hf needs a run directory"):
        export(path, "hf", tmp_path / "folder")
    with pytest.raises(UsageError, match="which last applies to runs"):
        export(path, "onnx", tmp_path / "x.onnx", ExportOptions(which="last"))


def test_a_state_dict_needs_its_architecture_and_normalisation(tmp_path):
    path = save_zip(small_network("plain").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="add arch plain or arch resnet"):
        export(path, "torch-export", tmp_path / "out.pt2", ExportOptions(dataset="digits"))
    with pytest.raises(UsageError, match="std 0,0,0 does not fit"):
        ExportOptions(mean=(0.5, 0.5, 0.5), std=(0.0, 0.0, 0.0))
    constants = ExportOptions(arch="plain", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    with pytest.raises(UsageError, match="mean does not apply to to safetensors"):
        export(path, "safetensors", tmp_path / "out.safetensors", constants)


def test_existing_files_are_replaced_only_on_request(runs, tmp_path):
    path, out = runs["channel"].path, tmp_path / "network.safetensors"
    out.write_text("notes")
    with pytest.raises(UsageError, match=r"out .* exists; use overwrite"):
        export(path, "safetensors", out)
    assert out.read_text() == "notes"
    export(path, "safetensors", out, OVERWRITE)
    assert resnet_cli.load_model(out)


def test_a_file_in_the_place_of_a_folder_and_the_exported_file_itself_are_never_written_to(runs, tmp_path):
    (tmp_path / "notes").write_text("notes")
    for target in ("safetensors", "hf"):
        with pytest.raises(UsageError, match="notes is not a folder"):
            export(runs["channel"].path, target, tmp_path / "notes" / "resnet-8")
    path = export(runs["channel"].path, "safetensors", tmp_path / "network.safetensors").path
    with pytest.raises(UsageError, match="is the weight file to export"):
        export(path, "torch-export", path, OVERWRITE)
    assert resnet_cli.load_model(path)


def test_an_interrupted_export_of_a_folder_can_be_repeated(runs, tmp_path, monkeypatch):
    run, out = runs["channel"], tmp_path / "folder"
    out.mkdir()
    leftover = out / ".config.json.abc.resnet-tmp"  # a kill during the first write
    leftover.write_bytes(b"{")
    write_atomic, written = export_module.write_atomic, []

    def stop_at_the_second(path, data):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write_atomic(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(export_module, "write_atomic", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            export(run.path, "hf", out)
    assert not leftover.exists()
    assert resnet_cli.load_model(export(run.path, "hf", out, OVERWRITE).path / "model.safetensors")


def test_an_exported_folder_is_replaced_on_request_and_other_folders_never(runs, tmp_path):
    path, out = runs["channel"].path, tmp_path / "folder"
    export(path, "hf", out)
    (out / "README.md").write_text("my card")
    with pytest.raises(UsageError, match="exists; use overwrite"):
        export(path, "hf", out)
    assert (out / "README.md").read_text() == "my card"
    export(path, "hf", out, OVERWRITE)
    assert (out / "README.md").read_text() != "my card"
    (out / "config.json").write_text('{"format": "other"}')
    with pytest.raises(UsageError, match="contains files that were not exported by this tool"):
        export(path, "hf", out, OVERWRITE)
    with pytest.raises(UsageError, match="is a folder; to safetensors writes a file"):
        export(path, "safetensors", out, OVERWRITE)


def test_an_incomplete_run_has_no_model_card(runs, tmp_path):
    run = runs["channel"]
    summary = run.summary_path.read_bytes()
    run.summary_path.unlink()
    try:
        with pytest.raises(UsageError, match=r"is not complete \(incomplete\), so it has no results"):
            export(run.path, "hf", tmp_path / "folder")
        assert export(run.path, "safetensors", tmp_path / "weights.safetensors")
    finally:
        run.summary_path.write_bytes(summary)


@pytest.mark.parametrize("error", [1.0, float("nan")])
def test_a_program_that_computes_something_else_is_not_written(runs, tmp_path, monkeypatch, error):
    correct = export_module.torch_program

    def wrong(*arguments):
        program = correct(*arguments)
        return program._replace(run=lambda images: program.run(images) + error)

    monkeypatch.setattr(export_module, "torch_program", wrong)
    out = tmp_path / "network.pt2"
    with pytest.raises(ResnetError, match=r"the exported network differs from .*; nothing was written") as caught:
        export(runs["channel"].path, "torch-export", out)
    assert caught.value.exit_code == 1
    assert not out.exists()


def test_a_missing_extra_is_reported_with_the_command_that_installs_it(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs onnx and onnxscript and .* pip install onnx onnxscript onnxruntime"):
        export(runs["channel"].path, "onnx", tmp_path / "network.onnx")


def test_data_other_than_those_of_the_run_or_its_weight_file_are_refused(runs, tmp_path):
    run, options = runs["channel"], ExportOptions(dataset="cifar10")
    for path in (run.path, run.last_weights_path):
        with pytest.raises(UsageError, match="dataset cifar10 contradicts"):
            export(path, "torch-export", tmp_path / "x.pt2", options)
    with pytest.raises(UsageError, match="dataset does not apply to to safetensors"):
        export(run.path, "safetensors", tmp_path / "x.safetensors", options)


def test_the_recorded_normalisation_and_architecture_cannot_be_replaced(runs, tmp_path):
    path, half = runs["channel"].path, (0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match=r"mean and std do not apply to .* records its normalisation"):
        export(path, "torch-export", tmp_path / "x.pt2", ExportOptions(mean=half, std=half))
    for target in ("safetensors", "hf", "torch-export"):
        with pytest.raises(UsageError, match="arch plain contradicts"):
            export(path, target, tmp_path / "x", ExportOptions(arch="plain"))
    assert not list(tmp_path.iterdir())


def test_the_mean_image_is_computed_from_the_data_that_are_named(runs, tmp_path, monkeypatch):
    folders, load = [], export_module.load_model
    monkeypatch.setattr(
        export_module, "load_model", lambda *a, data_dir, **b: folders.append(data_dir) or load(*a, **b)
    )
    options = ExportOptions(data_dir=tmp_path / "moved")
    export(runs["pixel-mean"].path, "safetensors", tmp_path / "x.safetensors", options)
    assert folders == [tmp_path / "moved"]
