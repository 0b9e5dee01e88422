"""Promises that every registered probe keeps."""

import copy
import importlib.util

import pytest
import torch

from resnet_cli.probes.base import StoredPredictions
from resnet_cli.probes.registry import TITLES, load_probe
from resnet_cli.probes.scoring import predict
from resnet_cli.rundir import Predictions
from resnet_cli.rundir.probe_files import rows_from_csv, rows_to_csv


@pytest.mark.parametrize("arch", ["plain", "resnet"])
@pytest.mark.parametrize("name", TITLES)
def test_a_probe_leaves_the_network_unchanged_repeats_itself_and_has_a_summary_and_a_figure(network_of, name, arch):
    if importlib.util.find_spec(f"resnet_cli.probes.{name.replace('-', '_')}") is None:
        pytest.skip("not part of this version")
    probe = load_probe(name)
    network = network_of(arch, images=40, settings=probe.settings)
    if probe.refuse(network.config):
        return
    before = copy.deepcopy(network.model.state_dict())
    target = network
    if probe.needs == "predictions":
        logits = predict(network.model, network.test, network.normalizer, 60)
        predictions = Predictions(labels=network.test.labels.numpy(), logits=logits.numpy())
        target = StoredPredictions(network.label, network.config, "last", predictions, 0, probe.settings)
    units = probe.units(network.config, probe.settings)
    assert len(set(units)) == len(units) > 0
    rows = [row for unit in units for row in probe.measure(target, unit)]
    again = probe.measure(target, units[0])
    assert rows_to_csv(again) == rows_to_csv(rows[: len(again)])
    assert len({tuple(row) for row in rows}) == 1, "all rows have the same columns"
    assert all(torch.equal(before[key], value) for key, value in network.model.state_dict().items())
    assert not any(module.training for module in network.model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.model.parameters())
    assert not any(module._forward_hooks for module in network.model.modules())
    identity = {"label": "a", "network": network.config.network, "which": "last", "dataset": "digits", "seed": 0}
    frame = rows_from_csv(rows_to_csv([identity | row for row in rows]))
    view = importlib.import_module(f"resnet_cli.analysis.figures.probes.{name.replace('-', '_')}")
    assert view.table(frame).rows
    assert view.draw(frame).axes
