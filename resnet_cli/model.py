"""He et al.'s CIFAR networks: 6n+2 layers, plain or residual, with shortcuts A or B."""

import functools
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_cli.config import Arch, Shortcut, check_depth
from resnet_cli.norm import BatchNorm2d
from resnet_cli.util.seeding import derive_seed

STAGE_CHANNELS = (16, 32, 64)


class Block(nn.Module):
    """Two 3×3 convolutions with batch normalisation; residual when it has a shortcut.

    The output is `relu(F(x) + S(x))` with a shortcut and `relu(F(x))` without one, where
    `F(x) = bn2(conv2(relu(bn1(conv1(x)))))`. Source: He et al. 2015, figure 2 and section 3.3.

    The addition and the ReLU work in place, so a forward hook on `bn2` reads the output of the block instead of F(x):
    use `resnet_cli.probes.blocks.capture_blocks`.

    Args:
        stage: 1, 2 or 3.
        index: number of the block within its stage, from 1.
        in_channels: channels of the input.
        shortcut: `none`, `A` or `B`; see `CifarNet`.
    """

    def __init__(self, stage: int, index: int, in_channels: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.stage, self.index = stage, index
        out_channels = STAGE_CHANNELS[stage - 1]
        stride = 2 if out_channels > in_channels else 1
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(out_channels)
        self.shortcut = shortcut
        self.new_channels = out_channels - in_channels
        self.downsample: nn.Module | None = None
        if shortcut == "B" and self.new_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels)
            )

    @property
    def name(self) -> str:
        """Prefix of the block in the state dict: `layer1.0` is the first block of stage 1."""
        return f"layer{self.stage}.{self.index - 1}"

    def branch(self, x: Tensor) -> Tensor:
        """F(x), before the addition: (N, C_in, H, W) to (N, C_out, H/stride, W/stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(out))  # type: ignore[no-any-return]

    def skip(self, x: Tensor) -> Tensor | None:
        """S(x), the output of the shortcut, shaped like F(x); None in a plain network.

        Where the shape is unchanged this is `x` itself, not a copy.
        """
        if self.shortcut == "none":
            return None
        if self.downsample is not None:
            return self.downsample(x)  # type: ignore[no-any-return]
        if self.new_channels:
            half = self.new_channels // 2
            return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.new_channels - half))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H/stride, W/stride)."""
        out = self.branch(x)
        skip = self.skip(x)
        if skip is not None:
            out += skip
        return F.relu(out, inplace=True)


class CifarNet(nn.Module):
    """A 3×3 convolution, three stages of n blocks, global average pooling and a linear layer.

    Args:
        depth: number of weighted layers, 6n+2.
        shortcut: `none` (plain), `A` (identity, strided and zero-padded where the shape changes)
            or `B` (1×1 convolution and batch normalisation where the shape changes).
        num_classes: number of outputs.
    """

    def __init__(self, depth: int, shortcut: Shortcut, num_classes: int = 10) -> None:
        super().__init__()
        self.depth = check_depth(depth)
        self.shortcut = shortcut
        blocks_per_stage = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, STAGE_CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(STAGE_CHANNELS[0])
        self.layer1 = _stage(1, 16, blocks_per_stage, shortcut)
        self.layer2 = _stage(2, 16, blocks_per_stage, shortcut)
        self.layer3 = _stage(3, 32, blocks_per_stage, shortcut)
        self.fc = nn.Linear(STAGE_CHANNELS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised images (N, 3, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, 16, 32, 32)
        x = self.layer1(x)  # (N, 16, 32, 32)
        x = self.layer2(x)  # (N, 32, 16, 16)
        x = self.layer3(x)  # (N, 64, 8, 8)
        x = x.mean(dim=(2, 3))  # (N, 64)
        return self.fc(x)  # type: ignore[no-any-return]

    def blocks(self) -> list[Block]:
        """All blocks of the three stages, in the order of the forward pass."""
        return [cast(Block, block) for stage in (self.layer1, self.layer2, self.layer3) for block in stage]


def _stage(stage: int, in_channels: int, num_blocks: int, shortcut: Shortcut) -> nn.Sequential:
    first = Block(stage, 1, in_channels, shortcut)
    rest = [Block(stage, index, STAGE_CHANNELS[stage - 1], shortcut) for index in range(2, num_blocks + 1)]
    return nn.Sequential(first, *rest)


def build_model(
    arch: Arch, depth: int, shortcut: Shortcut | None = None, num_classes: int = 10, *, seed: int = 0
) -> CifarNet:
    """Build a network with He initialisation, on the CPU in fp32.

    Args:
        arch: `plain` or `resnet`.
        depth: 6n+2, from 8 to 1202.
        shortcut: `A` or `B` for a residual network (default `A`); ignored for a plain one.
        num_classes: number of outputs.
        seed: seed of the initial weights. The weights of a layer depend only on the seed and its name, so
            a plain network and its residual twin start from identical weights.
    """
    model = CifarNet(depth, "none" if arch == "plain" else (shortcut or "A"), num_classes)
    initialize(model, seed)
    return model


@torch.no_grad()
def initialize(model: CifarNet, seed: int) -> None:
    """Apply He initialisation: weights from N(0, 2 / fan_in), biases 0, BN scale 1 and shift 0.

    Source: He et al. 2015b (arXiv 1502.01852), equation 10.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            generator = torch.Generator().manual_seed(derive_seed(seed, "init", name))
            fan_in = module.weight[0].numel()
            module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()


class Layer(NamedTuple):
    """One of the 6n+2 weighted layers."""

    layer_index: int
    """From 1 (first convolution) to the depth (linear layer)."""
    name: str
    """Name in the state dict: `conv1`, `layer1.0.conv1`, …, `fc`."""
    stage: int
    """0 for the first convolution, 1–3, and 4 for the linear layer."""
    block: int
    """From 1 within a stage; 0 for the first convolution and the linear layer."""
    module: nn.Conv2d | nn.Linear


def weighted_layers(model: CifarNet) -> list[Layer]:
    """The layers that count towards the depth, in the order of the forward pass (projections do not count)."""
    layers = [Layer(1, "conv1", 0, 0, model.conv1)]
    for block in model.blocks():
        for name, conv in (("conv1", block.conv1), ("conv2", block.conv2)):
            layers.append(Layer(len(layers) + 1, f"{block.name}.{name}", block.stage, block.index, conv))
    return [*layers, Layer(len(layers) + 1, "fc", 4, 0, model.fc)]


def count_parameters(model: nn.Module) -> int:
    """Number of learned scalars."""
    return sum(parameter.numel() for parameter in model.parameters())


@functools.cache
def count_macs(depth: int, shortcut: Shortcut, num_classes: int = 10, *, image_size: int = 32) -> int:
    """Count the multiply-accumulates of convolutions and the linear layer in the forward pass of one image."""
    total = 0

    def add(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        per_output = module.weight[0].numel()  # type: ignore[index]
        total += per_output * output[0].numel()

    with torch.device("meta"):
        model = CifarNet(depth, shortcut, num_classes)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(add)
        model.eval()(torch.empty(1, 3, image_size, image_size))
    return total
