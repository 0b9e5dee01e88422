"""Small networks and the weight files that this tool and other projects save of them."""

from collections import OrderedDict

import msgspec
import pytest
import torch
from safetensors.torch import save

from resnet_cli.errors import InputError
from resnet_cli.model import build_model
from resnet_cli.weights import read_weights


def small_network(arch="resnet", depth=8, shortcut=None, num_classes=10):
    """A network in eval mode whose running statistics differ from the initial ones."""
    model = build_model(arch, depth, shortcut, num_classes, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if not name.endswith("num_batches_tracked"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def renamed(state, *pairs, prefix=""):
    """The state dict with every (ours, theirs) replaced in its names."""
    names = list(state)
    for ours, theirs in pairs:
        names = [name.replace(ours, theirs) for name in names]
    return OrderedDict((prefix + name, value) for name, value in zip(names, state.values(), strict=True))


def without_counters(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def save_legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


def save_zip(value, path):
    torch.save(value, path)
    return path


def save_as_akamaster(state, path):
    theirs = renamed(without_counters(state), ("fc.", "linear."), prefix="module.")
    return save_legacy({"state_dict": theirs, "best_prec1": 91.73}, path)


def save_as_ours(path, model, config, /, **changes):
    """Save with the metadata of this tool; a change to None removes a field."""
    metadata = {
        "format": "resnet-cli",
        "schema_version": "1",
        "config": msgspec.json.encode(config).decode(),
        "mean": "[0.3,0.3,0.3]",
        "std": "[0.4,0.4,0.4]",
        **changes,
    }
    path.write_bytes(save(model.state_dict(), {name: value for name, value in metadata.items() if value is not None}))
    return path


def rejection(path):
    """The one line with which `read_weights` rejects `path`."""
    with pytest.raises(InputError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 600
    return message
