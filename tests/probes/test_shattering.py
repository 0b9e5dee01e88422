"""Autocorrelations, input gradients and minibatch cosines agree with their definitions, computed slowly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resnet_cli.errors import UsageError
from resnet_cli.model import build_model, weighted_layers
from resnet_cli.probes.shattering import (
    PROBE,
    autocorrelation,
    batch_gradients,
    brown_noise,
    input_gradients,
    pairwise_cosines,
    white_noise,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_autocorrelation_is_its_textbook_sum_over_time_and_components():
    series = np.random.default_rng(0).normal(size=(10, 3)).cumsum(axis=0)
    centred = series - series.mean(axis=0)
    expected = [
        sum(centred[t] @ centred[t + lag] for t in range(10 - lag)) / sum(row @ row for row in centred)
        for lag in range(5)
    ]
    np.testing.assert_allclose(autocorrelation(series), expected)


def test_white_noise_decorrelates_at_once_and_brown_noise_slowly():
    rng = np.random.default_rng(0)
    white, brown = (autocorrelation(noise(64, 500, rng)) for noise in (white_noise, brown_noise))
    # removing the mean gives independent values an expected correlation of about -1/T
    np.testing.assert_allclose(white[1:], -1 / 64, atol=0.02)
    assert (np.diff(brown) < 0).all()
    assert brown[1] > 0.9


def test_a_series_that_never_changes_has_no_autocorrelation():
    assert np.isnan(autocorrelation(np.ones((6, 2)))).all()


def test_each_input_gradient_is_that_of_a_finite_difference_and_of_its_own_image():
    torch.manual_seed(0)
    model = build_model("plain", 8).double().eval()
    images = torch.randn(5, 3, 8, 8).double()
    gradients = input_gradients(model, images, 3, batch_size=2)
    nudge = torch.randn(3, 8, 8).double()
    with torch.no_grad():
        for image, gradient in zip(images, gradients, strict=True):
            higher, lower = model(torch.stack([image + 1e-6 * nudge, image - 1e-6 * nudge]))[:, 3]
            assert gradient @ nudge.flatten().numpy() == pytest.approx((higher - lower).item() / 2e-6, rel=1e-4)


def test_minibatch_gradients_are_those_of_training_mode_and_leave_the_network_unchanged():
    torch.manual_seed(0)
    model = build_model("resnet", 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [(torch.randn(6, 3, 8, 8), torch.randint(0, 10, (6,))) for _ in range(2)]
    found = batch_gradients(model, batches)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert model.conv1.weight.grad is None
    for number, (images, labels) in enumerate(batches):
        twin = build_model("resnet", 8).train()
        loss = F.cross_entropy(twin(images), labels)
        loss.backward()
        assert found.losses[number] == pytest.approx(loss.item())
        for layer, gradients in zip(weighted_layers(twin), found.layers, strict=True):
            torch.testing.assert_close(gradients[number], layer.module.weight.grad.flatten())


def test_pairwise_cosines_are_one_value_per_pair():
    vectors = torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, -3.0]])
    half = 0.5**0.5
    assert pairwise_cosines(vectors).tolist() == pytest.approx([half, 0, -half])


def test_the_probe_measures_lines_noise_and_every_layer(network_of):
    settings = {"lines": 2, "points": 16, "minibatches": 3}
    network = network_of("resnet", settings=settings)
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    rows = [row for unit in PROBE.units(network.config, settings) for row in PROBE.measure(network, unit)]
    assert all(torch.equal(before[name], value) for name, value in network.model.state_dict().items())
    assert len({tuple(row) for row in rows}) == 1
    curves = [(row["series"], row["line"], row["lag"]) for row in rows if row["quantity"] == "autocorrelation"]
    assert sorted(curves) == [
        (series, line, lag) for series in ("brown", "network", "white") for line in (1, 2) for lag in range(8)
    ]
    assert all(row["autocorrelation"] == 1 for row in rows if row["lag"] == 0)
    cosines = [row for row in rows if row["quantity"] == "cosine"]
    assert [row["layer"] for row in cosines] == ["all", *(layer.name for layer in weighted_layers(network.model))]
    assert {(row["batch_size"], row["num_batches"]) for row in cosines} == {(40, 3)}


def test_minibatches_shrink_where_there_are_too_few_images(network_of):
    network = network_of("plain", settings={"lines": 1, "points": 4, "minibatches": 8})
    (row, *_) = PROBE.measure(network, "cosines")
    assert (row["batch_size"], row["num_batches"]) == (15, 8)


def test_too_few_images_for_the_minibatches_are_an_error(network_of):
    network = network_of("plain", settings={"lines": 1, "points": 4, "minibatches": 100})
    with pytest.raises(UsageError, match=r"120 training images into 100 minibatches.*set minibatches"):
        PROBE.measure(network, "cosines")


def test_a_line_depends_neither_on_running_statistics_nor_on_which_points_share_a_batch(network_of):
    settings = {"lines": 1, "points": 64, "minibatches": 3}  # of 40 images, which supply the statistics
    network = network_of("plain", settings=settings)
    rows = PROBE.measure(network, "line 1")
    with torch.no_grad():
        for buffer in network.model.buffers():
            buffer.add_(7)
    correlations, changed = (
        [row["autocorrelation"] for row in found]
        for found in (rows, PROBE.measure(network._replace(batch_size=64), "line 1"))
    )
    assert changed == pytest.approx(correlations, abs=1e-4)


def line_of(network):
    """Input images of the first line, as the network received them in one batch of their number."""
    received = []
    handle = network.model.register_forward_pre_hook(lambda module, inputs: received.append(inputs[0].detach()))
    PROBE.measure(network, "line 1")
    handle.remove()
    (line,) = (images for images in received if len(images) == network.settings["points"])
    return line


def test_twins_are_measured_on_the_same_lines(network_of):
    settings = {"lines": 1, "points": 5, "minibatches": 2}
    plain, twin, other_seed = (
        network_of(arch, settings=settings, seed=seed) for arch, seed in (("plain", 0), ("resnet", 0), ("plain", 1))
    )
    assert torch.equal(line_of(plain), line_of(twin))
    assert not torch.equal(line_of(plain), line_of(other_seed))
