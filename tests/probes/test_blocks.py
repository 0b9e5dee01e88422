"""The tensors inside a block are read without disturbing the forward pass."""

import pytest
import torch
import torch.nn.functional as F

from resnet_cli.model import build_model
from resnet_cli.probes.blocks import capture_blocks


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_hook_on_bn2_reads_the_sum_but_capturing_blocks_reads_the_branch(images):
    model = build_model("resnet", 8).eval()
    hooked = {}
    for block in model.blocks():
        block.bn2.register_forward_hook(lambda _, __, output, name=block.name: hooked.update({name: output}))
    with torch.no_grad():
        model(images)
        naive = dict(hooked)
        _, captured = capture_blocks(model, images)
    for found in captured:
        assert torch.equal(naive[found.block.name], found.output), "the in-place operations overwrite the output of bn2"
        assert not torch.equal(naive[found.block.name], found.branch)
        assert torch.equal(found.branch, found.block.bn2(found.block.conv2(
            F.relu(found.block.bn1(found.block.conv1(found.input)))
        )))  # fmt: skip


@pytest.mark.parametrize(("arch", "shortcut"), [("plain", None), ("resnet", "A"), ("resnet", "B")])
@pytest.mark.parametrize("mode", ["eval", "training"])
def test_capturing_blocks_gives_the_numbers_of_the_forward_pass_bit_for_bit(images, arch, shortcut, mode):
    model = build_model(arch, 14, shortcut).train(mode == "training")
    model(images)  # running statistics that are not the initial ones
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits, captured = capture_blocks(model, images)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [found.block.name for found in captured] == [f"layer{stage}.{i}" for stage in (1, 2, 3) for i in (0, 1)]
    outputs = []
    for block in model.blocks():
        block.register_forward_hook(lambda _, __, output: outputs.append(output))
    assert torch.equal(logits, model(images))
    assert all(torch.equal(found.output, output) for found, output in zip(captured, outputs, strict=True))
    assert all((found.skip is None) == (arch == "plain") for found in captured)
    assert mode == "eval" or not torch.equal(model.state_dict()["bn1.running_mean"], before["bn1.running_mean"])


def test_gradients_flow_through_captured_tensors_as_through_the_forward_pass(images):
    model = build_model("resnet", 8).train()
    model(images).square().sum().backward()
    logits, captured = capture_blocks(model, images)
    (gradient,) = torch.autograd.grad(logits.square().sum(), model.conv1.weight, retain_graph=True)
    assert torch.equal(gradient, model.conv1.weight.grad)
    at_inputs = torch.autograd.grad(logits.square().sum(), [found.input for found in captured])
    assert all(gradient.abs().sum() > 0 for gradient in at_inputs)


def test_branch_skip_and_output_of_a_tiny_network_equal_values_computed_by_hand():
    """Every 3×3 kernel is zero but for its centre, so that each pixel is computed from one pixel."""
    model = build_model("resnet", 8, "A", num_classes=2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.weight.fill_((1 + norm.eps) ** 0.5)  # the identity, since mean and variance are still 0 and 1
        first, second, _ = model.blocks()
        model.conv1.weight[0, 0, 1, 1] = 2
        first.conv1.weight[0, 0, 1, 1], first.conv2.weight[0, 0, 1, 1] = 1, -0.5
        second.conv1.weight[5, 0, 1, 1], second.conv2.weight[8, 5, 1, 1] = 1, 4
        model.fc.weight[1, 24] = 0.5
        images = torch.zeros(1, 3, 4, 4)
        images[0, 0] = 3 - torch.arange(16.0).view(4, 4)  # 3, 2, 1, 0, then negative
        logits, (one, two, three) = capture_blocks(model, images)
    x = torch.tensor([[6.0, 4, 2, 0], [0] * 4, [0] * 4, [0] * 4])
    torch.testing.assert_close([one.input[0, 0], one.branch[0, 0], one.skip[0, 0]], [x, -x / 2, x])
    torch.testing.assert_close(one.output[0, 0], x / 2)
    # stride 2 keeps the pixels 3 and 1 of the top row; the shortcut moves channel 0 to channel 8 of 32, then 24 of 64
    torch.testing.assert_close(two.branch[0, 8], torch.tensor([[12.0, 4.0], [0, 0]]))
    torch.testing.assert_close(two.skip[0, 8], torch.tensor([[3.0, 1.0], [0, 0]]))
    torch.testing.assert_close(two.output[0].sum(0), torch.tensor([[15.0, 5.0], [0, 0]]))
    assert three.branch.abs().max() == 0
    torch.testing.assert_close(three.output[0, 24], torch.tensor([[15.0]]))
    torch.testing.assert_close(logits, torch.tensor([[0.0, 7.5]]))
