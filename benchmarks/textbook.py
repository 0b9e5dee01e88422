"""Textbook trainer, the reference of the benchmarks, written as in the well-known CIFAR repositories.

It uses PIL images and torchvision transforms in four DataLoader workers, NCHW, eager fp32 and `loss.item()` at every
step. It shares no code with `resnet_cli`; its networks start from He's initialisation, as ours do.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NUM_WORKERS = 4


class PilImages(torch.utils.data.Dataset[Any]):
    """Dataset over arrays that, like torchvision.datasets.CIFAR10, converts one image at a time to PIL."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


class BasicBlock(nn.Module):
    """Two convolutions; if `is_residual`, with a shortcut of option A (strided identity, zero-padded channels)."""

    def __init__(self, in_planes: int, planes: int, stride: int, is_residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride, self.pad, self.is_residual = stride, (planes - in_planes) // 2, is_residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H/stride, W/stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.is_residual:
            step = self.stride
            out = out + (F.pad(x[:, :, ::step, ::step], (0, 0, 0, 0, self.pad, self.pad)) if self.pad else x)
        return F.relu(out)


def network(arch: str, depth: int, num_classes: int = 10) -> nn.Sequential:
    """CIFAR network with 6n+2 layers in PyTorch's default memory layout."""
    planes = 16
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for block in range((depth - 2) // 6):
            layers.append(BasicBlock(planes, width, first_stride if block == 0 else 1, arch == "resnet"))
            planes = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


class Textbook:
    """Model, optimizer, scheduler and data loaders of a training run."""

    def __init__(
        self,
        arch: str,
        depth: int,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        device: str,
        *,
        lr: float = 0.1,
        milestones: tuple[int, ...] = (100, 150),
        num_workers: int = NUM_WORKERS,
    ) -> None:
        normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self.train_loader = DataLoader(
            PilImages(*train, transforms.Compose(augment + normalize)), batch_size=128, shuffle=True,
            num_workers=num_workers, pin_memory=device == "cuda",
        )  # fmt: skip
        self.test_loader = DataLoader(
            PilImages(*test, transforms.Compose(normalize)), batch_size=128, num_workers=num_workers,
            pin_memory=device == "cuda",
        )  # fmt: skip
        self.device = device
        self.model = network(arch, depth).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, list(milestones))

    def epoch(self) -> float:
        """Train one epoch, evaluate, and return the test accuracy in per cent."""
        self.model.train()
        total = 0.0
        for images, labels in self.train_loader:
            loss = F.cross_entropy(self.model(images.to(self.device)), labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.scheduler.step()
        self.model.eval()
        correct = count = 0
        with torch.no_grad():
            for images, labels in self.test_loader:
                answers = self.model(images.to(self.device)).argmax(1)
                correct += (answers == labels.to(self.device)).sum().item()
                count += len(labels)
        return 100 * correct / count
