"""The batch normalisation of a compiled CPU step agrees with PyTorch's."""

import copy

import pytest
import torch
from torch import nn

from resnet_cli.device import cxx_compiler
from resnet_cli.norm import BatchNorm2d, normalize

needs_compiler = pytest.mark.skipif(cxx_compiler() is None, reason="no C++ compiler here")


@pytest.fixture
def images():
    """(6, 16, 5, 7) float32, channels last, with means and deviations that differ between images."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(6, 16, 1, 1, generator=generator) * 3 + 0.1
    images = torch.randn(6, 16, 5, 7, generator=generator) * spread + 2 * spread
    return images.contiguous(memory_format=torch.channels_last)


def layers_with_equal_weights():
    """PyTorch's layer and ours, with the same random weights."""
    theirs = nn.BatchNorm2d(16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (theirs.weight, theirs.bias, theirs.running_mean):
            tensor.normal_(generator=generator)
    ours = BatchNorm2d(16)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    return theirs, ours


def test_gradients_of_normalize_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(2, dtype=torch.float64, generator=generator, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *args: normalize(*args, 1e-5)[0], (x, weight, bias))


def test_mean_and_variance_of_the_batch_are_exact_even_far_from_zero(images):
    _, mean, var = normalize(images + 1000, torch.ones(16), torch.zeros(16), 1e-5)
    wide = images.double() + 1000
    torch.testing.assert_close(mean.double(), wide.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), wide.var((0, 2, 3), correction=0), rtol=1e-4, atol=0)


@needs_compiler
def test_outputs_gradients_and_statistics_of_a_compiled_layer_agree_with_pytorch(images):
    theirs, ours = layers_with_equal_weights()
    upstream = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    found = {}
    for name, layer in {"theirs": theirs, "ours": torch.compile(ours, dynamic=False)}.items():
        x = images.clone().requires_grad_()
        y = layer(x)
        (y * upstream).sum().backward()
        module = theirs if name == "theirs" else ours
        found[name] = [y, x.grad, module.weight.grad, module.bias.grad, *module.buffers()]
    for mine, reference in zip(found["ours"], found["theirs"], strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)


@needs_compiler
def test_a_compiled_layer_in_bf16_agrees_with_pytorch_within_bf16_precision(images):
    theirs, ours = layers_with_equal_weights()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = theirs(images.bfloat16())
        found = torch.compile(ours, dynamic=False)(images.bfloat16())
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_compiled_training_uses_the_formula_of_this_tool_and_eager_training_uses_pytorch(images, monkeypatch):
    """Otherwise the tests above would compare PyTorch with itself."""
    calls = []

    def spy(*args):
        calls.append(args)
        return normalize(*args)

    monkeypatch.setattr("resnet_cli.norm.normalize", spy)
    _, ours = layers_with_equal_weights()
    ours(images)
    assert not calls
    torch.compile(ours, dynamic=False, backend="eager")(images)
    assert calls


def test_evaluation_normalises_by_the_running_statistics_as_pytorch_does(images):
    theirs, ours = layers_with_equal_weights()
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
