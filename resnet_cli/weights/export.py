"""Export of a trained network for other tools, compared with the original on test images."""

import os
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor

from resnet_cli.config import Arch, DatasetName
from resnet_cli.data import Dataset, load_source, open_data, prepare
from resnet_cli.errors import ResnetError, UsageError
from resnet_cli.rundir import RunDir, RunRecord, Summary
from resnet_cli.util import checksum
from resnet_cli.util.extras import require_extra
from resnet_cli.util.files import check_folder, read_bytes, temporary_files, write_atomic, write_output
from resnet_cli.util.progress import Progress, silent
from resnet_cli.weights.classifier import Classifier, load_model
from resnet_cli.weights.file import MEAN_IMAGE, Triple, WeightFile, check_normalization
from resnet_cli.weights.loading import read_content
from resnet_cli.weights.model_card import FORMAT, model_card, model_config
from resnet_cli.weights.programs import Run, onnx_program, torch_program
from resnet_cli.weights.run import Which, open_weights

Target = Literal["safetensors", "hf", "torch-export", "onnx"]

_SUFFIXES: dict[Target, str] = {"safetensors": ".safetensors", "hf": "-hf", "torch-export": ".pt2", "onnx": ".onnx"}
_CHECKED_IMAGES = 256
# Of the largest logit. Another order of summation changes float32 logits by about 1e-6 of it.
_TOLERANCE = 1e-3
_MAX_CONFIG_BYTES = 2**22


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of an export; None: determined by the run or the weight file."""

    which: Which | None = None
    """Weights of a run (default: last); not allowed for a weight file."""
    arch: Arch | None = None
    mean: Triple | None = None
    """Per-channel mean for pixels in [0, 1], for a weight file that does not determine it; requires `std`."""
    std: Triple | None = None
    dataset: DatasetName | None = None
    """Dataset whose test images a weight file is checked on (default: from the file, else cifar10)."""
    data_dir: Path | None = None
    overwrite: bool = False
    """Replace the files of an earlier export."""

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std)


class Check(NamedTuple):
    """Comparison of the logits of an exported program with those of the original network."""

    num_images: int
    max_difference: float
    """Largest absolute difference of a logit."""
    largest_logit: float
    """Largest absolute value of an original logit."""
    num_same_predictions: int


class Exported(NamedTuple):
    """Result of an export."""

    path: Path
    """The file or folder that was written."""
    files: tuple[Path, ...]
    network: str
    which: Which | None
    check: Check | None
    """None where the tensors are copied without conversion."""


class _Subject(NamedTuple):
    """What to export; the last three fields are None for a weight file."""

    path: Path
    weights: WeightFile
    which: Which | None
    run: RunDir | None
    record: RunRecord | None


def export(
    path: Path, target: Target, out: Path | None = None, options: ExportOptions | None = None, *,
    progress: Progress = silent,
) -> Exported:  # fmt: skip
    """Write the network of a run or of a weight file in the format of other tools, with its normalisation.

    Args:
        path: a run directory, or a file that `read_weights` supports.
        target: `safetensors`, `hf` (a folder for the Hugging Face Hub), `torch-export` or `onnx`. The last two are
            programs, and are compared with the original network on 256 test images before they are written.
        out: file or folder to write (None: the name of the run or file with the suffix of the format, in the current
            folder).
        options: weights, network, normalisation and data.
        progress: receives the progress of reading data.

    Returns:
        What was written, and the comparison.

    Raises:
        InputError: the run, the weights or the dataset cannot be read, or do not fit together.
        UsageError: an option contradicts the run or file, a necessary one is missing, the target exists, or an extra is
            not installed.
        ResnetError: the converted network computes something else; nothing was written.
    """
    options = options or ExportOptions()
    for option, value in (("--mean", options.mean), ("--dataset", options.dataset)):
        if value and target in ("safetensors", "hf"):
            raise UsageError(f"{option} does not apply to --to {target}", hint=f"omit {option}")
    if target == "onnx":
        require_extra("onnx", "--to onnx")
    subject = _open(path, options.which)
    _check_options(subject, options)
    out = out or Path(_default_name(subject) + _SUFFIXES[target])
    _check_target(out, subject, target, options.overwrite)
    check: Check | None = None
    files: tuple[Path, ...] = (out,)
    if target == "hf":
        files = _write_folder(out, _hub_files(subject, options))
    elif target == "safetensors":
        _write_file(out, _to_safetensors(subject, options))
    else:
        data, check = _convert(subject, target, options, progress)
        _write_file(out, data)
    network = subject.weights.resolve(arch=options.arch).name
    return Exported(out, files, network, subject.which, check)


def _open(path: Path, which: Which | None) -> _Subject:
    weights, which, run = open_weights(path, which)
    return _Subject(path, weights, which, run, run.read_record() if run else None)


def _check_options(subject: _Subject, options: ExportOptions) -> None:
    """Raise `UsageError` if an option contradicts what the run or the weight file records."""
    config, path = subject.weights.config, subject.path
    if config is None:
        return
    subject.weights.resolve(arch=options.arch)
    if options.mean:
        raise UsageError(f"--mean and --std do not apply to {path}, which records its normalisation", hint="omit them")
    if options.dataset not in (None, config.dataset):
        raise UsageError(
            f"--dataset {options.dataset} contradicts {path}, which was trained on {config.dataset}",
            hint="omit --dataset",
        )


def _default_name(subject: _Subject) -> str:
    if subject.run is None:
        return subject.path.stem
    return os.path.basename(os.path.realpath(subject.path)) + ("-best" if subject.which == "best" else "")


def _check_target(out: Path, subject: _Subject, target: Target, overwrite: bool) -> None:
    """Raise `UsageError` unless `out` can be written without replacing what `overwrite` does not cover."""
    check_folder("--out", out.parent)
    is_folder = os.path.isdir(out)
    if not os.path.lexists(out) or (is_folder and target == "hf" and set(out.iterdir()) <= set(temporary_files(out))):
        return
    if is_folder != (target == "hf"):
        kind, needed = ("folder", "file") if is_folder else ("file", "folder")
        raise UsageError(f"--out {out} is a {kind}; --to {target} writes a {needed}", hint="choose another --out")
    if is_folder and not _is_exported_folder(out):
        raise UsageError(f"--out {out} contains files that were not exported by this tool", hint="choose another --out")
    if not overwrite:
        raise UsageError(f"--out {out} exists", hint="use --overwrite to replace it, or choose another --out")
    if not is_folder and os.path.exists(out) and os.path.samefile(out, subject.weights.path):
        raise UsageError(f"--out {out} is the weight file to export", hint="choose another --out")


def _is_exported_folder(folder: Path) -> bool:
    try:
        document = msgspec.json.decode(read_bytes(folder / "config.json", _MAX_CONFIG_BYTES))
    except (ResnetError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _write_file(out: Path, data: bytes) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_output(out, data)


def _to_safetensors(subject: _Subject, options: ExportOptions) -> bytes:
    """The tensors with the metadata of a run's weight file, the names of the classes and the mean image, if any."""
    weights = subject.weights
    if weights.config is None:
        raise UsageError(
            f"{weights.path} does not record its configuration, which --to safetensors needs",
            hint="use --to torch-export or --to onnx",
        )
    tensors, (_, metadata) = dict(weights.state_dict), read_content(weights.path)
    if weights.config.normalization == "pixel-mean":
        tensors[MEAN_IMAGE] = load_model(subject.path, subject.which or "last", data_dir=options.data_dir).mean
    if subject.record:
        metadata["classes"] = msgspec.json.encode(subject.record.dataset.classes).decode()
    return checksum.with_checksum(save(tensors, metadata))


