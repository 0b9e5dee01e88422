"""Optional dependencies, installed as extras."""

import importlib.util

from resnet_cli.errors import UsageError

# Modules of each extra in pyproject.toml that are imported here or by PyTorch.
_MODULES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"), "ray": ("ray", "grpc"), "tensorboard": ("tensorboard",)
}  # fmt: skip


_PACKAGES = {"onnx": "onnx onnxscript onnxruntime", "ray": "'ray[client]'", "tensorboard": "tensorboard"}


def require_extra(extra: str, purpose: str) -> None:
    """Raise `UsageError` with the command that installs `extra`, unless its modules are installed.

    Args:
        extra: name of the extra in pyproject.toml.
        purpose: the option that needs it, for the message.
    """
    missing = [name for name in _MODULES[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{purpose} needs {' and '.join(missing)}, not installed",
            hint=f"run: pip install {_PACKAGES[extra]}",
        )
