"""Weight files of this tool and of other projects load as the same network, and options must agree with them."""

import pytest
import torch
from safetensors.torch import save
from weight_files import (
    rejection,
    renamed,
    save_as_akamaster,
    save_as_ours,
    save_legacy,
    save_zip,
    small_network,
    without_counters,
)

from resnet_cli.errors import UsageError
from resnet_cli.recipes import make_config
from resnet_cli.weights import read_weights


def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def assert_same_network(file, architecture, model):
    with torch.no_grad():
        assert torch.equal(file.build(architecture)(images()), model(images()))


@pytest.mark.parametrize(("arch", "shortcut"), [("plain", "none"), ("resnet", "A"), ("resnet", "B")])
def test_a_weight_file_of_this_tool_determines_its_network(path, arch, shortcut):
    model = small_network(arch, 14, shortcut)
    config = make_config("demo", arch=arch, depth=14, shortcut=shortcut)
    file = read_weights(save_as_ours(path, model, config))
    assert (file.format, file.config) == ("resnet-cli", config)
    assert file.normalization == ((0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
    architecture = file.resolve()
    assert architecture == (arch, 14, shortcut, 10)
    assert architecture.name == config.network
    assert_same_network(file, architecture, model)


def test_an_akamaster_file_loads_as_the_same_residual_network_with_its_normalisation(path):
    model = small_network(depth=20)
    file = read_weights(save_as_akamaster(model.state_dict(), path))
    assert file.format == "akamaster"
    assert file.normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert file.resolve(arch="resnet", depth=20, shortcut="A") == file.resolve() == ("resnet", 20, "A", 10)
    assert_same_network(file, file.resolve(), model)


@pytest.mark.parametrize("save", [save_legacy, save_zip])
def test_a_file_saved_on_a_gpu_loads_on_a_machine_without_one(path, monkeypatch, save):
    model = small_network()
    monkeypatch.setattr("torch.serialization.location_tag", lambda _: "cuda:0")
    file = read_weights(save(model.state_dict(), path))
    assert_same_network(file, file.resolve(arch="resnet"), model)


@pytest.mark.parametrize("options", [{"arch": "plain"}, {"shortcut": "none"}])
def test_an_akamaster_file_of_a_plain_network_loads_when_the_architecture_is_given(path, options):
    model = small_network("plain")
    file = read_weights(save_as_akamaster(model.state_dict(), path))
    assert_same_network(file, file.resolve(**options), model)


@pytest.mark.parametrize(("num_classes", "blue_std"), [(10, 0.2010), (100, 0.2761)])
def test_a_chenyaofo_file_loads_as_the_same_option_b_network_with_its_normalisation(path, num_classes, blue_std):
    model = small_network(shortcut="B", num_classes=num_classes)
    file = read_weights(save_zip(model.state_dict(), path))
    assert file.format == "chenyaofo"
    assert file.normalization[1][2] == blue_std
    assert file.resolve() == ("resnet", 8, "B", num_classes)
    assert_same_network(file, file.resolve(), model)


@pytest.mark.parametrize("save", [save_legacy, save_zip])
@pytest.mark.parametrize(
    ("container", "prefix"),
    [
        ("state_dict", "module."),
        ("model", "_orig_mod."),
        ("net", "module._orig_mod."),
        ("model_state_dict", "_orig_mod.module.module."),
    ],
)
def test_a_state_dict_loads_from_checkpoints_of_any_container_and_prefix(path, save, container, prefix):
    model = small_network()
    state = renamed(model.state_dict(), prefix=prefix)
    file = read_weights(save({container: state, "epoch": 3, "optimizer": {"lr": 0.1}, "best": torch.ones(2)}, path))
    assert (file.format, file.normalization) == ("state-dict", None)
    assert_same_network(file, file.resolve(arch="resnet"), model)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"model": {"state_dict": state}},
        lambda state: renamed(state, (".conv1", "._orig_mod.conv1")),  # blocks compiled one by one
        lambda state: renamed(state, (".downsample.", ".shortcut."), ("fc.", "linear.")),
    ],
)
def test_nested_containers_compiled_blocks_and_other_layer_names_are_supported(path, change):
    model = small_network(shortcut="B")
    file = read_weights(save_zip(change(model.state_dict()), path))
    assert file.format == "state-dict"
    assert_same_network(file, file.resolve(), model)


