"""`resnet bench`: what a recipe will cost on this machine, before it is started."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.cli.options import Json, Quiet
from resnet_cli.cli.output import Output
from resnet_cli.config import Arch, CompileMode, DatasetName, Device, Precision, RunConfig

if TYPE_CHECKING:
    from rich.console import Group

    from resnet_cli.bench import Bench, Cost

HELP = "\n\n".join(
    (
        "Estimate what a recipe costs on this machine before it is started: time, memory, and how near a training "
        "step comes to the matrix peak.",
        "Times a few steps and evaluated batches of each network on random images, and multiplies. Without --arch and "
        "--depth these are the four networks that reproduce trains. Nothing is downloaded and no file is written, but "
        "for the compiler's own cache where a run would be compiled; compiling takes its time here too, and less when "
        "that cache knows the network. Memory is that of the steps; a run also reads its data and saves.",
        "Examples:",
        "  resnet bench --recipe demo",
        "  resnet bench --recipe report2025 --device cuda",
        "  resnet bench --arch resnet --depth 110 --recipe he2015 --compile off",
        "  resnet bench --recipe demo --json | jq .total_seconds",
    )
)

STUDY_ARCHS: tuple[Arch, ...] = ("plain", "resnet")
STUDY_DEPTHS = (20, 56)  # as reproduce trains them


def command(
    recipe: Annotated[str, typer.Option(help="report2025, he2015 or demo.")] = "report2025",
    arch: Annotated[Arch | None, typer.Option(help="Default: plain and resnet.", show_default=False)] = None,
    depth: Annotated[int | None, typer.Option(help="6n+2. Default: 20 and 56.", show_default=False)] = None,
    shortcut: Annotated[
        Literal["A", "B"] | None, typer.Option(help="Of the residual networks. Default: A.", show_default=False)
    ] = None,
    dataset: Annotated[
        DatasetName | None, typer.Option(help="Shape of the images. Default: as the recipe says.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step. Default: as the recipe says.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Length in epochs. Default: as the recipe says.", show_default=False)
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="As for train.")] = "auto",
    compile_mode: Annotated[
        CompileMode, typer.Option("--compile", help="As for train; auto decides as a run of that length would.")
    ] = "auto",
    steps: Annotated[
        int, typer.Option(help="Number of training steps to time, after warm-up.", min=1, max=10_000)
    ] = 10,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from resnet_cli.errors import UsageError
    from resnet_cli.recipes import make_config

    if arch == "plain" and shortcut is not None:
        raise UsageError(f"--shortcut {shortcut} does not fit a plain network, which has none")
    overrides: dict[str, Any] = {"dataset": dataset, "batch_size": batch_size, "epochs": epochs}
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if epochs is not None:
        overrides["milestones"] = ()  # where lr drops costs nothing
    configs = [
        make_config(
            recipe, arch=one, depth=layers, device=device, precision=precision, compile=compile_mode, **overrides,
            **({"shortcut": shortcut} if shortcut and one == "resnet" else {}),
        )
        for layers in ([depth] if depth is not None else STUDY_DEPTHS)
        for one in ([arch] if arch else STUDY_ARCHS)
    ]  # fmt: skip
    _bench(configs, steps, Output(json=json, quiet=quiet))


def _bench(configs: list[RunConfig], num_steps: int, output: Output) -> None:
    from resnet_cli.bench import NOISY, bench

    with output.progress() as progress:
        result = bench(configs, num_steps=num_steps, progress=progress)
    for cost in result.costs:
        if cost.is_noisy:
            output.warn(
                f"{cost.config.network}: the slowest step took {max(cost.timing.step_seconds) / cost.step_seconds:.1f} "
                f"times the median (more than {NOISY}): something else may be using this machine"
            )
    output.result(_document(result), _view(result))


def _document(result: "Bench") -> dict[str, Any]:
    first = result.costs[0].config
    return {
        "recipe": first.recipe,
        "dataset": first.dataset,
        "networks": [_row(result, cost) for cost in result.costs],
        "total_seconds": result.total_seconds,
        "matrix_peak": result.peak._asdict(),
    }


def _row(result: "Bench", cost: "Cost") -> dict[str, Any]:
    config, steps = cost.config, cost.timing.step_seconds
    return {
        "network": config.network,
        **{name: getattr(config, name) for name in ("arch", "depth", "shortcut", "batch_size")},
        "parameters": cost.parameters,
        "macs": cost.macs,
        **cost.workload._asdict(),
        "num_timed_steps": len(steps),
        "step_seconds": cost.step_seconds,
        "step_seconds_min": min(steps),
        "step_seconds_max": max(steps),
        "is_noisy": cost.is_noisy,
        "images_per_second": cost.images_per_second,
        "flops_per_second": cost.flops_per_second,
        "matrix_peak_fraction": result.peak_fraction(cost),
        "epoch_seconds": cost.epoch_seconds,
        "train_seconds": cost.train_seconds,
        "eval_seconds": cost.eval_seconds,
        "compile_seconds": cost.timing.compile_seconds,
        "total_seconds": cost.total_seconds,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "decisions": {name: {"value": made.value, "reason": made.reason} for name, made in cost.decisions.items()},
    }


def _view(result: "Bench") -> "Group":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from resnet_cli.util.text import duration

    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for header in ("step, ms", "range", "images/s", "epoch", "compile", "one run", "memory", "of peak"):
        table.add_column(header, justify="right", overflow="fold")
    for cost in result.costs:
        low, high = min(cost.timing.step_seconds), max(cost.timing.step_seconds)
        is_compiled = cost.decisions["compile"].value == "on"
        memory = cost.peak_memory_bytes
        table.add_row(
            cost.config.network,
            milliseconds(cost.step_seconds),
            f"{milliseconds(low)}–{milliseconds(high)}",
            f"{cost.images_per_second:,.0f}",
            f"{cost.epoch_seconds:,.1f} s",
            duration(cost.timing.compile_seconds) if is_compiled else "—",
            duration(cost.total_seconds),
            "—" if memory is None else f"{memory / 1e6:,.0f} MB",
            f"{100 * result.peak_fraction(cost):.1f} %",
        )
    below = [_together(result), *_decisions(result), _peak(result)]
    return Group(Text(_title(result)), table, *map(Text, below))


def _title(result: "Bench") -> str:
    first = result.costs[0]
    return (
        f"{first.config.recipe}: {first.workload.num_epochs} epochs with batches of {first.images_per_step}, "
        f"measured on random images in the shape of {first.config.dataset}"
    )


def milliseconds(seconds: float) -> str:
    """Three digits at least: `4.21`, `42.1`, `421`, `4,210`."""
    value = 1000 * seconds
    return f"{value:,.{max(0, 2 - (value >= 9.995) - (value >= 99.95))}f}"


def _together(result: "Bench") -> str:
    from resnet_cli.util.text import duration

    what = "one run of each, one after another" if len(result.costs) > 1 else "one run"
    return (
        f"together {duration(result.total_seconds)}: {what}, with evaluation; estimated from the median of "
        f"{len(result.costs[0].timing.step_seconds)} steps"
    )


def _decisions(result: "Bench") -> list[str]:
    """One line a decision; what differs between the networks is said for each of them."""
    lines = []
    for name in ("device", "precision", "compile", "threads"):
        made = {cost.config.network: cost.decisions[name] for cost in result.costs}
        if len(set(made.values())) == 1:
            decision = next(iter(made.values()))
            lines.append(f"{name} {decision.value}: {decision.reason}")
        else:
            lines += [f"{name} {one.value} for {network}: {one.reason}" for network, one in made.items()]
    return lines


def _peak(result: "Bench") -> str:
    peak = result.peak
    return (
        f"matrix peak {peak.flops_per_second / 1e9:,.0f} GFLOP/s: the best of {peak.num_products} products of two "
        f"{peak.size}×{peak.size} matrices in {peak.precision} (torch.mm)"
    )
