"""What torchrun tells a process, and how a batch is divided."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_cli import dist
from resnet_cli.dist import Ranks
from resnet_cli.norm import BatchNorm2d, DistributedBatch, synchronized

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"}


@given(st.integers(1, 600), st.integers(1, 9))
def test_the_parts_of_a_batch_cover_it_once_in_order_with_sizes_that_differ_by_at_most_one(count, size):
    parts = [Ranks(rank, size, rank).shard(count) for rank in range(size)]
    images = list(range(count))
    assert [image for part in parts for image in images[part]] == images
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_a_process_on_its_own_is_rank_0_and_joins_nobody(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert dist.rank() == 0
    with dist.joined() as ranks:
        assert ranks is None


def test_the_rank_is_read_from_the_environment_of_torchrun(monkeypatch):
    monkeypatch.setattr("os.environ", TORCHRUN)
    assert dist.rank() == 1


@pytest.mark.parametrize("missing", TORCHRUN)
def test_a_variable_of_another_launcher_alone_does_not_make_a_rank(monkeypatch, missing):
    monkeypatch.setattr("os.environ", {name: value for name, value in TORCHRUN.items() if name != missing})
    assert dist.rank() == 0


def test_a_single_process_of_torchrun_is_a_process_on_its_own(monkeypatch):
    monkeypatch.setattr("os.environ", {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"})
    with dist.joined() as ranks:
        assert ranks is None


@pytest.mark.parametrize("rank", ["first", "-1", "3", ""])
def test_a_rank_that_torchrun_never_gives_does_not_make_a_rank(monkeypatch, rank):
    monkeypatch.setattr("os.environ", {**TORCHRUN, "RANK": rank})
    assert dist.torchrun() is None


class Alone(Ranks):
    """One process that has the whole batch."""

    def all_reduce_sum(self, tensors):
        """Nothing to add."""


def test_synchronised_batch_normalisation_of_a_whole_batch_is_that_of_pytorch():
    layer, reference = BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        for module in (layer, reference):
            module.weight.copy_(torch.tensor([1.0, 2.0, 0.5, 3.0]))
            module.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)).mul_(2).add_(1)
    results = []
    for module in (layer, reference):
        images = x.clone().requires_grad_()
        with synchronized(module, DistributedBatch(Alone(0, 1, 0), len(x))):
            y = module(images)
            (y.square() * torch.arange(4).view(1, 4, 1, 1)).sum().backward()
        results.append((y, images.grad, module.weight.grad, module.bias.grad, module.running_mean, module.running_var))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert layer.batch is None
