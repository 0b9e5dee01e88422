"""What probes measured on the runs: a figure, a table and two sentences on how to read them."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_cli.analysis.figures.probes.summary import Summary, text_table
from resnet_cli.analysis.frames import Group, Run, Study
from resnet_cli.analysis.probe_frames import load_probes
from resnet_cli.analysis.report.blocks import Block, Grid, Heading, Paragraph
from resnet_cli.analysis.report.pictures import Pictures
from resnet_cli.rundir.probe_files import WHICH

if TYPE_CHECKING:
    import pandas as pd


class Guide(NamedTuple):
    """Title of a probe and how to read what it measured."""

    title: str
    reading: str
    """Two sentences."""


GUIDES: Mapping[str, Guide] = {
    "gradflow": Guide(
        "Gradients measured on fixed batches",
        "Growth is ‖∂L/∂x‖ at the input of a block divided by that at its output: 1 leaves the gradient unchanged, and "
        "above 1 it grows towards the input. The verdict is that of the stage in which the gradient changes most.",
    ),
    "bn": Guide(
        "Batch-norm statistics",
        "Open circles are errors with the running statistics of batch normalisation, filled circles with statistics "
        "re-estimated over the training set. Compare depths by the filled circles, because the running statistics lag "
        "behind the weights after a short run.",
    ),
    "responses": Guide(
        "Layer responses and sizes of branches",
        "The deviation of a layer's output after batch normalisation is 1 at initialisation, so it shows what the "
        "scale and shift of batch normalisation learned. A growth of ‖F(x)‖ / ‖S(x)‖ below 1 means that training made "
        "a branch smaller relative to its shortcut, which brings the block closer to the identity.",
    ),
    "branch-scale": Guide(
        "Scaled branches",
        "All residual branches are multiplied by α: 1 is the trained network, and at 0 only the shortcuts remain. "
        "With running statistics the curve shows mainly that batch normalisation no longer fits its input; with "
        "re-estimated statistics, a curve that is flat around 1 means that the branches are small corrections.",
    ),
    "lesion": Guide(
        "Deleted and swapped blocks",
        "A small change of the error means that the network works without the block. This fits the view of a residual "
        "network as an ensemble but does not prove it, because blocks that hardly change their input would give the "
        "same result.",
    ),
    "landscape": Guide(
        "Loss landscape and curvature",
        "Every filter moves in units of its own norm, so slices and the eigenvalues of D H D can be compared between "
        "networks. Curvature falls with the loss, so compare it only between networks at similar losses.",
    ),
    "shattering": Guide(
        "Shattered gradients",
        "The sooner the autocorrelation of the input gradient drops to the line of white noise, the more the gradients "
        "are shattered. The cosine of minibatch gradients depends on batch size and loss, so compare it only between "
        "networks in which these are equal.",
    ),
    "similarity": Guide(
        "Similarity of blocks and linear classifiers",
        "CKA is 1 for blocks whose outputs differ only by a rotation, a scale and a shift, and 0 on average for "
        "independent ones. The accuracy of a linear classifier on each block rises or falls from one block to the next "
        "only if it does so beyond its interval.",
    ),
    "capacity": Guide(
        "Capacity of the deeper network",
        "Identity blocks were appended to a trained plain network: equal errors in eval mode mean that the deeper "
        "network contains the solution of the shallower one. This does not show that training can find or keep that "
        "solution, because in training mode batch normalisation uses the statistics of the batch.",
    ),
    "calibration": Guide(
        "Confidence and calibration",
        "A point below the diagonal is a bin in which the network is more confident than accurate. On the right, the "
        "outputs are divided by a temperature that was fitted on the other half of the test images.",
    ),
}
"""By name of the probe, in the order of the page."""

_WHICH = {"init": "initial weights", "last": "last weights", "best": "best weights"}
MAX_SEEDS = 10
"""Seeds of each network in tables and figures of probes."""


class ProbeViews:
    """Figures and tables of the probes that were measured on complete runs.

    Args:
        study: the runs.
        names: names of the groups in headings.
        pictures: numbers the figures.
        warn: receives one line for each file that cannot be used.
    """

    def __init__(
        self, study: Study, names: Mapping[Group, str], pictures: Pictures, warn: Callable[[str], None]
    ) -> None:
        self._names, self._pictures, self._warn = names, pictures, warn
        self._groups = [(group, _first_seeds(runs), len(runs)) for group, runs in study.groups().items()]

    def blocks(self, name: str) -> list[Block]:
        """How to read a probe, then its figures and tables; empty if it was not measured."""
        shown: list[Block] = []
        for group, runs, num_runs in self._groups:
            frame = load_probes(runs, name, warn=self._warn)
            parts = [
                block for which in WHICH if (frame["which"] == which).any()
                for block in self._parts(name, which, frame[frame["which"] == which])
            ]  # fmt: skip
            if parts and len(self._names) > 1:
                shown.append(Heading(self._names[group]))
            shown += parts
            if parts and len(runs) < num_runs:
                shown.append(Paragraph(f"Only the first {MAX_SEEDS} seeds of each network are shown."))
        return [Paragraph(GUIDES[name].reading), *shown] if shown else []

    def _parts(self, name: str, which: str, frame: "pd.DataFrame") -> list[Block]:
        view = importlib.import_module(f"resnet_cli.analysis.figures.probes.{name.replace('-', '_')}")
        title = f"{GUIDES[name].title}, {_WHICH[which]}"
        counts = frame.drop_duplicates("label").groupby("network", sort=False).size()
        is_even = counts.nunique() == 1 and len(counts) > 1
        each = [f"{counts.iloc[0]} of each network"] if is_even else [f"{n} of {name}" for name, n in counts.items()]
        remark = f"Runs: {', '.join(each)}"
        # the figure of gradients averages rows with the same label
        drawable = frame.assign(label=frame["network"]) if name == "gradflow" else frame
        try:
            summary: Summary = view.table(frame)
            table = text_table(title, summary)
            picture = self._pictures.picture(view.draw(drawable), f"{title}.", remark)
        except Exception as error:  # the rows of a file that anyone may have written can raise anything
            self._warn(f"probe {name} of {self._places(frame)} cannot be shown: {type(error).__name__}: {error}")
            return [Paragraph(f"{title}: the stored rows are damaged. Measure again with --again.")]
        return [picture, Grid(table)]

    def _places(self, frame: "pd.DataFrame") -> str:
        first, *others = frame["path"].unique()
        return f"{first}{f' and {len(others)} more runs' if others else ''}"


def _first_seeds(runs: Sequence[Run]) -> list[Run]:
    """The runs of the first `MAX_SEEDS` seeds of each network, plain networks first, by depth and seed."""
    counts: dict[str, int] = {}
    kept = []
    for run in sorted(runs, key=run_order):
        counts[run.network] = counts.get(run.network, 0) + 1
        if counts[run.network] <= MAX_SEEDS:
            kept.append(run)
    return kept


def run_order(run: Run) -> tuple[Any, ...]:
    """Key that sorts runs by depth, architecture and seed."""
    config = run.record.config
    return config.depth, config.arch, config.shortcut, config.seed, str(run.dir.path)
