"""Tensors inside every block: the branch F(x), the shortcut S(x) and the output."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_cli.model import Block, CifarNet


class BlockTensors(NamedTuple):
    """Input, parts and output of one block; all but `input` are (N, C, H, W) of the same shape."""

    block: Block
    input: Tensor  # x, (N, C_in, H_in, W_in)
    branch: Tensor  # F(x), before the addition
    skip: Tensor | None  # S(x); None in a plain network, and `input` itself where the block keeps the shape
    output: Tensor  # relu(F(x) + S(x)), or relu(F(x)) in a plain network


def capture_blocks(model: CifarNet, images: Tensor) -> tuple[Tensor, list[BlockTensors]]:
    """Run the forward pass and keep the tensors inside every block.

    `CifarNet.forward` adds and rectifies in place, which overwrites F(x). Here the same operations write to new
    tensors: the numbers are those of `model(images)` bit for bit, in eval and in training mode, and all tensors
    belong to one autograd graph. In training mode the running statistics are not updated.

    Args:
        model: on the device of `images`.
        images: normalised, (N, 3, H, W).

    Returns:
        The logits (N, num_classes), and one entry per block in forward order.
    """
    captured = []
    with frozen_statistics(model):
        x = F.relu(model.bn1(model.conv1(images)))
        for block in model.blocks():
            branch, skip = block.branch(x), block.skip(x)
            output = F.relu(branch if skip is None else branch + skip)
            captured.append(BlockTensors(block, x, branch, skip, output))
            x = output
        return model.fc(x.mean(dim=(2, 3))), captured


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch normalisation unchanged; training mode still normalises by the batch."""
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
