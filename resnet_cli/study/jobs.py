"""The runs of a study: a grid of configurations, and the state of the run directory of each."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from resnet_cli.config import RunConfig
from resnet_cli.errors import UsageError
from resnet_cli.launch import Task
from resnet_cli.recipes import change_config, make_config, train_arguments
from resnet_cli.rundir import RunDir
from resnet_cli.study_file import Grid

State = Literal["done", "diverged", "running", "resume", "todo"]

WARMUP_STEPS = 400
WARMUP_FACTOR = 0.1
"""The warm-up arm: He et al. 2015, section 4.2, warm up at a tenth of the rate for about 400 iterations."""

ARMS = ("warmup",)


class Job(NamedTuple):
    """One run of a study."""

    config: RunConfig
    out: Path
    """Its run directory."""
    state: State

    @property
    def name(self) -> str:
        """Network, arm and seed, for messages: `plain-56, seed 0`."""
        network = self.out.name.removesuffix(f"-seed{self.config.seed}")
        return f"{network}, seed {self.config.seed}"

    def arguments(self, *, data_dir: Path | None = None) -> list[str]:
        """Arguments of `resnet` that start or resume the run."""
        return [*train_arguments(self.config, data_dir=str(data_dir) if data_dir else None), "--out", str(self.out)]

    def task(self, *options: str, data_dir: Path | None = None) -> Task:
        """The task that starts or resumes the run, with more options of `resnet train`."""
        return Task(self.name, [*self.arguments(data_dir=data_dir), *options, "--quiet"])


def grid_configs(grid: Grid) -> dict[str, RunConfig]:
    """The configurations of a grid by the name of their run directory, in the order in which they are trained.

    Raises:
        ConfigError: a depth, a seed or an option is not valid.
        UsageError: an arm does not exist, or does not differ from the main one.
    """
    for arm in grid.arms:
        if arm not in ARMS:
            raise UsageError(f"unknown --arm {arm}", hint=f"use {' or '.join(ARMS)}")
    configs: dict[str, RunConfig] = {}
    for seed in grid.seeds:
        main = [_config(grid, arch=arch, depth=depth, seed=seed) for depth in grid.depths for arch in grid.archs]
        configs |= {f"{config.network}-seed{seed}": config for config in main}
        if grid.arms:
            configs |= {
                f"{config.network}-warmup-seed{seed}": _with_warmup(config) for config in main if config.arch == "plain"
            }
    return configs


def _config(grid: Grid, *, arch: str, depth: int, seed: int) -> RunConfig:
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in grid.options.items()
    }
    if arch == "plain":
        options.pop("shortcut", None)
    return make_config(grid.recipe, arch=arch, depth=depth, seed=seed, **options)


def _with_warmup(config: RunConfig) -> RunConfig:
    if config.warmup_steps:
        raise UsageError(
            f"--arm warmup: {config.network} of recipe {config.recipe} has {config.warmup_steps} warm-up steps already",
            hint="omit --arm, or add --warmup-steps 0",
        )
    # rounded, so that 0.1 × 0.1 is the 0.01 that a user would type, and such runs have the same label
    return change_config(config, warmup_steps=WARMUP_STEPS, warmup_lr=float(f"{config.lr * WARMUP_FACTOR:.12g}"))


def plan(configs: Iterable[RunConfig] | dict[str, RunConfig], folder: Path) -> list[Job]:
    """Plan one job per configuration, with a run directory in `folder`; writes nothing.

    Args:
        configs: configurations that differ in network or seed; or a dictionary that also names their run directories.
        folder: the folder of the run directories.

    Raises:
        UsageError: two configurations would share a run directory, or one contains a run with another configuration or
            with given initial weights.
        RunFileError: a run.json cannot be read.
    """
    if not isinstance(configs, dict):
        named: dict[str, RunConfig] = {}
        for config in configs:
            name = f"{config.network}-seed{config.seed}"
            if named.setdefault(name, config) != config:
                raise UsageError(f"two configurations have the name {name}", hint="pass a dictionary of names")
        configs = named
    return [Job(config, folder / name, _state(config, RunDir(folder / name))) for name, config in configs.items()]


def _state(config: RunConfig, run: RunDir) -> State:
    states: dict[str, State] = {"complete": "done", "diverged": "diverged", "running": "running", "empty": "todo"}
    state = states.get(run.status(), "resume")
    if state == "todo":
        return state
    record = run.read_record()
    if record.config != config:
        raise UsageError(
            f"{run.path} contains a run with a different configuration ({'; '.join(record.config.diff(config))})",
            hint="choose another --out",
        )
    if record.init_from:
        raise UsageError(
            f"{run.path} contains a run that started from {record.init_from.path}, not from random weights",
            hint="choose another --out",
        )
    return state
