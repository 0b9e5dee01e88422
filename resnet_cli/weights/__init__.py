"""Weight files of this tool and of other projects: safe loading and recognition of the architecture."""

from resnet_cli.weights.architecture import Architecture
from resnet_cli.weights.file import Triple, WeightFile, check_normalization, read_weights
from resnet_cli.weights.run import Which, load_initial_weights, load_run_weights, open_weights

__all__ = [
    "Architecture", "Triple", "WeightFile", "Which", "check_normalization", "load_initial_weights",
    "load_run_weights", "open_weights", "read_weights",
]  # fmt: skip
