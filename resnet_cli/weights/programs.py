"""A classifier as a program that runs without this package: a PyTorch program or an ONNX model."""

import io
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_cli.weights.classifier import Classifier

INPUT, OUTPUT = "images", "logits"
Run = Callable[[Tensor], Tensor]


class Program(NamedTuple):
    """A serialised classifier. It maps `images`, (N, 3, H, W) float32 in [0, 1], to `logits`, (N, classes)."""

    data: bytes
    run: Run
    """Runs `data` in the runtime that its users have."""


def torch_program(classifier: Classifier, image_size: int, metadata: dict[str, str]) -> Program:
    """Convert to the format of `torch.export.save`; `metadata` becomes extra files."""
    buffer = io.BytesIO()
    torch.export.save(_trace(classifier, image_size), buffer, extra_files=metadata)
    data = buffer.getvalue()
    module = torch.export.load(io.BytesIO(data)).module()

    @torch.no_grad()
    def run(images: Tensor) -> Tensor:
        logits: Tensor = module(images)
        return logits

    return Program(data, run)


def onnx_program(classifier: Classifier, image_size: int, metadata: dict[str, str]) -> Program:
    """Convert to an ONNX model with its weights inside; `metadata` becomes metadata_props. Needs the extra `onnx`."""
    import onnx.helper
    import onnxruntime

    converted = torch.onnx.export(
        _trace(classifier, image_size), input_names=[INPUT], output_names=[OUTPUT], external_data=False, verbose=False
    )
    assert converted is not None  # it is a path that would make it write a file and return nothing
    model = converted.model_proto
    onnx.helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Program(data, lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0]))


def _trace(classifier: Classifier, image_size: int) -> torch.export.ExportedProgram:
    """Trace for batches of any size."""
    # two images, since a batch of one would be taken for a constant
    example = torch.zeros(2, 3, image_size, image_size)
    with torch.no_grad():
        return torch.export.export(classifier, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}})
