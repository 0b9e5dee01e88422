"""`resnet eval`: metrics of a trained network, from a run directory or a weight file."""

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import DataDir, Json, Quiet, Std, config_options, parse_rgb, rgb_option
from resnet_cli.cli.output import Output
from resnet_cli.util.text import printable

if TYPE_CHECKING:
    from resnet_cli.analysis.metrics import Metrics
    from resnet_cli.evaluation import EvalReport

# One string per paragraph: this markup mode keeps line breaks.
HELP = "\n\n".join(
    (
        "Evaluate a run or a weight file: accuracy, per-class metrics, confusion matrix and calibration.",
        "A run directory records its own network and test set. A weight file can come from this tool, from "
        "akamaster/pytorch_resnet_cifar10, from chenyaofo/pytorch-cifar-models, or be another PyTorch state dict with "
        "the same tensor names. Formats are detected from tensor names; code in the file is never executed. Plain and "
        "option-A residual networks have identical tensors, so pass --arch for files without metadata.",
        "Intervals are 95 % Wilson intervals; the expected calibration error (ECE) uses 15 bins.",
        "Examples:",
        "  resnet eval runs/demo-resnet-56 --which best",
        "  resnet eval resnet56.th --data-dir ~/data",
        "  resnet eval weights.pt --arch plain --depth 20 --limit-test 1000",
        "  resnet eval weights.pt --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26",
        "  resnet eval runs/demo-resnet-56 --json | jq .accuracy_pct",
    )
)


