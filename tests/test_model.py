"""The networks are those of He et al., down to the number of parameters."""

import pytest
import torch
import torch.nn.functional as F

from resnet_cli.errors import ConfigError
from resnet_cli.model import CifarNet, build_model, count_macs, count_parameters, weighted_layers


@pytest.mark.parametrize(
    ("depth", "option_a", "option_b"),
    [
        (20, 269_722, 272_474),
        (32, 464_154, 466_906),
        (44, 658_586, 661_338),
        (56, 853_018, 855_770),
        (110, 1_727_962, 1_730_714),
        (1202, 19_421_274, 19_424_026),
    ],
)
def test_parameter_counts_are_exact_for_plain_option_a_and_option_b(depth, option_a, option_b):
    with torch.device("meta"):
        counts = [count_parameters(CifarNet(depth, shortcut)) for shortcut in ("none", "A", "B")]
    assert counts == [option_a, option_a, option_b]


@pytest.mark.parametrize("depth", [8, 20])
def test_weighted_layers_are_as_many_as_the_depth_named_as_in_the_state_dict_and_in_forward_order(depth):
    model = build_model("resnet", depth, "B")
    layers = weighted_layers(model)
    called = []
    for layer in layers:
        assert torch.equal(model.state_dict()[f"{layer.name}.weight"], layer.module.weight)
        layer.module.register_forward_hook(lambda *_, name=layer.name: called.append(name))
    model(torch.zeros(1, 3, 32, 32))
    assert called == [layer.name for layer in layers]
    assert [layer.layer_index for layer in layers] == list(range(1, depth + 1))
    assert {(0, 0), (4, 0)} == {(layer.stage, layer.block) for layer in (layers[0], layers[-1])}


def test_blocks_come_in_forward_order_with_stage_index_and_name():
    model = CifarNet(14, "A")
    blocks = model.blocks()
    assert [(block.stage, block.index) for block in blocks] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert all(model.get_submodule(block.name) is block for block in blocks)


def test_twins_start_from_identical_weights_except_for_the_projections_of_option_b():
    plain, a, b = (
        build_model(arch, 20, shortcut, seed=3).state_dict()
        for arch, shortcut in (("plain", None), ("resnet", "A"), ("resnet", "B"))
    )
    assert plain.keys() == a.keys()
    assert all(torch.equal(plain[name], a[name]) and torch.equal(plain[name], b[name]) for name in plain)
    assert {name.split(".")[2] for name in b.keys() - a.keys()} == {"downsample"}


def test_initial_weights_depend_on_the_seed_but_not_on_the_global_random_state():
    torch.manual_seed(1)
    first = build_model("plain", 8).conv1.weight
    torch.manual_seed(2)
    assert torch.equal(first, build_model("plain", 8).conv1.weight)
    assert not torch.equal(first, build_model("plain", 8, seed=1).conv1.weight)


def test_layers_of_one_shape_have_independent_initial_weights():
    weights = [layer.module.weight.detach().flatten() for layer in weighted_layers(build_model("plain", 20))[8:13]]
    correlations = torch.corrcoef(torch.stack(weights)) - torch.eye(5)
    assert correlations.abs().max() < 5 / len(weights[0]) ** 0.5


def test_initial_weights_have_the_standard_deviation_of_he_initialisation():
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


def test_a_residual_block_adds_its_input_before_the_relu_and_a_plain_block_has_nothing_to_add():
    plain, residual = (build_model(arch, 8).layer1[0].eval() for arch in ("plain", "resnet"))
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    assert plain.skip(x) is None
    torch.testing.assert_close(plain(x), F.relu(plain.branch(x)))
    torch.testing.assert_close(residual(x), F.relu(plain.branch(x) + x))


@pytest.mark.parametrize("shortcut", ["none", "A", "B"])
def test_stages_have_16_32_64_filters_on_maps_of_32_16_8_pixels(shortcut):
    model = CifarNet(8, shortcut, num_classes=100)
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3):
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    logits = model(torch.zeros(2, 3, 32, 32))
    assert shapes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    assert logits.shape == (2, 100)


def test_multiply_accumulates_agree_with_a_count_by_hand():
    convolutions = 9 * 32 * 32 * (3 * 16 + 2 * 16 * 16)
    convolutions += 9 * 16 * 16 * (16 * 32 + 32 * 32) + 9 * 8 * 8 * (32 * 64 + 64 * 64)
    assert count_macs(8, "A") == convolutions + 64 * 10
    projections = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
    assert count_macs(8, "B") == convolutions + projections + 64 * 10


def test_a_depth_other_than_6n_plus_2_is_refused():
    with pytest.raises(ConfigError, match="55"):
        CifarNet(55, "A")
