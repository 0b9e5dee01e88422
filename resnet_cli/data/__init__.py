"""Datasets: sources, verification, and batches that live on the device."""

from pathlib import Path

from resnet_cli.config import RunConfig
from resnet_cli.data.dataset import Dataset, Images, Source, prepare
from resnet_cli.util.progress import Progress, silent

__all__ = ["Dataset", "Images", "Source", "load_dataset", "load_source", "prepare"]


def load_source(name: str, data_dir: Path | None, *, progress: Progress = silent) -> Source:
    """Read dataset `name` from `data_dir` (None: the default place), downloading what can be downloaded.

    Raises:
        ConfigError: the dataset needs a `data_dir`.
        InputError: files are missing, damaged, or not what they should be.
    """
    if name == "digits":
        from resnet_cli.data.digits import load_digits

        return load_digits()
    if name == "imagefolder":
        from resnet_cli.data.imagefolder import load_imagefolder

        return load_imagefolder(data_dir, progress=progress)
    from resnet_cli.data.cifar import load_cifar

    return load_cifar(name, data_dir, progress=progress)


def load_dataset(config: RunConfig, data_dir: Path | None = None, *, progress: Progress = silent) -> Dataset:
    """The data that `config` trains and tests on; raises as `load_source` and `prepare` do."""
    return prepare(
        load_source(config.dataset, data_dir, progress=progress),
        limit_train=config.limit_train,
        limit_test=config.limit_test,
        val_size=config.val_size,
        seed=config.seed,
    )