@config_options(
    *("limit_test", "device"),
    arch="Architecture, plain or residual; needed for weight files that do not determine it.",
    depth="Number of weighted layers, 6n+2 (default: from the run or file).",
    shortcut="Shortcut where the shape changes: none (plain), A (zero-padding) or B (1×1 projection) "
    "(default: from the run or file).",
    dataset="Dataset to evaluate on (default: from the run or file, else cifar10).",
    precision="Numeric precision of the forward pass (default: fp32).",
)
def command(
    *,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_WEIGHTS",
            show_default=False,
            help="Run directory or weight file.",
            autocompletion=complete_runs,
        ),
    ],
    which: Annotated[
        Literal["last", "best"] | None,
        typer.Option(show_default=False, help="Weights of the run to evaluate (default: last)."),
    ] = None,
    given: dict[str, Any],
    mean: Annotated[
        str | None,
        rgb_option(help="Per-channel mean for pixels in [0, 1] (default: from the file, else from the dataset)."),
    ] = None,
    std: Std = None,
    data_dir: DataDir = None,
    split: Annotated[
        Literal["test", "train", "val"], typer.Option(rich_help_panel="Data", help="Split to evaluate.")
    ] = "test",
    allow_other_data: Annotated[
        bool,
        typer.Option("--allow-other-data", rich_help_panel="Data", help="Accept data that the run was not trained on."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            show_default=False,
            rich_help_panel="Machine",
            help="Evaluation batch size; does not affect the counts (default: chosen for the device).",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    mean_values, std_values = parse_rgb("--mean", mean), parse_rgb("--std", std)
    output = Output(json=json, quiet=quiet)
    output.loading_torch()
    from resnet_cli.evaluation import EvalOptions, evaluate_saved

    options = EvalOptions(
        **given, which=which, data_dir=data_dir, split=split, mean=mean_values, std=std_values,
        allow_other_data=allow_other_data, batch_size=batch_size,
    )  # fmt: skip
    with output.progress() as progress:
        report = evaluate_saved(path, options, progress=progress)
    for note in report.details["notes"]:
        output.note(f"note: {note}")
    output.result(report.to_dict(), None if json else _page(report, output.stdout.width))


def _page(report: "EvalReport", width: int) -> Group:
    """Lay out summary, per-class table and confusion matrix in `width` columns."""
    parts: list[RenderableType] = [_summary(report.metrics, report.details)]
    for title, table in (_per_class(report.metrics), _confusion(report.metrics, width)):
        parts += [Text(f"\n{title}", style="bold"), table]
    return Group(*parts)


def _summary(metrics: "Metrics", details: dict[str, Any]) -> Table:
    weights, dataset, used = details["weights"], details["dataset"], details["normalization"]
    origin = weights["which"] or f"format {weights['format']}"
    if chosen_on := details["best_chosen_on"]:
        origin += f", chosen on the {'validation' if chosen_on == 'val' else 'test'} set"
    mean, std = (", ".join(f"{value:g}" for value in used[name] or ()) for name in ("mean", "std"))
    numbers = f"mean {mean}, std {std}" if mean else "mean image, std 1"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in (
        ("network", f"{details['network']['name']}, {details['network']['num_classes']} classes"),
        ("weights", f"{printable(weights['path'])} ({origin})"),
        ("data", f"{printable(dataset['display_name'])}, {dataset['split']}, {metrics.num_examples:,} images"),
        ("normalisation", f"{numbers} ({printable(used['source'])})"),
        ("device", f"{details['device']}, {details['precision']}"),
        (
            "accuracy",
            f"{metrics.accuracy_pct:.2f} %   {metrics.num_correct:,} of {metrics.num_examples:,}; "
            f"95 % interval {metrics.accuracy_low_pct:.2f}–{metrics.accuracy_high_pct:.2f}",
        ),
        ("error", f"{metrics.error_pct:.2f} %"),
        ("cross-entropy (NLL)", f"{metrics.loss:.4f} nats"),
        ("Brier score", f"{metrics.brier:.4f}"),
        ("ECE (15 bins)", f"{metrics.ece_pct:.2f} %"),
        ("confidence", f"mean {100 * metrics.mean_confidence:.2f} %; mean entropy {metrics.mean_entropy:.4f} nats"),
    ):
        table.add_row(*row)
    return table


def _per_class(metrics: "Metrics") -> tuple[str, Table]:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("class", max_width=20, overflow="ellipsis", no_wrap=True)
    for name in ("n", "precision", "", "recall", "", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in metrics.per_class:
        table.add_row(
            printable(one.name), f"{one.support:,}",
            _percent(one.precision), _percent(one.precision_low, one.precision_high),
            _percent(one.recall), _percent(one.recall_low, one.recall_high), _percent(one.f1),
        )  # fmt: skip
    return "per class, in % with 95 % intervals (no interval for F1)", table


_LABEL_WIDTH, _HEAD_WIDTH = 12, 5


def _confusion(metrics: "Metrics", width: int) -> tuple[str, Table]:
    """Build the confusion matrix or, if it is wider than `width`, a list of the most frequent confusions."""
    names = [printable(one.name) for one in metrics.per_class]
    heads = [name[:_HEAD_WIDTH] for name in names]
    if len(set(heads)) < len(heads):  # names with the same start are shown as numbers
        heads = [str(index) for index in range(len(names))]
        names = [f"{index} {name}" for index, name in enumerate(names)]
    cell = max(len(str(metrics.confusion_matrix.max())), *map(len, heads))
    if _LABEL_WIDTH + len(names) * (cell + 1) > width:
        return _frequent_confusions(metrics)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", width=_LABEL_WIDTH - 1, overflow="ellipsis", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", width=cell, no_wrap=True)
    for true, (name, counts) in enumerate(zip(names, metrics.confusion_matrix, strict=True)):
        cells = [Text(str(count or "·")) for count in counts]
        cells[true].stylize("bold")
        table.add_row(name, *cells)
    return "confusion matrix: rows are true classes, columns are predicted classes", table


def _frequent_confusions(metrics: "Metrics") -> tuple[str, Table]:
    names = [printable(one.name) for one in metrics.per_class]
    mistakes = Counter({
        (true, predicted): count
        for true, row in enumerate(metrics.confusion_matrix.tolist())
        for predicted, count in enumerate(row)
        if count and true != predicted
    })  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("true", "predicted"):
        table.add_column(name, max_width=20, overflow="ellipsis", no_wrap=True)
    table.add_column("images", justify="right")
    for (true, predicted), count in mistakes.most_common(15):
        table.add_row(names[true], names[predicted], f"{count:,}")
    return "most frequent confusions (--json prints the whole matrix)", table


def _percent(*shares: float) -> str:
    """One share, or the two ends of an interval."""
    return "—" if math.isnan(shares[0]) else "–".join(f"{100 * share:.1f}" for share in shares)
