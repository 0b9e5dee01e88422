"""The check before PyTorch's loader lets pass every state dict that `torch.save` writes, and nothing that hangs."""

import io
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch
from torch.utils.data import TensorDataset

from resnet_cli.model import build_model
from resnet_cli.weights import pickle_check
from resnet_cli.weights.pickle_check import NameRefusedError, RefusedError, check_pickle


def pickles_of(value):
    """What the check is given of a value in PyTorch's two formats."""
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(value, new)
    torch.save(value, old, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(new) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return archive.read(name), old.getvalue()


def training_checkpoint():
    """What people save: network, optimizer with momentum, scheduler, and odds and ends."""
    model = build_model("resnet", 14, "B", 10, seed=0)
    optimizer = torch.optim.SGD(
        [{"params": [parameter]} for parameter in model.parameters()], lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [80, 120, 120])
    return {
        "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
        "parameters": OrderedDict(model.named_parameters()), "epoch": 3, "best": 91.25, "name": "é", "none": None,
        "flags": (True, False), "shape": torch.Size([1, 2]), "device": torch.device("cpu"), "dtype": torch.float16,
        "classes": {"a", "b"}, "counts": Counter("abc"), "complex": 1j, "huge": 2**200,
        "half": torch.zeros(2, dtype=torch.bfloat16), "sparse": torch.eye(2).to_sparse(), "empty": [{}, [], ()],
    }  # fmt: skip


@pytest.mark.parametrize("format_index", [0, 1], ids=["zip", "older"])
def test_what_people_save_passes(format_index):
    check_pickle(pickles_of(training_checkpoint())[format_index])


def test_the_same_tensor_under_many_names_passes():
    tensor = torch.zeros(2)
    for data in pickles_of({f"name{i}": tensor for i in range(100)}):
        check_pickle(data)


def test_a_container_may_be_shared_a_few_times_only():
    shared = [1, 2]
    for data in pickles_of({str(i): shared for i in range(8)}):
        check_pickle(data)
    for data in pickles_of({str(i): shared for i in range(20)}):
        with pytest.raises(RefusedError, match="hold one another"):
            check_pickle(data)


def test_a_class_is_named():
    for data in pickles_of({"data": TensorDataset(torch.zeros(1))}):
        with pytest.raises(NameRefusedError, match=r"torch\.utils\.data\.dataset\.TensorDataset"):
            check_pickle(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02N", "before seeing STOP"),
        (b"\x80\x02\x86.", "stack is empty"),
        (b"\x80\x02h\x07.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02NNa.", "neither a list nor a dictionary"),
        (b"\x80\x02N)R.", "what is no function"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
        (b"\x80\x02]Q.", "names a storage"),
        (b"\x80\x02Pname\n.", "damaged"),
        (b"\x80\x02c\xff\nx\n.", "damaged"),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason(data, words):
    with pytest.raises(RefusedError, match=words):
        check_pickle(data)


def test_a_pickle_of_endlessly_many_operations_is_left(monkeypatch):
    monkeypatch.setattr(pickle_check, "_MAX_OPERATIONS", 100)
    with pytest.raises(RefusedError, match="more than 100 operations"):
        check_pickle(b"\x80\x02" + b"N" * 101 + b".")


def test_tuples_are_bounded_in_size_and_depth():
    deep, wide = (), tuple(range(200_000))
    for _ in range(60):
        deep = (deep,)
    for value in (deep, wide, ("x" * 200_000,)):
        with pytest.raises(RefusedError, match="tuple"):
            check_pickle(pickles_of({"a": value})[0])
