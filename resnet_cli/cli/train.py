"""`resnet train`: one run, one run directory."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet
from resnet_cli.cli.output import Output
from resnet_cli.config import (
    Arch,
    Augment,
    CompileMode,
    DatasetName,
    Device,
    Normalization,
    Precision,
    RunConfig,
    RunOptions,
    SaveEvery,
)
from resnet_cli.errors import UsageError

if TYPE_CHECKING:
    from resnet_cli.rundir import RunRecord

HELP = """Train one network; the result is a run directory that explains itself.

Running the same command again resumes an unfinished run and leaves a finished one as it is.
Options that are not given come from the recipe:
report2025 (200 epochs on CIFAR-10), he2015 (64k steps, 45k/5k split), demo (10 epochs on embedded digits).

Examples:

  resnet train --recipe demo --arch plain --depth 56

  resnet train --arch resnet --depth 56 --device cuda

  resnet train --arch plain --depth 20 --dataset imagefolder --data-dir DIR --epochs 5

  resnet train --recipe he2015 --arch resnet --depth 110 --out runs/he-110

  resnet train --from runs/he-110 --out runs/he-110-again
"""

_RECIPE = "Recipe (default: as the recipe says)"
_MACHINE = "Machine"
_RUN = "Run directory"


def command(
    arch: Annotated[
        Arch | None, typer.Option(help="Plain network or its residual twin. Required.", show_default=False)
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Number of weighted layers, 6n+2: 8, 14, 20, … 1202. Required.", show_default=False),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            show_default=False,
            help="Repeat this run from its own record, instead of --arch, --depth and all options of the recipe.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Where all other defaults come from: report2025, he2015, demo. Default: report2025.",
            show_default=False,
        ),
    ] = None,
    shortcut: Annotated[
        str | None,
        typer.Option(
            help="A: identity and zero-padding; B: 1×1 projection. Default: A; plain networks have none.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of weights, order, augmentation and validation split. Default: 0.", show_default=False),
    ] = None,
    dataset: Annotated[
        DatasetName | None, typer.Option(show_default=False, rich_help_panel="Data", help="Dataset.")
    ] = None,
    data_dir: DataDir = None,
    limit_train: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel="Data", help="Keep N training images, stratified.")
    ] = None,
    limit_test: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel="Data", help="Keep N test images, stratified.")
    ] = None,
    val_size: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel="Data", help="Split N validation images off.")
    ] = None,
    augment: Annotated[
        Augment | None,
        typer.Option(
            show_default=False, rich_help_panel="Data", help="crop: zero-pad 4 and crop; crop-flip: and mirror."
        ),
    ] = None,
    normalization: Annotated[
        Normalization | None,
        typer.Option(show_default=False, rich_help_panel="Data", help="Per-channel mean and std, or the mean image."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="Length in epochs.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="Length in optimizer steps instead.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="Images a step.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", show_default=False, rich_help_panel=_RECIPE, help="Initial learning rate.")
    ] = None,
    momentum: Annotated[float | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="Of SGD.")] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(show_default=False, rich_help_panel=_RECIPE, help="On all parameters, as He et al. trained."),
    ] = None,
    milestones: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            rich_help_panel=_RECIPE,
            metavar="N,N,…",
            help="Where lr drops, in epochs (with --steps: in steps); none: nowhere.",
        ),
    ] = None,
    lr_decay: Annotated[
        float | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="Factor of a drop.")
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="First steps at --warmup-lr.")
    ] = None,
    warmup_lr: Annotated[
        float | None, typer.Option(show_default=False, rich_help_panel=_RECIPE, help="Constant lr of the warm-up.")
    ] = None,
    clean_train_every: Annotated[
        int | None,
        typer.Option(
            show_default=False,
            rich_help_panel="Measurements",
            help="Epochs between clean training errors; 0: at the end.",
        ),
    ] = None,
    gradflow_every: Annotated[
        int | None,
        typer.Option(
            show_default=False, rich_help_panel="Measurements", help="Epochs between gradient norms; 0: never."
        ),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(
            show_default=False, rich_help_panel=_MACHINE, help="Where to compute. Default: auto, the fastest there is."
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            show_default=False,
            rich_help_panel=_MACHINE,
            help="Default: auto, tf32 on NVIDIA GPUs that have it, else fp32.",
        ),
    ] = None,
    compile_mode: Annotated[
        CompileMode | None,
        typer.Option(
            "--compile",
            show_default=False,
            rich_help_panel=_MACHINE,
            help="torch.compile. Default: auto, where a run is long enough to repay it.",
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            rich_help_panel=_MACHINE,
            help="Deterministic GPU kernels (a CPU is deterministic anyway).",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            rich_help_panel=_RUN,
            help="Run directory. Default: runs/ and a name made of the configuration.",
        ),
    ] = None,
    save_every: Annotated[
        str, typer.Option(rich_help_panel=_RUN, metavar="N[epochs|steps|min]", help="Time between checkpoints.")
    ] = "1epoch",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=_RUN, help="Start afresh; removes only what this tool wrote.")
    ] = False,
    cuda_graph: Annotated[
        bool,
        typer.Option(rich_help_panel=_MACHINE, help="On a GPU: launch a whole step as one graph. Same numbers."),
    ] = True,
    json: Json = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            rich_help_panel=_RUN,
            help="Continue a run on a machine that cannot compute as it began.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    given: dict[str, Any] = {
        "recipe": recipe, "arch": arch, "depth": depth, "seed": seed, "shortcut": shortcut, "dataset": dataset,
        "limit_train": limit_train, "limit_test": limit_test, "val_size": val_size, "augment": augment,
        "normalization": normalization, "epochs": epochs, "steps": steps, "batch_size": batch_size, "lr": lr,
        "momentum": momentum, "weight_decay": weight_decay, "milestones": _milestones(milestones),
        "lr_decay": lr_decay, "warmup_steps": warmup_steps, "warmup_lr": warmup_lr,
        "clean_train_every": clean_train_every, "gradflow_every": gradflow_every, "device": device,
        "precision": precision, "compile": compile_mode, "deterministic": deterministic or None,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    options = RunOptions(
        data_dir=str(data_dir) if data_dir else None, save_every=SaveEvery.parse(save_every), cuda_graph=cuda_graph
    )
    how: dict[str, Any] = {"overwrite": overwrite, "accept_changes": accept_changes}
    if from_run is None:
        config = _config(given)
    else:
        record = _record(from_run, given)
        config = record.config
        how["decisions"] = None if accept_changes else record.decisions
        how["recorded_data"] = record.dataset
        out = out or from_run.parent / f"{from_run.name}-repeat"
    _run(config, out, options, how=how, output=Output(json=json, quiet=quiet))


def _config(given: dict[str, Any]) -> RunConfig:
    from resnet_cli.recipes import make_config

    for name in ("arch", "depth"):
        if name not in given:
            raise UsageError(f"Missing option '--{name}'", hint="--arch resnet --depth 20, say, or --from RUN")
    return make_config(given.pop("recipe", "report2025"), **given)


def _record(path: Path, given: dict[str, Any]) -> "RunRecord":
    """The record of the run at `path`; options of a configuration cannot be combined with it."""
    from resnet_cli.rundir import RunDir

    for name in given:
        raise UsageError(f"--{name.replace('_', '-')} does not go with --from: the run at {path} says it")
    return RunDir(path).read_record()


def _run(config: RunConfig, out: Path | None, options: RunOptions, *, how: dict[str, Any], output: Output) -> None:
    from resnet_cli.cli.train_progress import TrainReporter, summary_table
    from resnet_cli.session import train

    with TrainReporter(output) as reporter:
        result = train(config, out, options=options, reporter=reporter, argv=sys.argv, **how)
    if result.was_complete:
        output.note(f"{result.run.path} is complete already; --overwrite trains it again")
    document = {
        "path": str(result.run.path),
        "status": "complete",
        "was_complete": result.was_complete,
        "run": result.record,
        "summary": result.summary,
    }
    output.result(document, summary_table(result.record, result.summary, result.run.path))


def _milestones(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if text.strip() in ("", "none"):
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--milestones {text!r} is not a list of numbers", hint="use 80,120 or none") from None
