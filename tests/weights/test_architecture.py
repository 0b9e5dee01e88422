"""State dicts of other networks, and incomplete or hostile ones, are rejected in one line that names the cause."""

from collections import OrderedDict

import pytest
import torch
from weight_files import rejection, save_zip, small_network

from resnet_cli.errors import InputError
from resnet_cli.weights.architecture import find_architectures, find_state_dict


def stages(*counts, extra=()):
    """Names of a network with `counts` blocks per stage, with useless tensors."""
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
        ({0: torch.zeros(1)}, ("a name of type int",)),
        ({}, ("found no tensors",)),
    ],
)
def test_the_error_for_weights_of_another_network_names_the_found_and_the_expected_one(path, state, words):
    message = rejection(save_zip(state, path))
    assert all(word in message for word in words)
    assert "expected a CIFAR network" in message


def without(*names):
    return lambda state: [state.pop(name) for name in names]


def with_(name, value):
    return lambda state: state.update({name: value})


def quantize(state):
    state["bn1.bias"] = torch.quantize_per_tensor(torch.zeros(16), 1.0, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("layer2.0.bn1.weight"), ("lacks layer2.0.bn1.weight", "network of 8 layers with projections")),
        (without("layer3.0.downsample.1.bias"), ("lacks layer3.0.downsample.1.bias",)),
        (without("bn1.bias", "bn1.running_mean", "fc.bias", "conv1.weight"), ("lacks conv1.weight", "and 1 more of a")),
        (with_("total_ops", torch.zeros(1)), ("contains total_ops",)),
        (with_("conv1.weight", torch.zeros(64, 3, 3, 3)), ("conv1.weight has shape 64×3×3×3", "16×3×3×3")),
        (with_("fc.bias", torch.zeros(3)), ("fc.bias has shape 3", "expected 10")),
        (with_("bn1.bias", torch.tensor(1.0)), ("bn1.bias", "a scalar")),
        (with_("bn1.bias", torch.full((16,), torch.nan)), ("bn1.bias", "not finite")),
        (with_("bn1.bias", torch.full((16,), 1e300, dtype=torch.float64)), ("bn1.bias", "not finite")),
        (with_("bn1.bias", torch.zeros(16, dtype=torch.int8)), ("bn1.bias", "int8")),
        (with_("bn1.running_var", -torch.ones(16)), ("bn1.running_var", "negative variance")),
        (with_("bn1.bias", "text"), ("bn1.bias is a str",)),
        (with_("bn1.bias", torch.zeros(1).expand(16)), ("bn1.bias", "dense")),
        (with_("bn1.bias", torch.zeros(16).to_sparse()), ("bn1.bias", "dense")),
        (with_("bn1.bias", torch.zeros(16, device="meta")), ("bn1.bias", "dense")),
        (quantize, ("bn1.bias", "dense")),
        (with_("fc.weight", torch.zeros(1, 1).expand(2**40, 64)), ("fc.weight", "dense")),
        (with_("linear.bias", torch.zeros(10)), ("fc.bias twice",)),
        (with_("module.fc.bias", torch.zeros(10)), ("fc.bias twice",)),
        (with_("layer2.0.shortcut.0.weight", torch.zeros(1)), ("layer2.0.downsample.0.weight twice",)),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_the_error_for_an_unusable_state_dict_names_the_tensor(path, change, words):
    state = small_network(shortcut="B").state_dict()
    change(state)
    message = rejection(save_zip(state, path))
    assert all(word in message for word in words)


@pytest.mark.parametrize(("value", "kind"), [([1, 2], "list"), (torch.zeros(3), "Tensor"), ("text", "str")])
def test_the_error_for_a_file_without_a_state_dict_names_its_type(path, value, kind):
    assert f"contains a {kind}" in rejection(save_zip(value, path))


def test_a_file_with_several_state_dicts_is_rejected(path):
    assert "state_dict, model" in rejection(save_zip({"model": {}, "state_dict": {}}, path))


def test_a_state_dict_that_contains_itself_is_rejected(path):
    loop = {}
    loop["model"] = loop
    assert "more than 3 levels deep" in rejection(save_zip(loop, path))


def test_a_state_dict_of_a_million_names_is_rejected_before_they_are_read(path):
    with pytest.raises(InputError, match="1,000,000 entries"):
        find_state_dict(path, dict.fromkeys(range(1_000_000)))


def test_attributes_from_a_pickle_do_not_replace_methods(path):
    """A pickle may set attributes on an OrderedDict and on parameters, such as `items` and `detach`."""
    state = OrderedDict(stages(1, 1, 1))
    state.items = state.get = "not callable"
    weight = torch.nn.Parameter(torch.zeros(10, 64))
    weight.detach = weight.numel = "not callable"
    state["fc.weight"] = weight
    assert find_architectures(path, find_state_dict(path, state).entries)[0] == ("resnet", 8, "A", 10)
