"""SGD, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from resnet_cli.config import RunConfig


def steps_per_epoch(num_train: int, batch_size: int) -> int:
    """Number of optimizer steps per pass over `num_train` images; the last, partial batch counts."""
    return math.ceil(num_train / batch_size)


def total_steps(config: RunConfig, num_train: int) -> int:
    """Length of the run in optimizer steps."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None  # RunConfig has exactly one of the two
    return config.epochs * steps_per_epoch(num_train, config.batch_size)


def lr_at(step: int, config: RunConfig, num_train: int) -> float:
    """Learning rate of optimizer step `step` (from 0).

    The rate is `warmup_lr` for the first `warmup_steps` steps, then `lr`, multiplied by `lr_decay` at each milestone.
    """
    if step < config.warmup_steps:
        return config.warmup_lr
    unit = 1 if config.steps is not None else steps_per_epoch(num_train, config.batch_size)
    passed = sum(step >= milestone * unit for milestone in config.milestones)
    return config.lr * config.lr_decay**passed


def build_optimizer(model: nn.Module, config: RunConfig, device: torch.device) -> torch.optim.SGD:
    """Build SGD with momentum and weight decay on all parameters, BN and biases included, as in He et al.

    Args:
        model: already on its device and in its memory format.
        config: supplies lr, momentum and weight decay.
        device: on CPU and CUDA one kernel updates all parameters. On CUDA the learning rate is a float32 tensor on
            the device, so that a CUDA graph reads the value that `set_lr` wrote last.
    """
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=torch.tensor(config.lr, device=device) if device.type == "cuda" else config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    if config.momentum > 0:
        # created here, because a loss scaler may skip the first step, which would otherwise create them, and the fused
        # kernel would then leave them uninitialised
        for parameter in model.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter).detach()
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
