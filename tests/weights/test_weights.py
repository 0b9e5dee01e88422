"""Weight files: what is recognised gives the same network, what is not is refused in one line, nothing is run."""

import contextlib
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors

from resnet_cli.errors import InputError, UsageError
from resnet_cli.model import build_model
from resnet_cli.recipes import make_config
from resnet_cli.weights import loading as content_module
from resnet_cli.weights import read_weights


def trained(arch="resnet", depth=8, shortcut=None, num_classes=10):
    """A small network whose statistics are not the initial ones, in eval mode."""
    model = build_model(arch, depth, shortcut, num_classes, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if not name.endswith("num_batches_tracked"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def without_counters(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def renamed(state, *pairs, prefix=""):
    result = OrderedDict()
    for name, value in state.items():
        theirs = name
        for ours, new in pairs:
            theirs = theirs.replace(ours, new)
        result[prefix + theirs] = value
    return result


def legacy(value, path: Path) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def zipped(value, path: Path) -> Path:
    torch.save(value, path)
    return path


def own_metadata(config, /, **changes):
    fields = {
        "format": "resnet-cli",
        "schema_version": "1",
        "config": msgspec.json.encode(config).decode(),
        "network": config.network,
        "num_classes": "10",
        "mean": "[0.3,0.3,0.3]",
        "std": "[0.4,0.4,0.4]",
        "dataset": "digits (16×16)",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def own(path: Path, model, config, /, **changes) -> Path:
    path.write_bytes(save_safetensors(model.state_dict(), metadata=own_metadata(config, **changes)))
    return path


def akamaster(path: Path, model) -> Path:
    state = renamed(without_counters(model.state_dict()), ("fc.", "linear."), prefix="module.")
    return legacy({"state_dict": state, "best_prec1": 91.73}, path)


def assert_same_network(file, network, model):
    with torch.no_grad():
        assert torch.equal(file.build(network)(images()), model(images()))


def refusal(path: Path) -> str:
    """The one line that `read_weights` refuses `path` with."""
    with pytest.raises(InputError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 600
    return message


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are computed faster by one thread, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.bin"


@pytest.mark.parametrize(("arch", "shortcut"), [("plain", "none"), ("resnet", "A"), ("resnet", "B")])
def test_our_own_file_says_by_itself_which_network_it_is(path, arch, shortcut):
    model = trained(arch, 14, shortcut)
    config = make_config("demo", arch=arch, depth=14, shortcut=shortcut)
    file = read_weights(own(path, model, config))
    assert file.format == "resnet-cli"
    assert file.config == config
    assert file.normalization == ((0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
    network = file.resolve()
    assert network == (arch, 14, shortcut, 10)
    assert network.name == config.network
    assert_same_network(file, network, model)


def test_an_akamaster_file_loads_as_the_same_residual_network_with_its_normalisation(path):
    model = trained(depth=20)
    file = read_weights(akamaster(path, model))
    assert file.format == "akamaster"
    assert file.normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert file.resolve(arch="resnet", depth=20, shortcut="A") == file.resolve() == ("resnet", 20, "A", 10)
    assert_same_network(file, file.resolve(), model)


def test_a_plain_network_trained_with_akamasters_code_loads_when_the_user_says_so(path):
    model = trained("plain")
    file = read_weights(akamaster(path, model))
    assert_same_network(file, file.resolve(arch="plain"), model)
    assert file.resolve(shortcut="none").arch == "plain"


@pytest.mark.parametrize(("num_classes", "blue_std"), [(10, 0.2010), (100, 0.2761)])
def test_a_chenyaofo_file_loads_as_the_same_option_b_network_with_its_normalisation(path, num_classes, blue_std):
    model = trained(shortcut="B", num_classes=num_classes)
    file = read_weights(zipped(model.state_dict(), path))
    assert file.format == "chenyaofo"
    assert file.normalization is not None
    assert file.normalization[1][2] == blue_std
    assert file.resolve() == ("resnet", 8, "B", num_classes)
    assert_same_network(file, file.resolve(), model)


@pytest.mark.parametrize("save", [legacy, zipped])
@pytest.mark.parametrize("container", ["state_dict", "model", "net", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
def test_containers_and_prefixes_change_nothing(path, save, container, prefix):
    model = trained()
    state = renamed(model.state_dict(), prefix=prefix)
    file = read_weights(save({container: state, "epoch": 3, "optimizer": {"lr": 0.1}, "best": torch.ones(2)}, path))
    assert file.format == "state-dict"
    assert file.normalization is None
    assert_same_network(file, file.resolve(arch="resnet"), model)


def test_containers_within_containers_are_opened(path):
    model = trained()
    file = read_weights(zipped({"model": {"state_dict": model.state_dict()}}, path))
    assert_same_network(file, file.resolve(arch="resnet"), model)


def test_blocks_that_were_compiled_one_by_one_are_understood(path):
    model = trained()
    file = read_weights(zipped(renamed(model.state_dict(), (".conv1", "._orig_mod.conv1")), path))
    assert_same_network(file, file.resolve(arch="resnet"), model)


def test_projections_named_shortcut_and_a_layer_named_linear_are_understood(path):
    model = trained(shortcut="B")
    state = renamed(model.state_dict(), (".downsample.", ".shortcut."), ("fc.", "linear."))
    file = read_weights(zipped(state, path))
    assert file.format == "state-dict"
    assert_same_network(file, file.resolve(), model)


def test_a_foreign_safetensors_file_is_a_state_dict_like_any_other(path):
    model = trained("plain")
    path.write_bytes(save_safetensors(model.state_dict(), metadata={"format": "pt"}))
    file = read_weights(path)
    assert (file.format, file.arch, file.metadata) == ("state-dict", None, {"format": "pt"})
    assert_same_network(file, file.resolve(arch="plain"), model)


def test_the_kind_of_file_is_told_by_its_content_not_by_its_name(tmp_path):
    model = trained()
    first = own(tmp_path / "a.pth", model, make_config("demo", arch="resnet", depth=8))
    second = zipped(model.state_dict(), tmp_path / "b.safetensors")
    assert read_weights(first).format == "resnet-cli"
    assert read_weights(second).format == "state-dict"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(path, dtype):
    model = trained().to(dtype)
    file = read_weights(zipped(model.state_dict(), path))
    assert {t.dtype for n, t in file.state_dict.items() if "num_batches" not in n} == {torch.float32}
    assert torch.equal(file.state_dict["fc.weight"], model.fc.weight.float())
    assert file.state_dict["bn1.num_batches_tracked"].dtype == torch.int64


def test_missing_counters_are_zeros_that_no_two_layers_share(path):
    state = read_weights(zipped(without_counters(trained().state_dict()), path)).state_dict
    state["bn1.num_batches_tracked"] += 7
    assert state["layer1.0.bn1.num_batches_tracked"] == 0


def test_tensors_that_share_memory_in_the_file_do_not_share_it_afterwards(path):
    state = trained().state_dict()
    state["layer1.0.bn1.weight"] = state["bn1.weight"]
    file = read_weights(zipped(state, path))
    file.state_dict["bn1.weight"].zero_()
    assert file.state_dict["layer1.0.bn1.weight"].any()


def test_a_loaded_network_can_be_trained_further(path):
    file = read_weights(zipped(trained(shortcut="B").state_dict(), path))
    model = file.build(file.resolve()).train()
    model(images()).sum().backward()
    assert model.conv1.weight.grad is not None


def test_plain_and_option_a_files_without_metadata_need_the_architecture(path):
    file = read_weights(zipped(trained().state_dict(), path))
    assert (file.arch, file.shortcut) == (None, None)
    with pytest.raises(UsageError, match="--arch plain or --arch resnet"):
        file.resolve()
    assert file.resolve(shortcut="none") == ("plain", 8, "none", 10)
    assert file.resolve(shortcut="A") == ("resnet", 8, "A", 10)
    assert file.resolve(arch="plain", shortcut="none").arch == "plain"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"depth": 20}, ("--depth 20", "8 layers")),
        ({"arch": "resnet", "shortcut": "B"}, ("--shortcut B", "plain or option-A")),
        ({"arch": "plain", "shortcut": "A"}, ("--shortcut A", "--arch plain")),
        ({"arch": "resnet", "shortcut": "none"}, ("--shortcut none", "--arch resnet")),
    ],
)
def test_what_contradicts_an_open_file_is_refused_naming_both(path, given, words):
    file = read_weights(zipped(trained().state_dict(), path))
    with pytest.raises(UsageError) as caught:
        file.resolve(**given)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("shortcut", "given", "words"),
    [
        ("B", {"arch": "plain"}, ("--arch plain", "residual", "shortcut B")),
        ("B", {"shortcut": "A"}, ("--shortcut A", "shortcut B")),
        ("B", {"shortcut": "none"}, ("--shortcut none", "shortcut B")),
        ("none", {"arch": "resnet"}, ("--arch resnet", "a plain network")),
        ("none", {"shortcut": "A"}, ("--shortcut A", "a plain network")),
    ],
)
def test_what_contradicts_metadata_or_projections_is_refused_naming_both(path, shortcut, given, words):
    arch = "plain" if shortcut == "none" else "resnet"
    config = make_config("demo", arch=arch, depth=8, shortcut=shortcut)
    file = read_weights(own(path, trained(arch, 8, shortcut), config))
    with pytest.raises(UsageError) as caught:
        file.resolve(**given)
    assert all(word in str(caught.value) for word in (*words, str(path)))


def test_metadata_that_contradict_the_tensors_are_refused(path):
    message = refusal(own(path, trained(), make_config("demo", arch="resnet", depth=14)))
    assert "resnet-14" in message


@pytest.mark.parametrize(
    ("changes", "word"),
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
def test_damaged_metadata_of_ours_are_refused(path, changes, word):
    assert word in refusal(own(path, trained(), make_config("demo", arch="resnet", depth=8), **changes))


def test_a_network_trained_on_pixel_mean_images_has_no_channel_normalisation(path):
    config = make_config("demo", arch="resnet", depth=8, normalization="pixel-mean")
    assert read_weights(own(path, trained(), config)).normalization is None


def test_a_resume_checkpoint_is_refused_with_the_way_to_the_weights(path):
    tensors = {f"model.{name}": value for name, value in trained().state_dict().items()}
    path.write_bytes(save_safetensors(tensors, metadata={"format": "resnet-cli checkpoint", "state": "{}"}))
    assert "weights/last.safetensors" in refusal(path)


def stages(*counts, extra=()):
    names = ["conv1.weight", *(f"layer{s}.{i}.conv1.weight" for s, n in enumerate(counts, 1) for i in range(n)), *extra]
    return {name: torch.zeros(1) for name in [*names, "fc.weight"]}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (stages(2, 2, 2, 2), ("layer4.0.conv1.weight", "ImageNet")),
        (stages(3, 4, 6, extra=["layer1.0.conv3.weight"]), ("layer1.0.conv3.weight", "bottleneck")),
        ({"features.0.weight": torch.zeros(1)}, ("features.0.weight", "VGG")),
        (stages(3, 4, 6), ("3, 4 and 6 blocks", "6n+2")),
        (stages(201, 201, 201), ("201", "6n+2")),
        (stages(1, 1, 1), ("no matrix fc.weight",)),
        ({"fc.weight": torch.zeros(10, 64)}, ("found fc.weight",)),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, ("found a, b, c and 2 more",)),
        ({"x" * 10_000: 1}, ("xxx…",)),
        ({0: torch.zeros(1)}, ("found 0",)),
        ({}, ("found nothing",)),
    ],
)
def test_other_networks_are_refused_with_what_was_found_and_what_was_expected(path, state, words):
    message = refusal(zipped(state, path))
    assert all(word in message for word in words)
    assert "expected a CIFAR network" in message


def damaged(change):
    state = trained(shortcut="B").state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer2.0.bn1.weight"), ("lacks layer2.0.bn1.weight", "8-layer network with projections")),
        (lambda s: s.pop("layer3.0.downsample.1.bias"), ("lacks layer3.0.downsample.1.bias",)),
        (lambda s: [s.pop(n) for n in list(s) if "running" in n], ("lacks bn1.running_mean", "more of a")),
        (lambda s: s.update(total_ops=torch.zeros(1)), ("holds total_ops",)),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}), ("conv1.weight is 64×3×3×3", "16×3×3×3")),
        (lambda s: s.update({"fc.bias": torch.zeros(3)}), ("fc.bias is 3", "expected 10")),
        (lambda s: s.update({"bn1.bias": torch.tensor(1.0)}), ("bn1.bias is a scalar",)),
        (lambda s: s.update({"bn1.bias": torch.full((16,), torch.nan)}), ("bn1.bias", "not finite")),
        (lambda s: s.update({"bn1.bias": torch.full((16,), 1e300, dtype=torch.float64)}), ("bn1.bias", "not finite")),
        (lambda s: s.update({"bn1.bias": torch.zeros(16, dtype=torch.int8)}), ("bn1.bias", "int8")),
        (lambda s: s.update({"bn1.running_var": -torch.ones(16)}), ("bn1.running_var", "negative variance")),
        (lambda s: s.update({"bn1.bias": "text"}), ("bn1.bias is a str",)),
        (lambda s: s.update({"bn1.bias": torch.zeros(1).expand(16)}), ("bn1.bias", "dense")),
        (lambda s: s.update({"bn1.bias": torch.zeros(16).to_sparse()}), ("bn1.bias", "dense")),
        (lambda s: s.update({"bn1.bias": torch.zeros(16, device="meta")}), ("bn1.bias", "dense")),
        (lambda s: s.update({"linear.bias": torch.zeros(10)}), ("fc.bias twice",)),
        (lambda s: s.update({"module.fc.bias": torch.zeros(10)}), ("fc.bias twice",)),
        (lambda s: s.update({"layer2.0.shortcut.0.weight": torch.zeros(1)}), ("layer2.0.downsample.0.weight twice",)),
    ],
)
def test_a_damaged_state_dict_is_refused_naming_the_tensor(path, change, words):
    message = refusal(zipped(damaged(change), path))
    assert all(word in message for word in words)


