"""A trained network is loaded as one module that classifies images as they are stored."""

import pytest
import torch
from weight_files import save_as_akamaster, save_zip, small_network

import resnet_cli
from resnet_cli.data import open_data
from resnet_cli.errors import InputError, UsageError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs with both normalisations."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: resnet_cli.train(
            resnet_cli.make_config(
                "demo",
                arch="resnet",
                depth=8,
                limit_train=200,
                limit_test=40,
                epochs=2,
                device="cpu",
                gradflow_every=0,
                normalization=name,
            ),
            folder / name,
        ).run
        for name in ("channel", "pixel-mean")
    }


def images_of(run):
    """Test images of a run as (N, 3, H, W) bytes."""
    return torch.from_numpy(open_data(run.read_record().config).test.pixels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["channel", "pixel-mean"])
def test_a_loaded_run_gives_the_recorded_outputs_for_bytes_and_for_floats(runs, name):
    run = runs[name]
    model, images = resnet_cli.load_model(run.path, "last"), images_of(run)
    expected = torch.from_numpy(run.read_predictions().logits)
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model(images / 255), expected, rtol=1e-4, atol=1e-4)
    assert not model.training
    assert model.classes == tuple("0123456789")


def test_the_best_weights_are_loaded_by_default(runs):
    run = runs["channel"]
    best, last = (resnet_cli.load_model(path) for path in (run.path, run.last_weights_path))
    from_file = resnet_cli.load_model(str(run.best_weights_path))
    assert torch.equal(best.network.fc.weight, from_file.network.fc.weight)
    is_same_epoch = run.read_summary().best.epoch == 2
    assert torch.equal(best.network.fc.weight, last.network.fc.weight) == is_same_epoch


def test_the_normalisation_moves_and_is_saved_with_the_network(runs):
    model = resnet_cli.load_model(runs["channel"].path)
    assert {"mean", "std"} < set(model.state_dict())
    double = model.double()
    assert double(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)).dtype == torch.float64


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 16, 16, 3, dtype=torch.uint8), r"shape \(N, 3, H, W\), not \(2, 16, 16, 3\)"),
        (torch.zeros(3, 16, 16), r"shape \(N, 3, H, W\), not \(3, 16, 16\)"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), r"uint8 or floats in \[0, 1\], not torch.int64"),
    ],
)
def test_images_of_another_form_are_refused(runs, images, message):
    with pytest.raises(ValueError, match=message):
        resnet_cli.load_model(runs["channel"].path)(images)


def test_the_mean_image_of_a_bare_weight_file_has_to_be_given(runs):
    path = runs["pixel-mean"].last_weights_path
    with pytest.raises(InputError, match="does not contain the normalisation of its inputs; load its run directory"):
        resnet_cli.load_model(path)
    model = resnet_cli.load_model(path, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_a_file_of_another_project_is_normalised_as_it_was_trained(path):
    network = small_network()
    model = resnet_cli.load_model(save_as_akamaster(network.state_dict(), path))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(model(images), network((images - mean) / std))


def test_a_state_dict_needs_the_architecture_and_the_normalisation(path):
    save_zip(small_network("plain").state_dict(), path)
    with pytest.raises(UsageError, match="could be a plain or an option-A residual network"):
        resnet_cli.load_model(path)
    with pytest.raises(InputError, match=r"does not contain the normalisation of its inputs; pass .*mean and .*std"):
        resnet_cli.load_model(path, arch="plain")
    model = resnet_cli.load_model(path, arch="plain", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    assert model.network.layer1[0].shortcut == "none"
    assert model.classes == ()


def test_the_error_for_a_missing_path_names_it(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        resnet_cli.load_model(tmp_path / "nowhere")
