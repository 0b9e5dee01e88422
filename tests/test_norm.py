"""Batch normalisation as a compiled CPU step computes it is PyTorch's."""

import copy

import pytest
import torch
from torch import Tensor, nn

from resnet_cli.device import cxx_compiler
from resnet_cli.norm import BatchNorm2d, normalize

needs_compiler = pytest.mark.skipif(cxx_compiler() is None, reason="there is no C++ compiler here")


@pytest.fixture
def images() -> Tensor:
    """(6, 16, 5, 7) float32, channels last, with means and deviations that differ between images."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(6, 16, 1, 1, generator=generator) * 3 + 0.1
    images = torch.randn(6, 16, 5, 7, generator=generator) * spread + 2 * spread
    return images.contiguous(memory_format=torch.channels_last)


def pair() -> tuple[nn.BatchNorm2d, BatchNorm2d]:
    """PyTorch's layer and ours with the same weights, which are not the initial ones."""
    theirs = nn.BatchNorm2d(16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (theirs.weight, theirs.bias, theirs.running_mean):
            assert tensor is not None
            tensor.normal_(generator=generator)
    ours = BatchNorm2d(16)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    return theirs, ours


def test_gradients_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(2, dtype=torch.float64, generator=generator, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *args: normalize(*args, 1e-5)[0], (x, weight, bias))


def test_mean_and_variance_are_those_of_the_batch_also_far_from_zero(images: Tensor) -> None:
    _, mean, var = normalize(images + 1000, torch.ones(16), torch.zeros(16), 1e-5)
    wide = images.double() + 1000
    torch.testing.assert_close(mean.double(), wide.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), wide.var((0, 2, 3), correction=0), rtol=1e-4, atol=0)


@needs_compiler
def test_a_compiled_training_step_agrees_with_pytorch(images: Tensor) -> None:
    theirs, ours = pair()
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
def test_a_compiled_step_in_bf16_agrees_with_pytorch_within_its_precision(images: Tensor) -> None:
    theirs, ours = pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = theirs(images.bfloat16())
        found = torch.compile(ours, dynamic=False)(images.bfloat16())
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_the_compiled_formula_is_ours(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the tests above would compare PyTorch with itself."""
    asked = []

    def spy(*args: object) -> tuple[Tensor, Tensor, Tensor]:
        asked.append(args)
        return normalize(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("resnet_cli.norm.normalize", spy)
    _, ours = pair()
    ours(images)
    assert not asked, "an eager step is PyTorch's own"
    torch.compile(ours, dynamic=False, backend="eager")(images)
    assert asked


def test_evaluation_uses_the_running_statistics(images: Tensor) -> None:
    theirs, ours = pair()
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
