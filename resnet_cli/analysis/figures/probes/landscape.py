"""Summary and figure of the probe `landscape`: slices, planes and the extreme eigenvalues of the Hessian."""

import functools
import math
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from resnet_cli.analysis.figures.probes.panels import COLOR_MAP, curves_and_maps, draw_ranges
from resnet_cli.analysis.figures.probes.summary import Cell, Summary
from resnet_cli.analysis.figures.style import RULE, caption, house_style, legend, network_style

_EIGENVALUES = [("DHD", "largest"), ("DHD", "smallest"), ("H", "largest"), ("H", "smallest")]
_CONVERGED = 0.1  # largest residual, as a share of the eigenvalue, that needs no note


def table(frame: pd.DataFrame) -> Summary:
    """One row per network: loss at the weights and away from them, and the eigenvalues."""
    rows: list[list[Cell]] = []
    slices = _slices(frame)
    slices = slices.assign(distance=slices["alpha"].abs())
    measured = slices["distance"].unique()
    distances = sorted({measured[np.abs(measured - share * measured.max()).argmin()] for share in (0, 0.5, 1)})
    for label, of_label in frame.groupby("label", sort=False):
        losses = slices[slices["label"] == label].groupby("distance")["loss"].mean()
        at = [float(losses[distance]) for distance in distances]
        found = of_label.set_index(["matrix", "end"])["eigenvalue"]
        rows.append([cast(Cell, label), *at, *(float(found[key]) for key in _EIGENVALUES)])
    notes = [
        "loss: mean over directions and both signs; α = 1 moves every filter by its own norm",
        "DHD: Hessian in units of filter norms; H shrinks as the weights grow; both shrink as the loss does",
    ]
    ends = frame[frame["part"] == "eigenvalue"]
    rough = ends[ends["residual"] > _CONVERGED * ends["eigenvalue"].abs()]
    if len(rough):
        names = sorted(f"{end} of {matrix}" for matrix, end in set(zip(rough["matrix"], rough["end"], strict=True)))
        notes.append(f"not converged (the magnitude is too small): {', '.join(names)}; use --set lanczos_steps=50")
    columns = [
        *(f"loss at α={'±' if distance else ''}{distance:g}" for distance in distances),
        *(f"{end} of {matrix}" for matrix, end in _EIGENVALUES),
    ]
    return Summary(["network", *columns], rows, notes)


def draw(frame: pd.DataFrame) -> Figure:
    """Draw slices and eigenvalues of all networks, and the plane of the first run of each network."""
    losses = frame["loss"].replace(np.inf, np.nan)
    lowest = max(1e-3, losses.min())  # 0.001 also where no loss is finite
    colors = LogNorm(lowest, max(10 * lowest, losses.max()))
    with house_style():
        draw_map = functools.partial(_draw_plane, colors=colors)
        figure, (slices, eigenvalues) = curves_and_maps(frame, draw_map, colors, "training loss over the plane")
        _draw_slices(slices, _slices(frame))
        _draw_eigenvalues(eigenvalues, frame)
        legend(figure, frame["network"].unique().tolist())
        caption(figure, (
            "top left: loss along random filter-normalised directions, mean and range over directions and runs; "
            "top right: extreme eigenvalues of D H D (filled) and of H (open); "
            "bottom: first run of each network"
        ))  # fmt: skip
        return figure


def _slices(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["part"] == "slice"]


def _draw_slices(axes: Axes, frame: pd.DataFrame) -> None:
    draw_ranges(axes, frame, "alpha", "loss")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("α")
    axes.set_ylabel("training loss")


def _draw_eigenvalues(axes: Axes, frame: pd.DataFrame) -> None:
    networks = frame["network"].unique().tolist()
    for y, network in enumerate(networks):
        style = network_style(network)
        found = frame[(frame["network"] == network) & (frame["part"] == "eigenvalue")]
        for matrix, face, shift in (("DHD", style.color, -0.15), ("H", "white", 0.15)):
            values = found.loc[found["matrix"] == matrix, "eigenvalue"]
            axes.plot(
                values, [y + shift] * len(values), linestyle="none", marker=style.marker, markersize=3.6,
                color=style.color, markerfacecolor=face, markeredgewidth=0.8,
            )  # fmt: skip
    axes.axvline(0, color=RULE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0.5)
    _scale_eigenvalues(axes, frame.loc[frame["part"] == "eigenvalue", "eigenvalue"])
    axes.margins(x=0.06)
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(len(networks) - 0.5, -0.5)
    axes.set_xlabel("eigenvalue")


def _scale_eigenvalues(axes: Axes, values: pd.Series) -> None:
    """Make the x axis logarithmic on both sides of zero, with as many labels as fit."""
    values = values[np.isfinite(values)]
    smallest = values.abs().min()
    linear = max(0.1, 10.0 ** math.floor(math.log10(smallest))) if smallest > 0 else 0.1
    # in decades; the linear part is as wide as two of them
    width = 2 + sum(math.log10(end / linear) for end in (values.max(), -values.min()) if end > linear)
    step = math.ceil(width / 8)
    ticks = linear * 10.0 ** np.arange(step - 1, width, step)
    axes.set_xscale("symlog", linthresh=linear)
    axes.xaxis.set_major_locator(FixedLocator([*-ticks, 0, *ticks]))


def _draw_plane(axes: Axes, frame: pd.DataFrame, *, colors: LogNorm) -> None:
    losses = frame[frame["part"] == "plane"].pivot_table(index="beta", columns="alpha", values="loss")
    shown = losses.clip(lower=colors.vmin)
    levels = np.geomspace(cast(float, colors.vmin), cast(float, colors.vmax), 25)
    axes.contourf(losses.columns, losses.index, shown, levels=levels, norm=colors, cmap=COLOR_MAP)
    axes.contour(losses.columns, losses.index, shown, levels=levels[::3], colors="white", linewidths=0.4)
    axes.plot(0, 0, marker="+", color="white", markersize=5)
    axes.set_aspect("equal")
    axes.set_xlabel("α")
    axes.set_ylabel("β")
