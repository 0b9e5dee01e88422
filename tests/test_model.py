"""The networks are He et al.'s, to the parameter."""

import pytest
import torch
import torch.nn.functional as F

from resnet_cli.errors import ConfigError
from resnet_cli.model import CifarNet, build_model, count_macs, count_parameters, weighted_layers

# shared facts: convolutions without bias, BN scale and shift, linear with bias
COUNTS = {
    20: (269_722, 272_474),
    32: (464_154, 466_906),
    44: (658_586, 661_338),
    56: (853_018, 855_770),
    110: (1_727_962, 1_730_714),
    1202: (19_421_274, 19_424_026),
}


@pytest.mark.parametrize("depth", COUNTS)
def test_parameter_counts_are_exact(depth):
    with torch.device("meta"):
        counts = [count_parameters(CifarNet(depth, shortcut)) for shortcut in ("none", "A", "B")]
    option_a, option_b = COUNTS[depth]
    assert counts == [option_a, option_a, option_b]


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_depth_is_the_number_of_weighted_layers(depth):
    layers = weighted_layers(CifarNet(depth, "B"))
    assert [layer.layer_index for layer in layers] == list(range(1, depth + 1))
    assert layers[0].name == "conv1"
    assert layers[-1].name == "fc"


def test_layers_are_named_as_in_the_state_dict_and_in_forward_order():
    model = build_model("resnet", 8)
    layers = weighted_layers(model)
    called = []
    for layer in layers:
        assert torch.equal(model.state_dict()[f"{layer.name}.weight"], layer.module.weight)
        layer.module.register_forward_hook(lambda *_, name=layer.name: called.append(name))
    model(torch.zeros(1, 3, 32, 32))
    assert called == [layer.name for layer in layers]


def test_a_plain_network_and_its_option_a_twin_start_from_identical_weights():
    plain, residual = build_model("plain", 20, seed=3).state_dict(), build_model("resnet", 20, "A", seed=3).state_dict()
    assert plain.keys() == residual.keys()
    assert all(torch.equal(plain[name], residual[name]) for name in plain)


def test_option_b_shares_all_weights_but_its_projections_with_option_a():
    a, b = (build_model("resnet", 8, shortcut).state_dict() for shortcut in ("A", "B"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {name.split(".")[2] for name in b.keys() - a.keys()} == {"downsample"}


def test_another_seed_gives_other_weights():
    first, second = build_model("plain", 8, seed=0), build_model("plain", 8, seed=1)
    assert not torch.equal(first.conv1.weight, second.conv1.weight)


def test_initial_weights_do_not_depend_on_the_global_random_state():
    torch.manual_seed(1)
    first = build_model("plain", 8).conv1.weight
    torch.manual_seed(2)
    assert torch.equal(first, build_model("plain", 8).conv1.weight)


def test_weights_have_the_deviation_of_he_initialisation():
    model = build_model("resnet", 56, "B")
    for layer in weighted_layers(model):
        expected = (2 / layer.module.weight[0].numel()) ** 0.5
        tolerance = 4 * expected / (2 * layer.module.weight.numel()) ** 0.5
        assert abs(layer.module.weight.std().item() - expected) < tolerance, layer.name
    assert model.fc.bias.eq(0).all()


def test_shortcut_a_takes_every_second_pixel_and_pads_channels_half_on_each_side():
    block = CifarNet(8, "A").layer2[0]
    x = torch.arange(2 * 16 * 4 * 4.0).view(2, 16, 4, 4)
    skipped = block.skip(x)
    assert skipped.shape == (2, 32, 2, 2)
    assert torch.equal(skipped[:, 8:24], x[:, :, ::2, ::2])
    assert skipped[:, :8].eq(0).all()
    assert skipped[:, 24:].eq(0).all()


def test_a_residual_block_adds_its_input_before_the_relu_and_a_plain_block_does_not():
    plain, residual = (build_model(arch, 8).layer1[0].eval() for arch in ("plain", "resnet"))
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), F.relu(plain.branch(x)))
    torch.testing.assert_close(residual(x), F.relu(plain.branch(x) + x))


def test_a_residual_block_without_weights_is_the_identity_on_what_a_relu_gave():
    block = build_model("resnet", 8).layer1[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("shortcut", ["none", "A", "B"])
def test_stages_have_16_32_64_filters_on_maps_of_32_16_8_pixels(shortcut):
    model = CifarNet(8, shortcut)
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    logits = model(torch.zeros(2, 3, 32, 32))
    assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    assert logits.shape == (2, 10)


def test_a_network_can_have_100_classes():
    assert build_model("resnet", 8, num_classes=100)(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_multiply_accumulates_agree_with_a_count_by_hand():
    convolutions = 9 * 32 * 32 * (3 * 16 + 2 * 16 * 16)
    convolutions += 9 * 16 * 16 * (16 * 32 + 32 * 32) + 9 * 8 * 8 * (32 * 64 + 64 * 64)
    assert count_macs(8, "A") == convolutions + 64 * 10
    projections = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
    assert count_macs(8, "B") == convolutions + projections + 64 * 10


@pytest.mark.parametrize("depth", [0, 7, 55, 1208])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    with pytest.raises(ConfigError, match=str(depth)):
        CifarNet(depth, "A")
