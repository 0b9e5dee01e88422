"""Apply a function such as `measure_gradflow` to several networks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.measure.opening import Opener, load_model
from resnet_cli.measure.subjects import Subject
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors

if TYPE_CHECKING:
    import pandas as pd


def measure(
    subjects: list[Subject],
    probe: "Callable[..., pd.DataFrame]",
    *,
    batch_size: int = 128,
    data_dir: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> "pd.DataFrame":
    """Apply `probe` to each network, with the training images of its own configuration.

    Everything is measured in fp32, so that runs of any precision can be compared.

    Args:
        subjects: networks to measure.
        probe: measures a network, with its own training images, and leaves it unchanged: takes the arguments model,
            images, normalizer, batch_size and seed of `resnet_cli.probes.gradflow.measure_gradflow`.
        batch_size: number of images per batch.
        data_dir: folder of the datasets; None: that of the run, else the default.
        device: as for `RunConfig`.
        progress: receives the number of networks done.

    Returns:
        The rows of the probe for every network, after the columns label, network, which, dataset and seed.

    Raises:
        InputError: data or weights cannot be read, or are not those of the run.
        ConfigError: there are too few images.
        ResnetError: the batch does not fit into memory.
    """
    import pandas as pd

    from resnet_cli.data.batches import DeviceImages, Normalizer

    frames = []
    opener = Opener(data_dir, device, progress)
    for number, subject in enumerate(subjects):
        progress("measuring", number, len(subjects), "networks")
        dataset, target = opener.data(subject), opener.device(subject)
        with translate_errors(batch_size=batch_size):
            rows = probe(
                load_model(subject, len(dataset.classes)).to(target),
                DeviceImages.on(target, dataset.train),
                Normalizer.for_dataset(dataset, subject.config.normalization, target),
                batch_size=batch_size,
                seed=subject.config.seed,
            )
        frames.append(subject.identify(dataset.display_name, rows))
    progress("measuring", len(subjects), len(subjects), "networks")
    return pd.concat(frames, ignore_index=True)
