"""Open the network of a subject, with its data, on a device."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from resnet_cli.data import Dataset, load_source, open_data
from resnet_cli.measure.subjects import Subject
from resnet_cli.probes.base import Network, Settings
from resnet_cli.util.progress import Progress

if TYPE_CHECKING:
    import torch

    from resnet_cli.model import CifarNet

# torch is imported inside functions: the predictions of a run can be measured without it


class Opener:
    """Opens networks one after another; subjects of one dataset share its images.

    Args:
        data_dir: folder of the datasets; None: that of the run, else the default.
        device: as for `RunConfig`.
        progress: receives the progress of reading data.
    """

    def __init__(self, data_dir: Path | None, device: str, progress: Progress) -> None:
        self._data_dir, self._device, self._progress = data_dir, device, progress
        self._load = functools.lru_cache(maxsize=1)(load_source)

    def data(self, subject: Subject) -> Dataset:
        """Open the dataset of a subject.

        Raises:
            InputError: the data cannot be read, or are not those of the run or the weight file.
        """
        run, weights = subject.run, subject.weights
        dataset = open_data(
            subject.config, data_dir=self._data_dir, recorded=run.read_record().dataset if run else None,
            run=run.path if run else None, progress=self._progress, load=self._load,
        )  # fmt: skip
        if not weights:
            return dataset
        weights.check_fits(dataset)
        mean, std = weights.normalization or (dataset.mean, dataset.std)
        return msgspec.structs.replace(dataset, mean=mean, std=std)

    def device(self, subject: Subject) -> "torch.device":
        """Decide the device; everything is measured in fp32, so that runs of any precision can be compared."""
        from resnet_cli.device import decide

        changes = {"device": self._device, "precision": "fp32", "compile": "off"}
        return decide(msgspec.structs.replace(subject.config, **changes)).device

    def network(
        self, subject: Subject, *, images: int | None, batch_size: int, seed: int, settings: Settings
    ) -> Network:
        """Open a network for a probe; the arguments are fields of `Network`.

        Raises:
            InputError: data or weights cannot be read, or do not fit together.
        """
        from resnet_cli.data.batches import DeviceImages, Normalizer

        dataset, device, config = self.data(subject), self.device(subject), subject.config
        num_classes = len(dataset.classes)
        return Network(
            subject.label, config, subject.which, _place(load_model(subject, num_classes), device),
            DeviceImages.on(device, dataset.train), DeviceImages.on(device, dataset.test),
            Normalizer.for_dataset(
                dataset, config.normalization, device, subject.weights.mean_image if subject.weights else None
            ),
            lambda: _place(load_model(Subject("", config, "init", subject.run), num_classes), device),
            images, batch_size, seed, settings,
        )  # fmt: skip


def load_model(subject: Subject, num_classes: int) -> "CifarNet":
    """Build the network of a subject with its weights, on the CPU.

    Raises:
        InputError: the weights cannot be read, or are not those of the run.
    """
    from resnet_cli.model import build_model
    from resnet_cli.weights import load_initial_weights, load_run_weights

    config, which = subject.config, subject.which
    model = build_model(config.arch, config.depth, config.shortcut, num_classes, seed=config.seed)
    if subject.weights:
        model.load_state_dict(subject.weights.state_dict)
    elif subject.run and which in ("last", "best"):
        model.load_state_dict(load_run_weights(subject.run, which).state_dict)
    elif subject.run and (initial := load_initial_weights(subject.run)):
        model.load_state_dict(initial.state_dict)
    return model


def _place(model: "CifarNet", device: "torch.device") -> "CifarNet":
    import torch

    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
