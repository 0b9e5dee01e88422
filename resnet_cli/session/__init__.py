"""One run from start to summary: engine, checkpoint and run directory together."""

from resnet_cli.session.reporter import Reporter, Reporters, Result
from resnet_cli.session.start import default_out, train

__all__ = ["Reporter", "Reporters", "Result", "default_out", "train"]
