"""Data of a configuration or of a recorded run: its folder, its images and the check of its fingerprint."""

import os
from collections.abc import Callable
from pathlib import Path

from resnet_cli.config import RunConfig
from resnet_cli.data.dataset import ALL, Dataset, Limits, Source, prepare
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.rundir.records import DatasetRecord
from resnet_cli.util.progress import Progress, silent

# training images (with those held out for validation), test images, classes, height = width
PUBLISHED_SIZES = {
    "cifar10": (50_000, 10_000, 10, 32),
    "cifar100": (50_000, 10_000, 100, 32),
    "digits": (1_437, 360, 10, 16),
}


def load_source(
    name: str,
    data_dir: Path | None,
    *,
    limits: Limits = ALL,
    offline: bool = False,
    verify: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] | None = None,
) -> Source:
    """Read the dataset `name` from `data_dir` (None: the default folder), downloading it if it is missing.

    Args:
        name: `cifar10`, `cifar100`, `digits` or `imagefolder`; `arrays` exist in memory only.
        data_dir: folder of the dataset; ignored for `digits`, which is embedded.
        limits: checked before anything is downloaded or decoded; of an image folder, only the images are decoded that
            `prepare` keeps with these limits. The other datasets are read in full.
        offline: never download, so that nothing is written to `data_dir`.
        verify: decode images again and compare them with the cache, if there is one, without writing anything;
            the other datasets are verified on every call.
        progress: receives the bytes downloaded, then the files or images read.
        warn: receives a message when decoded images cannot be cached.

    Raises:
        ConfigError: the dataset needs a `data_dir`, exists in memory only, or is too small for `limits`.
        InputError: files are missing, damaged or not in the expected format.
    """
    if name == "arrays":
        raise ConfigError(
            "the images were passed from Python and are not stored",
            hint="pass them again: train(config, dataset=(train, test))",
        )
    if name in PUBLISHED_SIZES:
        limits.check(*PUBLISHED_SIZES[name][:3])
    if name == "digits":
        from resnet_cli.data.digits import load_digits

        return load_digits()
    if name == "imagefolder":
        from resnet_cli.data.imagefolder import load_imagefolder

        return load_imagefolder(data_dir, limits=limits, verify=verify, progress=progress, warn=warn)
    from resnet_cli.data.cifar import load_cifar

    return load_cifar(name, data_dir, offline=offline, progress=progress)


def open_data(
    config: RunConfig,
    *,
    data_dir: Path | None = None,
    recorded: DatasetRecord | None = None,
    run: Path | None = None,
    allow_other_data: bool = False,
    override: str | None = None,
    offline: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] | None = None,
    load: Callable[..., Source] = load_source,
) -> Dataset:
    """Open the training, validation and test images of `config`.

    The folder is `data_dir` if given, else the recorded folder if it still exists, else the default folder. A recorded
    folder is only read, since it may belong to another user.

    Args:
        config: supplies the name of the dataset, the subsets, the validation split and its seed.
        data_dir: folder given by the user (`--data-dir`).
        recorded: the data that an earlier run used.
        run: directory of that run, for the error message.
        allow_other_data: accept data whose fingerprint differs from the recorded one.
        override: option that makes the command accept other data, for the error message.
        offline, progress, warn: as for `load_source`.
        load: replaces `load_source`, for example by a cached version when several runs share their data.

    Raises:
        ConfigError: the dataset needs a `data_dir`, or a subset does not fit the data.
        InputError: files are missing or damaged, or the data are not the recorded ones.
    """
    folder = data_dir
    if folder is None and recorded and recorded.location and os.path.isdir(recorded.location):
        folder, offline = Path(recorded.location), True
    limits = Limits(config.limit_train, config.limit_test, config.val_size)
    dataset = prepare(
        load(config.dataset, folder, limits=limits, offline=offline, progress=progress, warn=warn),
        limit_train=config.limit_train,
        limit_test=config.limit_test,
        val_size=config.val_size,
        seed=config.seed,
    )
    if recorded and dataset.fingerprint != recorded.fingerprint and not allow_other_data:
        raise InputError(
            f"{run or 'the run'} was trained on other data: its record has fingerprint {recorded.fingerprint[:12]}, "
            f"{dataset.location or dataset.display_name} has {dataset.fingerprint[:12]}",
            hint=("pass the original images" if config.dataset == "arrays" else "pass the original --data-dir")
            + (f", or {override}" if override else ""),
        )
    return dataset
