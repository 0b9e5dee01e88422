"""Apply a probe to the networks of runs, or to newly initialised networks."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from resnet_cli.config import RunConfig
from resnet_cli.data import load_source, open_data
from resnet_cli.errors import UsageError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.util.progress import Progress, silent
from resnet_cli.util.resources import translate_errors

if TYPE_CHECKING:
    import pandas as pd

    from resnet_cli.model import CifarNet

# torch and pandas are imported inside functions, so that a wrong option or a missing run is reported without them.

Which = Literal["init", "last", "best"]
"""Which weights of a run: the initial ones, which its seed determines, or those of its last or best epoch."""


class Subject(NamedTuple):
    """One network to measure."""

    label: str  # in tables and figures
    config: RunConfig  # supplies the network, the data and the seed
    which: Which
    run: RunDir | None = None  # None: a newly initialised network


def fresh_subjects(
    *, arch: str | None = None, depth: int = 56, shortcut: str | None = None, seed: int = 0, dataset: str = "digits"
) -> list[Subject]:
    """Describe networks with initial weights: of `arch`, or a plain and a residual one (None).

    Raises:
        ConfigError: a value is not valid.
        UsageError: `shortcut` was given for a plain network alone.
    """
    if arch == "plain" and shortcut not in (None, "none"):
        raise UsageError(f"--shortcut {shortcut} does not fit --arch plain, which has no shortcuts")
    shortcuts = {"plain": "none", "resnet": shortcut or "A"}
    configs = [
        make_config("demo", arch=name, depth=depth, shortcut=shortcuts[name], seed=seed, dataset=dataset)
        for name in ([arch] if arch else shortcuts)
    ]
    return [Subject(config.network, config, "init") for config in configs]


def run_subjects(paths: list[Path], which: Which) -> list[Subject]:
    """Describe the networks of run directories.

    The label is the name of the network, or of the folder if several runs train the same network.

    Raises:
        RunFileError: a run cannot be read.
    """
    paths = list(dict.fromkeys(paths))
    runs = [RunDir(path) for path in paths]
    configs = [run.read_record().config for run in runs]
    choices = ([config.network for config in configs], [path.name for path in paths], [str(path) for path in paths])
    labels = next(labels for labels in choices if len(set(labels)) == len(paths))
    return [Subject(label, config, which, run) for label, config, run in zip(labels, configs, runs, strict=True)]


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
    from resnet_cli.device import decide

    frames = []
    load = functools.lru_cache(maxsize=1)(load_source)  # the runs of a study share their data
    for number, subject in enumerate(subjects):
        progress("measuring", number, len(subjects), "networks")
        run = subject.run
        config = msgspec.structs.replace(subject.config, device=device, precision="fp32", compile="off")
        dataset = open_data(
            config, data_dir=data_dir, recorded=run.read_record().dataset if run else None,
            run=run.path if run else None, progress=progress, load=load,
        )  # fmt: skip
        setup = decide(config)
        with translate_errors(batch_size=batch_size):
            rows = probe(
                _load_model(subject, len(dataset.classes)).to(setup.device),
                DeviceImages.on(setup.device, dataset.train),
                Normalizer.for_dataset(dataset, config.normalization, setup.device),
                batch_size=batch_size,
                seed=config.seed,
            )
        identity = {
            "label": subject.label, "network": config.network, "which": subject.which,
            "dataset": dataset.display_name, "seed": config.seed,
        }  # fmt: skip
        frames.append(pd.concat([pd.DataFrame([identity] * len(rows)), rows], axis=1))
    progress("measuring", len(subjects), len(subjects), "networks")
    return pd.concat(frames, ignore_index=True)


def _load_model(subject: Subject, num_classes: int) -> "CifarNet":
    from resnet_cli.model import build_model
    from resnet_cli.weights import load_run_weights

    config = subject.config
    model = build_model(config.arch, config.depth, config.shortcut, num_classes, seed=config.seed)
    if subject.run and subject.which != "init":
        model.load_state_dict(load_run_weights(subject.run, subject.which).state_dict)
    return model
