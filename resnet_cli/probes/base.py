"""What a probe is and what it measures; imports no torch, so that probes of stored files can do without it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.util.seeding import derive_seed

if TYPE_CHECKING:
    from resnet_cli.data.batches import DeviceImages, Normalizer
    from resnet_cli.model import CifarNet
    from resnet_cli.rundir.records import Predictions

Which = Literal["init", "last", "best", "file"]
"""Which weights: the initial ones, which the seed determines, those of a run's last or best epoch, or a weight file."""

Row = dict[str, Any]
"""Column names and plain values (str, int, float, bool or None)."""

Settings = Mapping[str, int | float | str]
"""Settings of one probe by name, which `--set NAME=VALUE` changes. A value keeps the type of its default."""


class Network(NamedTuple):
    """A network with its data. A probe leaves the network unchanged: parameters, gradients, statistics and mode."""

    label: str
    """Name in tables and figures."""
    config: RunConfig
    which: Which
    model: "CifarNet"
    """On the device, fp32, channels last, in eval mode; its parameters require gradients and have none."""
    train: "DeviceImages"
    """All training images of the run, without its validation images."""
    test: "DeviceImages"
    normalizer: "Normalizer"
    initial: Callable[[], "CifarNet"]
    """Build the same network at initialisation, on the same device in eval mode. For a weight file without
    configuration the seed is unknown, and this is a network with the initial weights of seed 0."""
    images: int | None
    """Number of images to measure on, per split, for `choose_images`; None: all."""
    batch_size: int
    """Number of images per batch."""
    seed: int
    """Seed of the probe's random draws. It does not affect which images are chosen."""
    settings: Settings
    """All settings of the probe."""


class StoredPredictions(NamedTuple):
    """Test labels and logits of a network, for a probe that needs nothing else."""

    label: str
    config: RunConfig
    which: Which
    predictions: "Predictions"
    seed: int
    settings: Settings


class Probe(NamedTuple):
    """One measurement, divided into independent units of work.

    Progress is shown per unit, and finished units of a run are kept if the command is interrupted. A unit should take
    at least a second or so and at most a minute.
    """

    reference: str
    """Paper that defines the measurement."""
    units: Callable[[RunConfig, Settings], list[str]]
    """Keys of the units for a network with this configuration, in order: short and unique strings."""
    measure: Callable[[Any, str], list[Row]]
    """Rows of one unit of a `Network` or, where `needs` says so, of `StoredPredictions`. All rows of a probe have
    the same columns."""
    combine: Callable[[list[Network]], list[Row]] | None = None
    """Compare networks that share a dataset; called once with all of them. The rows are printed with `--json`, but not
    stored."""
    needs: Literal["network", "predictions"] = "network"
    which: Which = "last"
    """Default of `--which`."""
    images: int | None = None
    """Default of `--images`."""
    settings: Settings = MappingProxyType({})
    """Default settings."""
    limits: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """Smallest and largest value of each numeric setting."""
    refuse: Callable[[RunConfig], str | None] = lambda config: None
    """Why the probe does not apply to a network with this configuration, as one clause; None if it applies."""


def choose_images(images: "DeviceImages", count: int | None) -> "DeviceImages":
    """Choose `count` images, the classes in proportion; all of them if there are no more (None: all).

    The choice depends on the labels alone, so it is the same for every network and seed of a dataset.
    """
    if count is None or count >= len(images):
        return images
    import torch

    from resnet_cli.data.dataset import stratified_indices

    chosen = stratified_indices(images.labels.cpu().numpy(), count, derive_seed(0, "probe", "images"))
    indices = torch.from_numpy(chosen).to(images.labels.device)
    return type(images)(images.pixels[indices], images.labels[indices])
