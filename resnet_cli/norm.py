"""Batch normalisation that compiles well for a CPU and can span the processes that train one network."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resnet_cli.dist import Ranks


class DistributedBatch(NamedTuple):
    """A batch of which every process has a part."""

    ranks: Ranks
    num_images: int
    """Of all processes together."""


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, except that a compiled training step on a CPU computes its sums image by image.

    Inductor divides PyTorch's own formula among threads by channel. Sixteen channels are one AVX-512 vector, so a
    single thread would sum over all positions of the first stage. Summing over the positions of each image first and
    then over the images spreads the work over the batch, forward and backward. Eager steps, evaluation and GPUs use
    PyTorch's layer.
    """

    running_mean: Tensor  # never None here
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float
    batch: DistributedBatch | None = None
    """Set by `synchronized`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) over N, H and W; training updates the running statistics."""
        is_compiled_step = torch.compiler.is_compiling() and self.training and x.device.type == "cpu"
        if not (is_compiled_step or self.batch):
            return super().forward(x)
        y, mean, var = normalize(x, self.weight, self.bias, self.eps, self.batch)
        count = (self.batch.num_images if self.batch else x.shape[0]) * x.shape[2] * x.shape[3]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        return y


@contextlib.contextmanager
def synchronized(model: nn.Module, batch: DistributedBatch) -> Iterator[None]:
    """Context in which the layers of `model`, in training mode, normalise by the statistics of the whole batch.

    Every process must compute the forward and the backward pass, also with no image of the batch.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm2d)]
    for layer in layers:
        layer.batch = batch
    try:
        yield
    finally:
        for layer in layers:
            layer.batch = None


def normalize(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, batch: DistributedBatch | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each channel of (N, C, H, W) by the mean and variance of its batch.

    Args:
        x: float32, float64 or bfloat16; computed in at least float32.
        weight: (C,), the scale.
        bias: (C,), the shift.
        eps: added to the variance.
        batch: the batch that `x` is a part of, possibly an empty one (None: `x` is the whole batch).

    Returns:
        The normalised (N, C, H, W) in the dtype of `x`; mean (C,) and biased variance (C,), neither differentiable.

    Source: Ioffe and Szegedy 2015, algorithm 1; the variances of images are combined as in Chan et al. 1979.
    """
    return _Normalize.apply(x, weight, bias, eps, batch)  # type: ignore[no-any-return]


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, batch: DistributedBatch | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(weight.dtype)
        num_images, num_positions = batch.num_images if batch else x.shape[0], x.shape[2] * x.shape[3]
        image_mean = wide.sum((2, 3), keepdim=True) / num_positions  # (N, C, 1, 1)
        image_squares = (wide - image_mean).square().sum((2, 3))  # (N, C)
        image_mean = image_mean[:, :, 0, 0]
        mean = _total(image_mean.sum(0), batch) / num_images
        between = num_positions * (image_mean - mean).square()
        var = _total((image_squares + between).sum(0), batch) / (num_images * num_positions)
        inverse_std = torch.rsqrt(var + eps)
        y = (wide - _channel(mean)) * _channel(inverse_std * weight) + _channel(bias)
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.batch, ctx.count = batch, num_images * num_positions
        ctx.mark_non_differentiable(mean, var)
        return y.to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, inverse_std = ctx.saved_tensors
        grad, centred = grad_y.to(weight.dtype), x.to(weight.dtype) - _channel(mean)
        grad_bias = grad.sum((2, 3)).sum(0)
        projection = (grad * centred).sum((2, 3)).sum(0)
        # the gradients of weight and bias are those of this process's images; the optimizer's step adds them up
        slope = _total(projection, ctx.batch) * inverse_std.square() / ctx.count
        shift = _total(grad_bias, ctx.batch) / ctx.count
        grad_x = (grad - _channel(shift) - centred * _channel(slope)) * _channel(inverse_std * weight)
        return grad_x.to(x.dtype), projection * inverse_std, grad_bias, None, None


def _total(values: Tensor, batch: DistributedBatch | None) -> Tensor:
    """The sum of `values` over all processes that have a part of `batch`."""
    if batch is None:
        return values
    values = values.clone()
    batch.ranks.all_reduce_sum([values])
    return values


def _channel(values: Tensor) -> Tensor:
    return values[None, :, None, None]
