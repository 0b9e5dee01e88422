"""Drawing one figure of a study."""

from resnet_cli.analysis import figures


def draw_one(study, kind, depths=None):
    """Draw a figure of the only group of `study`, with its networks and other properties."""
    (drawn,), _ = figures.draw(study, [kind], depths)
    return drawn