def test_the_format_depends_on_the_content_not_on_the_name_of_the_file(tmp_path):
    model = small_network()
    ours = save_as_ours(tmp_path / "a.pth", model, make_config("demo", arch="resnet", depth=8))
    foreign, pickled = tmp_path / "b.pth", save_zip(model.state_dict(), tmp_path / "c.safetensors")
    foreign.write_bytes(save(model.state_dict(), metadata={"format": "pt"}))
    assert read_weights(ours).format == "resnet-cli"
    for other in (foreign, pickled):
        file = read_weights(other)
        assert file.format == "state-dict"
        assert_same_network(file, file.resolve(arch="resnet"), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(path, dtype):
    model = small_network().to(dtype)
    state = read_weights(save_zip(model.state_dict(), path)).state_dict
    assert {value.dtype for value in without_counters(state).values()} == {torch.float32}
    assert torch.equal(state["fc.weight"], model.fc.weight.float())
    assert state["bn1.num_batches_tracked"].dtype == torch.int64


def test_loaded_tensors_share_no_memory_and_missing_counters_are_zero(path):
    saved = without_counters(small_network().state_dict())
    saved["layer1.0.bn1.weight"] = saved["bn1.weight"]
    state = read_weights(save_zip(saved, path)).state_dict
    state["bn1.weight"].zero_()
    state["bn1.num_batches_tracked"] += 7
    assert state["layer1.0.bn1.weight"].any()
    assert state["layer1.0.bn1.num_batches_tracked"] == 0


def test_a_loaded_network_can_be_trained_further(path):
    file = read_weights(save_zip(small_network(shortcut="B").state_dict(), path))
    model = file.build(file.resolve()).train()
    model(images()).sum().backward()
    assert model.conv1.weight.grad is not None


def test_plain_and_option_a_files_without_metadata_need_the_architecture(path):
    file = read_weights(save_zip(small_network().state_dict(), path))
    with pytest.raises(UsageError, match="arch plain or arch resnet"):
        file.resolve()
    assert file.resolve(arch="plain", shortcut="none") == file.resolve(shortcut="none") == ("plain", 8, "none", 10)
    assert file.resolve(shortcut="A") == ("resnet", 8, "A", 10)


@pytest.mark.parametrize(
    ("shortcut", "options", "words"),
    [
        (None, {"depth": 20}, ("--depth 20", "8 layers")),
        (None, {"arch": "resnet", "shortcut": "B"}, ("--arch resnet --shortcut B", "residual (shortcut A) or plain")),
        (None, {"arch": "plain", "shortcut": "A"}, ("--arch plain --shortcut A",)),
        (None, {"arch": "resnet", "shortcut": "none"}, ("--arch resnet --shortcut none",)),
        ("B", {"arch": "plain"}, ("--arch plain", "a residual (shortcut B) network of 8 layers")),
        ("B", {"shortcut": "A"}, ("--shortcut A", "shortcut B")),
        ("B", {"shortcut": "none"}, ("--shortcut none", "shortcut B")),
        ("none", {"arch": "resnet"}, ("--arch resnet", "a plain network")),
        ("none", {"shortcut": "A"}, ("--shortcut A", "a plain network")),
    ],
)
def test_the_error_for_an_option_that_contradicts_the_weight_file_names_both(path, shortcut, options, words):
    network = {"arch": "plain" if shortcut == "none" else "resnet", "depth": 8, "shortcut": shortcut}
    if shortcut is None:  # without metadata
        save_zip(small_network().state_dict(), path)
    else:
        save_as_ours(path, small_network(**network), make_config("demo", **network))
    with pytest.raises(UsageError) as caught:
        read_weights(path).resolve(**options)
    assert all(word in caught.value.as_options() for word in words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": None}, "lacks config"),
        ({"config": "{}"}, "cannot be read"),
        ({"config": "{"}, "cannot be read"),
        ({"schema_version": "99"}, "upgrade"),
        ({"schema_version": "one"}, "cannot be read"),
        ({"mean": "[1]"}, "cannot be read"),
        ({"std": "[0.1, 0, 0.1]"}, "not positive"),
    ],
)
def test_damaged_metadata_in_a_weight_file_of_this_tool_is_rejected(path, changes, words):
    config = make_config("demo", arch="resnet", depth=8)
    assert words in rejection(save_as_ours(path, small_network(), config, **changes))


def test_a_weight_file_with_metadata_of_another_network_is_rejected(path):
    assert "resnet-14" in rejection(save_as_ours(path, small_network(), make_config("demo", arch="resnet", depth=14)))


def test_a_network_trained_on_pixel_mean_images_has_no_channel_normalisation(path):
    config = make_config("demo", arch="resnet", depth=8, normalization="pixel-mean")
    assert read_weights(save_as_ours(path, small_network(), config)).normalization is None


def test_a_checkpoint_for_resuming_is_rejected_with_the_path_of_the_weights(path):
    tensors = {f"model.{name}": value for name, value in small_network().state_dict().items()}
    path.write_bytes(save(tensors, metadata={"format": "resnet-cli checkpoint", "state": "{}"}))
    assert "weights/last.safetensors" in rejection(path)
