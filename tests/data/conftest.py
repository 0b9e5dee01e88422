"""Shared by the tests of data sources and of `resnet data`: a private cache, a tiny CIFAR, a server, image folders."""

import threading

import numpy as np
import pytest
import tiny_cifar
from PIL import Image

from resnet_cli.data import download


@pytest.fixture(autouse=True)
def private_places(tmp_path, monkeypatch):
    """No test reads or writes the user's own data."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    for name in ("RESNET_DATA", "RESNET_CIFAR10_URL", "RESNET_CIFAR100_URL", "RESNET_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0, 0.0))


@pytest.fixture(scope="session")
def tiny():
    return tiny_cifar.TinyCifar()


@pytest.fixture
def published(tiny, monkeypatch):
    """The tiny CIFAR in place of CIFAR-10."""
    tiny.publish(monkeypatch)
    return tiny


@pytest.fixture
def server(tiny, monkeypatch):
    with tiny_cifar.Server(tiny.archive) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setenv("RESNET_CIFAR10_URL", running.url)
        yield running
        running.shutdown()


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8))


@pytest.fixture
def make_tree(tmp_path):
    """Writes `{"train/cat/a.png": seed or image}` below a folder and returns the folder."""

    def make(files, name="tree"):
        root = tmp_path / name
        for path, image in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            (noise(image) if isinstance(image, int) else image).save(file)
        return root

    return make


@pytest.fixture
def tree(make_tree):
    """Two classes, three training and two test images."""
    return make_tree({
        "train/cat/b.png": 1, "train/cat/a.png": 2, "train/dog/c.png": 3, "test/cat/d.png": 4, "test/dog/e.png": 5,
    })  # fmt: skip
