"""`resnet train`: train one network into one run directory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.config import FIELDS, RunConfig, RunOptions, SaveEvery
from resnet_cli.config_file import INIT_FROM, read_config_file
from resnet_cli.dist import rank
from resnet_cli.errors import ConfigError, InputError, UsageError
from resnet_cli.launch.channel import channel
from resnet_cli.recipes import RECIPE_NAMES, RECIPES, Recipe, change_config, make_config
from resnet_cli.rundir import RunDir, RunRecord
from resnet_cli.util.text import shell_text

if TYPE_CHECKING:
    from resnet_cli.session import Reporter


def _recipe_help(recipe: Recipe) -> str:
    source = f"Source: {recipe.source}. Expected: {recipe.expected}. Cost: {recipe.cost}."
    differences = f" Differences: {recipe.differences}." if recipe.differences else ""
    return f"{recipe.name}: {recipe.summary}. {source}{differences}"


# One string per paragraph: in this markup mode a line break in the source is a line break on the screen.
HELP = "\n\n".join(
    (
        "Train one network and write its run directory.",
        "Running the same command again resumes an incomplete run and leaves a complete one unchanged. "
        "The recipe supplies the value of every option that you omit.",
        "Examples:",
        "  resnet train --recipe demo --arch plain --depth 56",
        "  resnet train --arch resnet --depth 56 --device cuda",
        "  resnet train --arch plain --depth 20 --dataset imagefolder --data-dir DIR --epochs 5",
        "  resnet train --recipe he2015 --arch resnet --depth 110 --out runs/he-110",
        "  resnet train --from runs/he-110 --seed 1",
        "  resnet train --arch resnet --depth 56 --lr 0.01 --init-from runs/resnet-56",
        "  resnet train --config experiment.toml --arch plain --depth 56",
        "  torchrun --nproc-per-node 2 -m resnet_cli train --arch plain --depth 110",
        "Recipes:",
        *map(_recipe_help, RECIPES.values()),
    )
)

_RUN_PANEL = "Run directory"


@config_options(
    *FIELDS,
    recipe=f"Recipe that supplies the defaults: {RECIPE_NAMES} (default: report2025).",
    arch="Architecture: plain or residual (required).",
    depth="Number of weighted layers, 6n+2: 8, 14, 20, …, 1202 (required).",
)
def command(
    *,
    given: dict[str, Any],
    from_run: Annotated[Path | None, typer.Option(
        "--from", metavar="RUN", show_default=False, autocompletion=complete_runs,
        help="Start from the recorded configuration of RUN; other options change it.",
    )] = None,
    config_file: Annotated[Path | None, typer.Option(
        "--config", metavar="FILE", show_default=False,
        help="Start from the configuration in a TOML file, as `resnet show RUN --toml` writes it; other options change "
        "it.",
    )] = None,
    init_from: Annotated[Path | None, typer.Option(
        "--init-from", metavar="RUN_OR_WEIGHTS", show_default=False, autocompletion=complete_runs,
        rich_help_panel="Training",
        help="Start from the last weights of a run, or from a weight file, of the same network (default: the initial "
        "weights that --from or --config records, else random ones).",
    )] = None,
    data_dir: DataDir = None,
    cuda_graph: Annotated[bool, typer.Option(
        "--cuda-graph/--no-cuda-graph", rich_help_panel="Machine",
        help="On an NVIDIA GPU, launch each step as one CUDA graph. Results are unchanged.",
    )] = False,
    out: Annotated[Path | None, typer.Option(
        show_default=False, rich_help_panel=_RUN_PANEL,
        help="Run directory (default: runs/ and a name derived from the configuration; with --from, next to RUN).",
    )] = None,
    save_every: Annotated[str, typer.Option(
        rich_help_panel=_RUN_PANEL, metavar="N[epochs|steps|min]", help="Checkpoint interval."
    )] = "1epoch",
    overwrite: Annotated[bool, typer.Option(
        "--overwrite", rich_help_panel=_RUN_PANEL, help="Start from scratch; removes only files that this tool wrote."
    )] = False,
    accept_changes: Annotated[bool, typer.Option(
        "--accept-changes", rich_help_panel=_RUN_PANEL,
        help="Resume even if this machine cannot reproduce the original device, precision or compile settings.",
    )] = False,
    tensorboard: Annotated[bool, typer.Option(
        "--tensorboard", rich_help_panel="Output",
        help="Also write TensorBoard event files while training (needs: pip install tensorboard).",
    )] = False,
    tensorboard_dir: Annotated[Path | None, typer.Option(
        metavar="DIR", show_default=False, rich_help_panel="Output",
        help="Folder for --tensorboard, which it implies; each run has a subfolder (default: tensorboard/).",
    )] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    options = RunOptions(
        data_dir=str(data_dir) if data_dir else None, save_every=SaveEvery.parse(save_every), cuda_graph=cuda_graph
    )
    output = Output(json=json, quiet=quiet or rank() > 0, is_saved=True)
    how: dict[str, Any] = {"overwrite": overwrite, "accept_changes": accept_changes}
    if from_run is None:
        values = read_config_file(config_file) if config_file else {}
        recorded_start = values.pop(INIT_FROM, None)
        init_from = init_from or (Path(recorded_start) if recorded_start else None)
        config = _config(given, values, config_file)
    elif config_file:
        raise UsageError("--from and --config cannot be combined", hint="omit one of them")
    else:
        record = RunDir(from_run).read_record()
        config = change_config(record.config, **given)
        how |= _recorded(record, config, accept_changes=accept_changes)
        _report_changes(record.config, config, from_run, output)
        is_same_start = init_from is None
        if record.init_from and is_same_start:
            init_from = RunDir(from_run).init_weights_path
        out = out or _out_beside(from_run, record, config, init_from, is_same_start=is_same_start)
    how["init_from"] = init_from
    events = tensorboard_dir or (Path("tensorboard") if tensorboard else None)
    _run(config, out, options, how=how, events=events, output=output)


def _config(given: dict[str, Any], values: dict[str, Any], path: Path | None) -> RunConfig:
    """The configuration in `values`, read from `path` (None: of the recipe), changed by the options in `given`."""
    network = {name: values.get(name, given.get(name)) for name in ("arch", "depth")}
    for name, value in network.items():
        if value is None:
            raise UsageError(
                f"missing option --{name}", hint="for example: resnet train --arch resnet --depth 20, or --from RUN"
            )
    if path is None:
        return make_config(**given)
    try:
        is_whole = len(values) == len(FIELDS)  # such a file needs no recipe
        config = RunConfig.from_dict(values) if is_whole else make_config(**{**values, **network})
    except ConfigError as error:
        raise InputError(f"{path}: {error}") from error
    return change_config(config, **given)


def _recorded(record: RunRecord, config: RunConfig, *, accept_changes: bool) -> dict[str, Any]:
    """The decisions and the data of a run as far as they apply to the changed configuration."""
    machine = ("device", "precision", "compile")
    is_same_machine = all(getattr(config, name) == getattr(record.config, name) for name in machine)
    return {
        "decisions": record.decisions if is_same_machine and not accept_changes else None,
        "recorded_data": record.dataset if config.dataset == record.config.dataset else None,
    }


def _report_changes(before: RunConfig, after: RunConfig, path: Path, output: Output) -> None:
    if changes := before.diff(after):
        output.note(f"changed from {path}: {'; '.join(changes)}")
    has_other_length = (before.epochs, before.steps) != (after.epochs, after.steps)
    if has_other_length and after.milestones and after.milestones == before.milestones:
        listed = ",".join(map(str, after.milestones))
        output.note(f"the milestones stay at {listed}; --milestones moves them")


def _out_beside(
    path: Path, record: RunRecord, config: RunConfig, init_from: Path | None, *, is_same_start: bool
) -> Path:
    """Default directory of a run that starts from the one at `path`: next to it."""
    from resnet_cli.session import default_out
    from resnet_cli.session.initial import find_initial_file

    if record.config == config and is_same_start:
        return path.parent / f"{path.name}-repeat"
    return default_out(config, path.parent, find_initial_file(init_from) if init_from else None)


def _run(
    config: RunConfig, out: Path | None, options: RunOptions, *, how: dict[str, Any], events: Path | None,
    output: Output,
) -> None:  # fmt: skip
    from resnet_cli.cli.train_progress import ChannelReporter, TrainReporter
    from resnet_cli.cli.views import summary_table
    from resnet_cli.session import Reporters, train

    if rank():  # rank 0 reports
        train(config, out, options=options, **how)
        return
    reporters: list[Reporter] = []
    if events:
        from resnet_cli.session.tensorboard import TensorBoardReporter

        reporters.append(TensorBoardReporter(events))
    study = channel()
    with ChannelReporter(study) if study else TrainReporter(output) as reporter:
        result = train(config, out, options=options, reporter=Reporters(reporter, *reporters), **how)
    if result.was_complete:
        output.note(f"{result.run.path} is already complete; use --overwrite to train it again")
        if events:
            run, folder = shell_text(str(result.run.path)), shell_text(str(events))
            output.note(f"to write its events, use: resnet export {run} --to tensorboard --out {folder}")
    document = {
        "path": str(result.run.path), "status": "complete", "was_complete": result.was_complete,
        "run": result.record, "summary": result.summary,
    }  # fmt: skip
    output.result(document, summary_table(result.record, result.summary, result.run.path))