def _hub_files(subject: _Subject, options: ExportOptions) -> dict[str, bytes]:
    """The files of a folder for the Hugging Face Hub by name; first the one that marks a folder as exported."""
    if not subject.run or not subject.record or not subject.which:
        raise UsageError(f"--to hf needs a run directory, for its results; {subject.path} is a file")
    summary = subject.run.read_end(subject.record)
    if not isinstance(summary, Summary):
        raise UsageError(f"{subject.path} is not complete ({subject.run.status()}), so it has no results for --to hf")
    subject.run.check_hash(subject.weights.path, summary)
    return {
        "config.json": model_config(subject.record, subject.which).encode(),
        "model.safetensors": _to_safetensors(subject, options),
        "README.md": model_card(subject.record, summary, subject.which).encode(errors="backslashreplace"),
    }


def _write_folder(out: Path, contents: dict[str, bytes]) -> tuple[Path, ...]:
    out.mkdir(parents=True, exist_ok=True)
    for leftover in temporary_files(out):  # of an export that was killed
        leftover.unlink(missing_ok=True)
    for name, data in contents.items():
        write_atomic(out / name, data)
    return tuple(out / name for name in contents)


def _convert(subject: _Subject, target: Target, options: ExportOptions, progress: Progress) -> tuple[bytes, Check]:
    classifier = load_model(
        subject.path, subject.which or "last", arch=options.arch, mean=options.mean, std=options.std,
        data_dir=options.data_dir,
    )  # fmt: skip
    dataset = _open_dataset(subject, options, progress)
    subject.weights.check_fits(dataset)
    metadata = {
        "network": subject.weights.resolve(arch=options.arch).name,
        "classes": msgspec.json.encode(dataset.classes).decode(),
        "dataset": dataset.display_name,
    }
    convert = onnx_program if target == "onnx" else torch_program
    program = convert(classifier, dataset.image_size, metadata)
    pixels = torch.from_numpy(dataset.test.pixels[:_CHECKED_IMAGES])
    check = _compare(classifier, program.run, pixels.permute(0, 3, 1, 2).contiguous())
    if not check.max_difference <= _TOLERANCE * check.largest_logit:  # NaN fails too
        raise ResnetError(
            f"the exported network differs from {subject.path}: by {check.max_difference:.2g} in logits up to "
            f"{check.largest_logit:.2g}; nothing was written",
            hint="choose another format",
        )
    return program.data, check


@torch.no_grad()
def _compare(classifier: Classifier, run: Run, pixels: Tensor) -> Check:
    ours, theirs = classifier(pixels), run(pixels.float() / 255)
    return Check(
        len(pixels), float((ours - theirs).abs().max()), float(ours.abs().max()),
        int((ours.argmax(1) == theirs.argmax(1)).sum()),
    )  # fmt: skip


def _open_dataset(subject: _Subject, options: ExportOptions, progress: Progress) -> Dataset:
    record, config = subject.record, subject.weights.config
    name = options.dataset or (config.dataset if config else "cifar10")
    if not record:
        return prepare(load_source(name, options.data_dir, progress=progress))
    return open_data(
        record.config, data_dir=options.data_dir, recorded=record.dataset, run=subject.path, progress=progress
    )
