"""The textbook trainer that ours is measured against: what the well-known CIFAR repositories do, step by step.

PIL images and torchvision transforms in four DataLoader workers, NCHW fp32 eager, `loss.item()` every step.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from resnet_cli.model import build_model

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NUM_WORKERS = 4


class PilImages(torch.utils.data.Dataset[Any]):
    """Arrays as torchvision.datasets.CIFAR10 serves them: one PIL image at a time, then transforms."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


class Textbook:
    """Model, optimizer and loaders of a textbook training run."""

    def __init__(self, arch: str, depth: int, train: tuple[Any, Any], test: tuple[Any, Any], device: str) -> None:
        normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self.train_loader = DataLoader(
            PilImages(*train, transforms.Compose(augment + normalize)), batch_size=128, shuffle=True,
            num_workers=NUM_WORKERS, pin_memory=device == "cuda",
        )  # fmt: skip
        self.test_loader = DataLoader(
            PilImages(*test, transforms.Compose(normalize)), batch_size=128, num_workers=NUM_WORKERS,
            pin_memory=device == "cuda",
        )  # fmt: skip
        self.device = device
        self.model = build_model(arch, depth).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def epoch(self) -> float:
        """Train one epoch and evaluate; returns the test accuracy in percent."""
        self.model.train()
        total = 0.0
        for images, labels in self.train_loader:
            loss = F.cross_entropy(self.model(images.to(self.device)), labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.model.eval()
        correct = count = 0
        with torch.no_grad():
            for images, labels in self.test_loader:
                answers = self.model(images.to(self.device)).argmax(1)
                correct += (answers == labels.to(self.device)).sum().item()
                count += len(labels)
        return 100 * correct / count
