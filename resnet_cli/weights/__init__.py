"""Weight files, ours and other projects': read safely, recognised by their tensors."""

from resnet_cli.weights.file import Network, WeightFile, WeightFormat, read_weights

__all__ = ["Network", "WeightFile", "WeightFormat", "read_weights"]
