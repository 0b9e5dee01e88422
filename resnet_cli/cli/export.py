"""`resnet export`: networks and results in the formats of other tools."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import DataDir, Json, Quiet, Std, config_options, parse_rgb, rgb_option
from resnet_cli.cli.output import Output
from resnet_cli.cli.views import facts
from resnet_cli.errors import UsageError
from resnet_cli.rundir import find_runs
from resnet_cli.util.text import printable, shell_text

if TYPE_CHECKING:
    from resnet_cli.weights.export import Exported

# One string per paragraph: in this markup mode a line break in the source is a line break on the screen.
HELP = "\n\n".join(
    (
        "Export a network with the normalisation of its inputs, or the results of runs, for other tools.",
        "safetensors: one weight file that `load_model` and `resnet eval` read without the run directory.",
        "hf: a folder for the Hugging Face Hub with weights, config.json and a model card.",
        "torch-export: a PyTorch program (torch.export.load) that needs nothing but PyTorch.",
        "onnx: an ONNX model (needs: pip install onnx onnxscript onnxruntime).",
        "The two programs take images (N, 3, H, W) as float32 in \\[0, 1]. Their logits are compared with those of the "
        "network on 256 test images, and the largest difference is printed.",
        "tensorboard: event files of any number of runs: scalars, gradient flow, figures and hyperparameters "
        "(needs: pip install tensorboard). The options for weights and data do not apply.",
        "Examples:",
        "  resnet export runs/resnet-56 --to onnx",
        "  resnet export runs/resnet-56 --to hf --which best --out resnet-56",
        "  resnet export runs/resnet-56 --to safetensors --out resnet56.safetensors",
        "  resnet export resnet56.th --to torch-export --data-dir ~/data",
        "  resnet export runs/ --to tensorboard --out tensorboard",
        "  resnet export runs/resnet-56 --to onnx --json | jq .check.max_difference",
    )
)


@config_options(
    arch="Architecture, plain or residual; needed for weight files that do not determine it.",
    dataset="Dataset whose test images the exported network is checked on (default: from the run or file, else "
    "cifar10).",
)
def command(
    *,
    paths: Annotated[list[Path], typer.Argument(
        metavar="RUN_OR_WEIGHTS", show_default=False,
        help="Run directory or weight file; for tensorboard, any number of runs and folders to search for them.",
        autocompletion=complete_runs,
    )],
    to: Annotated[Literal["safetensors", "hf", "torch-export", "onnx", "tensorboard"], typer.Option(
        show_default=False, help="Format to export to."
    )],
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", metavar="PATH", show_default=False,
        help="File, or folder of hf and tensorboard (default: named after the run, in the current folder; "
        "tensorboard/).",
    )] = None,
    which: Annotated[Literal["last", "best"] | None, typer.Option(
        show_default=False, help="Weights of the run to export (default: last)."
    )] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")] = False,
    given: dict[str, Any],
    mean: Annotated[str | None, rgb_option(
        help="Per-channel mean for pixels in [0, 1]; needed for weight files that do not determine it."
    )] = None,
    std: Std = None,
    data_dir: DataDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """See `HELP`."""
    rgb_mean, rgb_std = parse_rgb("--mean", mean), parse_rgb("--std", std)
    output = Output(json=json, quiet=quiet, is_saved=True)
    if to == "tensorboard":
        network_options = {**given, "which": which, "mean": mean, "std": std, "data_dir": data_dir}
        for name, value in network_options.items():
            if value is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} does not apply to --to tensorboard", hint=f"omit {option}")
        _export_events(paths, out or Path("tensorboard"), output)
        return
    if len(paths) > 1:
        raise UsageError(
            f"--to {to} exports one network at a time (got {len(paths)} paths)", hint="name one run or weight file"
        )
    output.loading_torch()
    from resnet_cli.weights.export import ExportOptions, export

    options = ExportOptions(
        **given, mean=rgb_mean, std=rgb_std, which=which, data_dir=data_dir, overwrite=overwrite
    )  # fmt: skip
    with output.progress() as progress:
        exported = export(paths[0], to, out, options, progress=progress)
    document = {
        "path": str(exported.path), "format": to, "files": [str(file) for file in exported.files],
        "subject": str(paths[0]), "network": exported.network, "which": exported.which,
        "check": exported.check._asdict() if exported.check else None,
    }  # fmt: skip
    output.result(document, None if json else facts(f"{exported.network} as {to}", _rows(exported)))


def _export_events(paths: list[Path], out: Path, output: Output) -> None:
    from resnet_cli.analysis.tensorboard import export_runs
    from resnet_cli.util.extras import require_extra

    require_extra("tensorboard", "--to tensorboard")
    written = export_runs(find_runs(paths), out, warn=output.warn)
    document = {
        "path": str(out), "format": "tensorboard", "files": [str(file) for file in written],
        "subjects": [str(run.path) for run in written.values()],
    }  # fmt: skip
    output.result(document, None)
    if not output.json:
        output.raw("\n".join(printable(str(file)) for file in written))
    output.note(f"to look at them: tensorboard --logdir {shell_text(str(out))}")


def _rows(exported: "Exported") -> list[tuple[str, str]]:
    rows = [("written", str(file)) for file in exported.files]
    if check := exported.check:
        rows += [
            ("compared on", f"{check.num_images} test images"),
            ("largest difference", f"{check.max_difference:.2g} (logits up to {check.largest_logit:.3g})"),
            ("same prediction", f"{check.num_same_predictions} of {check.num_images} images"),
        ]
    return rows