def test_a_view_that_claims_more_numbers_than_the_file_holds_takes_no_memory(path):
    state = trained().state_dict()
    state["fc.weight"] = torch.zeros(1, 1).expand(2**40, 64)
    state["fc.bias"] = torch.zeros(1).expand(2**40)
    assert "fc.weight is not an ordinary dense tensor" in refusal(zipped(state, path))


def test_several_state_dicts_in_one_file_are_refused(path):
    state = trained().state_dict()
    assert "state_dict, model" in refusal(zipped({"model": state, "state_dict": state}, path))


@pytest.mark.parametrize(("value", "kind"), [([1, 2], "list"), (torch.zeros(3), "Tensor"), ("text", "str")])
def test_what_is_no_state_dict_is_refused_naming_its_kind(path, value, kind):
    assert f"holds a {kind}" in refusal(zipped(value, path))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is empty"),
        (b"hello, this is a text file\n", "it begins with b'hello, this "),
        (b"\x00", "neither"),
        (b"PK\x03\x04 and then nothing", "damaged"),
        (b"\x80\x02}q\x00.", "damaged"),
        (struct.pack("<Q", 50) + b'{"a":', "damaged"),
        (struct.pack("<Q", 2) + b"[]", "neither"),
    ],
)
def test_what_is_no_weight_file_is_refused(path, data, word):
    path.write_bytes(data)
    assert word in refusal(path)


