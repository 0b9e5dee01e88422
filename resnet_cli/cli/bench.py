"""`resnet bench`: estimate the cost of a recipe on this machine before running it."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from resnet_cli.cli.options import Json, Quiet, Recipe, config_options
from resnet_cli.cli.output import Output
from resnet_cli.config import RunConfig
from resnet_cli.recipes import make_config

if TYPE_CHECKING:
    from rich.console import Group

    from resnet_cli.bench import Cost, MatrixPeak

HELP = "\n\n".join(
    (
        "Estimate time, memory and hardware utilisation of a recipe on this machine before starting it.",
        "Times a few steps and evaluated batches of each network on random images and extrapolates to a full run. "
        "Without --arch and --depth, measures the four networks that `resnet reproduce` trains. Nothing is downloaded "
        "and no files are written, except the compiler cache if the run would be compiled; compiling is faster when "
        "the network is already cached. Memory is for the training steps only; data and checkpoints come on top.",
        "Examples:",
        "  resnet bench --recipe demo",
        "  resnet bench --recipe report2025 --device cuda",
        "  resnet bench --arch resnet --depth 110 --recipe he2015 --compile off",
        "  resnet bench --recipe demo --json | jq .total_seconds",
    )
)

NOISY = 1.5  # ratio of slowest to median step above which the times are doubtful


@config_options(
    *("device", "precision", "compile"),
    arch="Measure only this architecture (default: plain and resnet).",
    depth="Measure only this depth, 6n+2 (default: 20 and 56).",
    shortcut="Shortcut of the residual networks: A (zero-padding, the default) or B (1×1 projection).",
    dataset="Dataset that sets the number and size of the images (default: from the recipe).",
    batch_size="Number of images per step (default: from the recipe).",
    epochs="Training length in epochs (default: from the recipe).",
)
def command(
    *,
    recipe: Recipe = "report2025",
    given: dict[str, Any],
    steps: Annotated[
        int, typer.Option(metavar="N", help="Number of training steps to time, after warm-up.", min=1, max=10_000)
    ] = 10,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    archs = [given.pop("arch")] if "arch" in given else ["plain", "resnet"]
    depths = [given.pop("depth")] if "depth" in given else [20, 56]  # as reproduce trains them
    if "epochs" in given:
        given["milestones"] = ()  # they do not affect the cost
    plain = {name: value for name, value in given.items() if name != "shortcut" or len(archs) == 1}
    configs = [
        make_config(recipe, arch=arch, depth=depth, **(plain if arch == "plain" else given))
        for depth in depths
        for arch in archs
    ]
    _bench(configs, steps, Output(json=json, quiet=quiet))


def _bench(configs: list[RunConfig], num_steps: int, output: Output) -> None:
    output.loading_torch()
    from resnet_cli.bench import bench

    with output.progress() as progress:
        costs, peak = bench(configs, num_steps=num_steps, progress=progress)
    for cost in costs:
        if (ratio := cost.step_seconds_max / cost.step_seconds) > NOISY:
            output.warn(
                f"{cost.network}: the slowest step took {ratio:.1f} times the median "
                f"(more than {NOISY}): something else may be using this machine"
            )
    document = {
        "recipe": configs[0].recipe,
        "dataset": configs[0].dataset,
        "networks": [
            {**msgspec.to_builtins(cost), "matrix_peak_fraction": cost.flops_per_second / peak.flops_per_second}
            for cost in costs
        ],
        "total_seconds": sum(cost.total_seconds for cost in costs),
        "matrix_peak": peak._asdict(),
    }
    output.result(document, None if output.json else _view(configs[0], costs, peak))


def _view(config: RunConfig, costs: list["Cost"], peak: "MatrixPeak") -> "Group":
    """Table of the costs, with the decisions and the matrix peak below it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from resnet_cli.util.text import duration

    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for header in ("step, ms", "range", "images/s", "epoch", "compile", "one run", "memory", "of peak"):
        table.add_column(header, justify="right", overflow="fold")
    for cost in costs:
        memory = cost.peak_memory_bytes
        table.add_row(
            cost.network,
            milliseconds(cost.step_seconds),
            f"{milliseconds(cost.step_seconds_min)}–{milliseconds(cost.step_seconds_max)}",
            f"{cost.images_per_second:,.0f}",
            f"{cost.epoch_seconds:,.1f} s",
            duration(cost.compile_seconds) if cost.decisions["compile"].value == "on" else "—",
            duration(cost.total_seconds),
            "—" if memory is None else f"{memory / 1e6:,.0f} MB",
            f"{100 * cost.flops_per_second / peak.flops_per_second:.1f} %",
        )
    title = (
        f"{config.recipe}: {costs[0].num_epochs} epochs with batches of {costs[0].batch_size}, "
        f"measured on random images in the shape of {config.dataset}"
    )
    runs = "one run of each network, one after another" if len(costs) > 1 else "one run"
    total = (
        f"total {duration(sum(cost.total_seconds for cost in costs))}: {runs}, with evaluation; estimated from the "
        f"median of {costs[0].num_timed_steps} steps"
    )
    matrix_peak = (
        f"matrix peak {peak.flops_per_second / 1e9:,.0f} GFLOP/s: the fastest product of two "
        f"{peak.size}×{peak.size} matrices in {peak.precision} (torch.mm)"
    )
    return Group(Text(title), table, *map(Text, (total, *_decisions(costs), matrix_peak)))


def milliseconds(seconds: float) -> str:
    """Milliseconds with at least three digits: `4.21`, `42.1`, `421`, `4,210`."""
    value = 1000 * seconds
    return f"{value:,.{max(0, 2 - (value >= 9.995) - (value >= 99.95))}f}"


def _decisions(costs: list["Cost"]) -> list[str]:
    """One line per decision, or one per network where they differ."""
    lines = []
    for name in ("device", "precision", "compile", "threads"):
        made = {f" for {cost.network}": cost.decisions[name] for cost in costs}
        if len(set(made.values())) == 1:
            made = {"": costs[0].decisions[name]}
        lines += [f"{name} {decision.value}{network}: {decision.reason}" for network, decision in made.items()]
    return lines
