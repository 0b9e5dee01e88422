"""Gradient flow: whether the gradient vanishes or explodes on its way from the output to the first layers."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from resnet_cli.analysis.bands import MIN_SEEDS
from resnet_cli.analysis.figures import figure_data
from resnet_cli.analysis.figures.figure_data import FigureData, NotDrawableError, PlotResult, networks_of
from resnet_cli.analysis.figures.lines import mark, write_above
from resnet_cli.analysis.figures.style import caption, house_style, legend, network_style, new_figure, ramp
from resnet_cli.analysis.frames import Run
from resnet_cli.analysis.gradient_profiles import recorded_profiles, seed_profiles
from resnet_cli.util.text import printable, shorten

_NOT_RECORDED = "no run recorded gradient norms; train with --gradflow-every"
_WHICH = {"init": "initial weights", "last": "weights of the last epoch", "best": "weights of the best epoch"}
_LABELS = {"layer": "‖W‖·‖∂L/∂W‖ of each layer", "block": "‖∂L/∂x‖ at each block"}
_MEANING = {"layer": "W: weights of a layer", "block": "x: input of a block"}
# Lines of several runs of one network: same colour, different dashes.
_DASHES = ("solid", (0, (3.2, 1.4)), (0, (1, 1.2)), (0, (4, 1.4, 1, 1.4)))
_MAX_LABEL_LENGTH = 30


def gradient_flow(data: FigureData, runs: list[Run]) -> PlotResult:
    """Draw the gradients that runs of one depth recorded: one column per network, the epochs as a ramp of colours."""
    there = [run for run in runs if os.path.lexists(run.dir.gradflow_path)]
    found, left_out = figure_data.read_each(there, _norms_of)
    found = [(run, rows) for run, rows in found if len(rows)]
    runs = [run for run, _ in found]
    if not runs:
        raise NotDrawableError(left_out[0] if left_out else _NOT_RECORDED)
    frame = pd.concat(
        [rows.assign(path=str(run.dir.path), network=run.network, seed=run.seed) for run, rows in found],
        ignore_index=True,
    )
    profiles = recorded_profiles(frame)
    if not len(profiles):
        raise NotDrawableError("all recorded gradient norms are zero or not finite")
    networks = networks_of(runs)
    colors, norm = ramp(), Normalize(int(frame["epoch"].min()), max(int(frame["epoch"].max()), 1))
    figure, grid = _grid(_measures(profiles), networks, runs[0].record.config.depth)
    for (measure, network), axes in grid.items():
        lines = profiles[(profiles["measure"] == measure) & (profiles["network"] == network)]
        for _, line in lines.groupby(["epoch", "line"], sort=True):
            _draw(axes, line, {"color": colors(norm(int(line["epoch"].iloc[0]))), "linewidth": 0.9})
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=list(grid.values()), aspect=40, pad=0.015, label="epoch")
    bar.set_ticks(_spaced(sorted(profiles["epoch"].unique()), 0.06))
    bar.outline.set_visible(False)
    several = _several_text(frame.groupby("network")["seed"].nunique(), " of the last epoch")
    caption(figure, "; ".join(filter(None, [data.title, figure_data.seeds_text(runs), _meaning(profiles), several])))
    return PlotResult(figure, runs, left_out)


def measured_gradients(frame: pd.DataFrame) -> Figure:
    """Draw measured gradients, one colour per network and one column of panels per depth.

    Args:
        frame: rows of gradflow.csv with the columns label, network, which, dataset and seed; rows with the same
            label are seeds of one network.
    """
    dataset, which = frame[["dataset", "which"]].iloc[0]
    depths = frame.groupby("label")["layer_index"].transform("max")
    profiles = seed_profiles(frame.assign(depth=depths, run=frame["seed"]), ["label", "depth"])
    styles = _line_styles(frame)
    with house_style():
        columns = {f"{depth} layers": int(depth) for depth in sorted(depths.unique())}
        figure, grid = _grid(_measures(profiles), list(columns), *columns.values())
        for (measure, column), axes in grid.items():
            of_panel = profiles[(profiles["measure"] == measure) & (profiles["depth"] == columns[column])]
            for _, line in of_panel.groupby(["label", "line"], sort=False):
                label = str(line["label"].iloc[0])
                _draw(axes, line, {**styles[label], "label": label})
        keys = [(shorten(printable(label), _MAX_LABEL_LENGTH), style) for label, style in styles.items()]
        legend(figure, [], keys)
        for entry in figure.legends[0].get_texts():
            entry.set_parse_math(False)  # a label can be the name of a folder
        several = _several_text(frame.groupby("label")["seed"].nunique())
        caption(figure, "; ".join(filter(None, [dataset, _WHICH.get(which, which), _meaning(profiles), several])))
        return figure


def _norms_of(run: Run) -> pd.DataFrame:
    return run.dir.read_gradflow(run.record.config.depth, run.summary)


def _measures(profiles: pd.DataFrame) -> list[str]:
    return [measure for measure in _LABELS if (profiles["measure"] == measure).any()]


def _meaning(profiles: pd.DataFrame) -> str:
    return "; ".join(["L: loss", *(_MEANING[measure] for measure in _measures(profiles))])


def _several_text(num_seeds: pd.Series, where: str = "") -> str:
    """What a line shows, for the caption; empty if every network has one seed."""
    if (num_seeds >= MIN_SEEDS).any():
        return f"geometric mean over {MIN_SEEDS} or more seeds, shaded: 95 % Student-t interval{where}"
    return "one line per seed" if (num_seeds > 1).any() else ""


def _grid(
    measures: Sequence[str], columns: Sequence[str], *depths: int
) -> tuple[Figure, Mapping[tuple[str, str], Axes]]:
    """Create one row of panels per measure and one column per title; the depth is that of each column, or of all."""
    figure, panels = new_figure(
        len(measures), len(columns), 0.7 + 1.75 * len(measures), sharex="col", sharey="row"
    )  # fmt: skip
    grid = dict(zip(((measure, column) for measure in measures for column in columns), panels, strict=True))
    for position, ((measure, column), axes) in enumerate(grid.items()):
        depth = depths[position % len(depths)]
        is_first_row = position < len(columns)
        axes.set_yscale("log")
        for stage in (1, 2, 3):  # the number of filters changes where a stage begins
            mark(axes, 1.5 + (stage - 1) * (depth - 2) // 3, None)
            if is_first_row:
                _name_stage(axes, stage, depth)
        mark(axes, depth - 0.5, None)
        axes.set_xlim(0.5, depth + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if is_first_row:
            axes.set_title(column, pad=13)
        if not position % len(columns):
            axes.set_ylabel(_LABELS[measure])
        if position >= len(grid) - len(columns):
            axes.set_xlabel("layer (1: next to the input)")
    return figure, grid


def _name_stage(axes: Axes, stage: int, depth: int) -> None:
    per_stage = (depth - 2) // 3
    write_above(axes, 1.5 + (stage - 0.5) * per_stage, f"stage {stage}")


def _draw(axes: Axes, line: pd.DataFrame, style: Mapping[str, Any]) -> None:
    """Draw one profile, interrupted where a stage begins: shapes change there, and a jump is not a slope."""
    line = line.sort_values("layer_index")
    label = style.get("label", "_profile")
    for stage, part in line.groupby("stage"):
        alone = {"marker": "o", "markersize": 2.2} if len(part) == 1 else {}
        axes.plot(part["layer_index"], part["norm"], **{**style, **alone, "label": label if stage == 1 else "_"})
        if part["low"].notna().any():
            axes.fill_between(
                part["layer_index"], part["low"], part["high"], color=style["color"], alpha=0.18, linewidth=0
            )  # fmt: skip


def _spaced(values: Iterable[int], share: float) -> list[int]:
    """The values that are at least `share` of the range apart, so that their tick labels do not touch."""
    kept: list[int] = []
    values = [int(value) for value in values]
    for value in values:
        if not kept or value - kept[-1] >= share * (values[-1] - values[0]):
            kept.append(value)
    return kept


def _line_styles(profiles: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour, width and dashes of each line, by label and in order."""
    lines = profiles[["label", "network"]].drop_duplicates()
    numbers = lines.groupby("network").cumcount() % len(_DASHES)
    styles = [network_style(network) for network in lines["network"]]
    return {
        str(label): {"color": style.color, "linewidth": style.line_width, "linestyle": _DASHES[number]}
        for label, style, number in zip(lines["label"], styles, numbers, strict=True)
    }
