"""Train plain and residual CIFAR networks, and measure what the skip connections change."""

from typing import TYPE_CHECKING, Any

from resnet_cli.version import __version__

if TYPE_CHECKING:
    from resnet_cli.analysis.frames import load_epochs, load_runs
    from resnet_cli.config import RunConfig
    from resnet_cli.recipes import make_config
    from resnet_cli.session import train
    from resnet_cli.study import plan, run_study, write_results
    from resnet_cli.weights.classifier import load_model

__all__ = [
    "RunConfig", "__version__", "load_epochs", "load_model", "load_runs", "make_config", "plan", "run_study", "train",
    "write_results",
]  # fmt: skip

# Module of each public name, imported on first use, so that `import resnet_cli` is fast and only what computes imports
# torch.
_HOME = {
    "RunConfig": "resnet_cli.config",
    "make_config": "resnet_cli.recipes",
    "train": "resnet_cli.session",
    "load_model": "resnet_cli.weights.classifier",
    "plan": "resnet_cli.study",
    "run_study": "resnet_cli.study",
    "write_results": "resnet_cli.study",
    "load_runs": "resnet_cli.analysis.frames",
    "load_epochs": "resnet_cli.analysis.frames",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
