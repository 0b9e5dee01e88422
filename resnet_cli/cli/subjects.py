"""Options that choose the networks of `resnet gradflow` and `resnet probe`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnet_cli.cli.output import Output
from resnet_cli.errors import UsageError

if TYPE_CHECKING:
    from resnet_cli.measure import Subject

Which = Literal["init", "last", "best"]


def new_networks(which: Which | None, given: dict[str, Any], seeds: range) -> "list[Subject]":
    """Networks with initial weights, for a command without arguments: those of the first seed come first.

    Args:
        which: value of --which.
        given: the options arch, depth, shortcut and dataset that were given.
        seeds: of the initial weights.

    Raises:
        UsageError: an option does not fit, or --which asks for weights of a run.
    """
    from resnet_cli.measure import fresh_subjects

    if which not in (None, "init"):
        raise UsageError(f"--which {which} needs a run directory", hint="name one, or omit --which")
    return [subject for seed in seeds for subject in fresh_subjects(**given, seed=seed)]


def saved_networks(
    paths: list[Path], which: Which | None, given: dict[str, Any], output: Output, *, only_new: tuple[str, ...] = ()
) -> "list[Subject]":
    """Networks of runs, folders of runs and weight files.

    Args:
        paths: the arguments of the command.
        which: value of --which (None: last).
        given: the options that were given; weight files may need those that describe a network.
        output: receives one warning for each run that is skipped.
        only_new: names of options that apply to new networks alone.

    Raises:
        InputError: a path does not exist or cannot be read, or there is no complete run.
        UsageError: an option does not apply to what was named.
    """
    from resnet_cli.measure import saved_subjects

    files = [path for path in paths if os.path.isfile(path)]
    if files and which:
        raise UsageError(f"--which {which} applies to runs, but {files[0]} is a file", hint="omit --which")
    for name, value in given.items():
        if name in only_new or not files:
            raise UsageError(
                f"--{name} {value} cannot be combined with run directories, which record their own network and data"
                if not files
                else f"--{name} {value} applies to new networks, but {files[0]} is a file",
                hint=f"omit --{name}",
            )
    return saved_subjects(paths, which or "last", warn=output.warn, **given)
