"""Figures of the runs in the order of the report: degradation, Figures 1 to 5, gradients."""

from collections.abc import Mapping, Sequence

from resnet_cli.analysis.figures import DrawnFigure, SkippedFigure, draw, figure_groups
from resnet_cli.analysis.frames import Group, Study
from resnet_cli.analysis.report.blocks import Block, Heading, Paragraph, Picture
from resnet_cli.analysis.report.pictures import Pictures
from resnet_cli.errors import InputError

MAX_GROUPS = 12
"""Groups with figures: each takes seconds and adds half a megabyte."""

_TITLES = {
    "curves": "Training curves of all runs.",
    "convergence": "Convergence at {depth} layers.",
    "accuracy": "Test accuracy at {depth} layers.",
    "dynamics": "Training dynamics at {depth} layers.",
    "confusion": "Confusion matrices at {depth} layers.",
    "degradation": "Error at every depth.",
    "gradients": "Recorded gradients at {depth} layers.",
}
_DEGRADATION = (
    "Degradation means that the training error (dashed) of the deeper plain network stays above that of the shallower "
    "one to the end. A higher test error (solid) alone could be overfitting."
)
_GRADIENTS = (
    "Each column is a network and each line an epoch; layer 1 is next to the input, so a line that rises to the left "
    "is a gradient that grows on its way back. Compare slopes within a stage only, because width and resolution change "
    "between stages."
)
_NONE = "Not drawn from these runs; the last section gives the reason."


class Drawings:
    """All figures of a study's own files, drawn once.

    Args:
        study: loaded with metrics.
        names: names of the groups in headings.
        pictures: numbers the figures.
    """

    def __init__(self, study: Study, names: Mapping[Group, str], pictures: Pictures) -> None:
        self._names, self._pictures = names, pictures
        groups = figure_groups(study)
        self.num_omitted_groups = max(0, len(groups) - MAX_GROUPS)
        kept = set(groups[:MAX_GROUPS])
        shown = Study(
            [run for run in study.runs if run.group in kept], study.skipped, study.metrics,
            [run for run in study.unfinished if run.group in kept],
        )  # fmt: skip
        self._drawn: list[DrawnFigure] = []
        self.skipped: list[SkippedFigure] = []
        self.problem = ""
        try:
            self._drawn, self.skipped = draw(shown)
        except InputError as error:  # no figure at all can be drawn
            self.problem = error.message
        self.left_out = list(dict.fromkeys(reason for figure in self._drawn for reason in figure.left_out))

    def degradation(self) -> list[Block]:
        """The degradation plot."""
        found = [figure for figure in self._drawn if figure.kind == "degradation"]
        return [Paragraph(_DEGRADATION), *self._blocks(found)] if found else [Paragraph(_NONE)]

    def numbered(self) -> list[Block]:
        """The report's Figures 1 to 5, then the curves of all runs."""
        found = [figure for figure in self._drawn if figure.kind not in ("degradation", "gradients")]
        found.sort(key=lambda figure: (figure.group, figure.report_figure or "z"))
        return self._blocks(found) or [Paragraph(_NONE)]

    def gradients(self) -> list[Block]:
        """Gradients recorded during training; empty if none were."""
        found = [figure for figure in self._drawn if figure.kind == "gradients"]
        return [Paragraph(_GRADIENTS), *self._blocks(found)] if found else []

    def _blocks(self, figures: Sequence[DrawnFigure]) -> list[Block]:
        blocks: list[Block] = []
        group = None
        for figure in figures:
            if figure.group != group and len(self._names) > 1:
                blocks.append(Heading(self._names[figure.group]))
            group = figure.group
            blocks.append(self._picture(figure))
        return blocks

    def _picture(self, figure: DrawnFigure) -> Picture:
        title = _TITLES[figure.kind].format(depth=figure.name.rpartition("-")[2])
        number = figure.report_figure
        remark = f"Compare with Figure {number.removeprefix('fig')} of Shinde 2025" if number else ""
        return self._pictures.picture(figure.figure, title, remark)