def test_a_path_that_holds_no_regular_file_is_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "missing.pt")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_an_unreadable_file_is_refused_with_the_systems_reason(path, monkeypatch):
    path.write_bytes(b"x")

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "Permission denied" in refusal(path)


def test_a_file_too_large_for_any_of_our_networks_is_not_read(path, monkeypatch):
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(content_module, "_MAX_BYTES", 99)
    assert "more than any network" in refusal(path)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    assert "compressed archive" in refusal(path)


def test_a_whole_pickled_model_is_refused_with_the_way_to_save_it(path):
    message = refusal(zipped(torch.nn.Linear(1, 1), path))
    assert "torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), FILE)" in message


def test_a_numpy_scalar_beside_the_weights_is_named(path):
    message = refusal(zipped({"state_dict": trained().state_dict(), "best": np.float64(1.0)}, path))
    assert "scalar" in message


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_program_is_refused(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    assert "TorchScript" in refusal(path)


class Call:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def raw_pickle(value, path):
    path.write_bytes(pickle.dumps(value, 2))


def swapped_into_zip(value, path):
    zipped({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries.items():
            archive.writestr(entry, pickle.dumps(value, 2) if entry.endswith("data.pkl") else data)


@pytest.mark.parametrize("save", [legacy, zipped, raw_pickle, swapped_into_zip])
@pytest.mark.parametrize("function", [os.system, exec, eval, print])
def test_a_hostile_pickle_runs_nothing(tmp_path, capfd, save, function):
    canary = tmp_path / "canary"
    command = f"touch {canary}" if function is os.system else f"open({str(canary)!r}, 'w').close()"
    hostile = tmp_path / "hostile.pt"
    # the pickles that PyTorch did not write cannot hold its tensors
    state = trained().state_dict() if save in (legacy, zipped) else {}
    save({"state_dict": state, "x": Call(function, command)}, hostile)
    message = refusal(hostile)
    assert not canary.exists()
    assert capfd.readouterr() == ("", "")
    assert function.__name__ in message or save is raw_pickle


@pytest.mark.parametrize("kind", ["legacy", "zip", "safetensors"])
def test_a_hundred_truncations_are_each_refused_in_one_line(tmp_path, capfd, kind):
    model = trained(depth=8)
    buffer = io.BytesIO()
    if kind == "safetensors":
        buffer.write(save_safetensors(model.state_dict(), metadata=own_metadata(make_config(arch="plain", depth=8))))
    else:
        torch.save(model.state_dict(), buffer, _use_new_zipfile_serialization=kind == "zip")
    data = buffer.getvalue()
    lengths = np.random.default_rng(0).choice(len(data), 100, replace=False)
    for length in {*lengths, 1, 8, 9, len(data) - 1}:
        cut = tmp_path / f"{length}.pt"
        cut.write_bytes(data[:length])
        refusal(cut)
    assert capfd.readouterr() == ("", "")


def test_random_damage_is_refused_or_leaves_a_finite_network(tmp_path):
    pristine = legacy(trained().state_dict(), tmp_path / "pristine.pt").read_bytes()
    noise = np.random.default_rng(0)
    refused = 0
    for i in range(100):
        noisy = np.frombuffer(pristine, np.uint8).copy()
        noisy[noise.integers(0, 3000, 20)] = noise.integers(0, 256, 20)
        path = tmp_path / f"{i}.pt"
        path.write_bytes(noisy.tobytes())
        with contextlib.suppress(InputError):
            file = read_weights(path)
            assert all(torch.isfinite(value).all() for value in file.state_dict.values())
            continue
        refused += 1
        refusal(path)
    assert refused > 50
