"""config.json and README.md of a folder for the Hugging Face Hub."""

from typing import Any, Literal

from resnet_cli.config import RunConfig
from resnet_cli.recipes import recipe_label, train_arguments
from resnet_cli.rundir import EpochMetrics, RunRecord, Summary
from resnet_cli.util.text import json_text, markdown_text, shell_text

FORMAT = "resnet-cli"
# huggingface.co/docs/hub/model-cards: keys of the front matter
_LIBRARY, _TASK = "resnet-cli", "image-classification"


def model_config(record: RunRecord, which: Literal["last", "best"]) -> str:
    """config.json: the network, its input and the training that it comes from."""
    config, data = record.config, record.dataset
    document = {
        "format": FORMAT,
        "network": config.network, "arch": config.arch, "depth": config.depth, "shortcut": config.shortcut,
        "num_classes": record.model.num_classes, "num_parameters": record.model.parameters,
        "id2label": {str(index): name for index, name in enumerate(data.classes)},
        "image_size": data.image_size,
        "normalization": config.normalization,
        **({"mean": data.mean, "std": data.std} if config.normalization == "channel" else {}),
        "weights": which, "run_id": record.run_id, "tool_version": record.tool_version,
        "training": config, "init_from_sha256": record.init_from.sha256 if record.init_from else None,
        "dataset_fingerprint": data.fingerprint,
    }  # fmt: skip
    return json_text(document)


def model_card(record: RunRecord, summary: Summary, which: Literal["last", "best"]) -> str:
    """README.md: what the model is, its results, how to load it; the licence is left to the user."""
    config, data = record.config, record.dataset
    exported = summary.last if which == "last" else summary.best
    selection_set = "validation" if summary.best_chosen_on == "val" else "test"
    chosen = f", chosen on the {selection_set} set" if which == "best" else ""
    warning = (
        "\nThe epoch was chosen on the test set, so its test accuracy is optimistically biased.\n"
        if which == "best" and summary.best_chosen_on == "test"
        else ""
    )
    clean, num_clean = exported.train_clean_error_pct, exported.train_clean_images
    clean_images = f" of {num_clean:,} images" if num_clean else ""
    return f"""---
{_front_matter(record, exported)}# license: choose one before uploading; see https://huggingface.co/docs/hub/repositories-licenses
---

# {config.network} on {markdown_text(data.display_name)}

{_describe(config)} with {record.model.parameters:,} parameters, trained on {markdown_text(data.display_name)} with
seed {config.seed} and the recipe {markdown_text(recipe_label(config))}. {_architecture(config)}
{_start(record)}
## Results

Weights of epoch {exported.epoch} ({which}{chosen}).

| measure | value |
|---|---|
| test accuracy | {exported.test_accuracy_pct:.2f} % of {data.num_test:,} images |
| test error | {exported.test_error_pct:.2f} % |
| training error, eval mode without augmentation | {"not measured" if clean is None else f"{clean:.2f} %{clean_images}"} |
{warning}
## Loading

The network takes images (N, 3, {data.image_size}, {data.image_size}) as bytes or as floats in [0, 1] and normalises them itself.

```python
from pathlib import Path
from resnet_cli import load_model

folder = Path(".")  # or Path(huggingface_hub.snapshot_download(REPOSITORY))
model = load_model(folder / "model.safetensors")  # images to logits, in the order of model.classes
```

## Training data

{markdown_text(data.display_name)}: {data.num_train:,} training, {data.num_val:,} validation and {data.num_test:,} test
images of {data.image_size}×{data.image_size} pixels in {len(data.classes)} classes (SHA-256 of pixels and labels: {markdown_text(data.fingerprint)}).

{_repeat(record)}
## Licence

Not chosen yet. Take the terms of the training data into account.
"""  # noqa: E501


def _front_matter(record: RunRecord, exported: EpochMetrics) -> str:
    """The keys in YAML; their values are JSON, which is YAML too and quotes every name safely."""
    data = record.dataset
    result = {
        "task": {"type": _TASK},
        "dataset": {"type": data.name, "name": data.display_name, "split": "test"},
        "metrics": [{"type": "accuracy", "value": round(exported.test_accuracy_pct, 2)}],
    }
    keys: dict[str, Any] = {
        "library_name": _LIBRARY, "pipeline_tag": _TASK, "tags": [_TASK, record.config.arch],
        "datasets": [data.name], "metrics": ["accuracy"],
        "model-index": [{"name": record.config.network, "results": [result]}],
    }  # fmt: skip
    if data.name not in ("cifar10", "cifar100"):
        del keys["datasets"]  # must be the name of a dataset on the Hub
    return "".join(f"{key}: {' '.join(json_text(value).split())}\n" for key, value in keys.items())


def _describe(config: RunConfig) -> str:
    if config.arch == "plain":
        return f"A plain convolutional network of {config.depth} layers, without skip connections,"
    return f"A residual network of {config.depth} layers, with shortcuts of option {config.shortcut},"


def _architecture(config: RunConfig) -> str:
    text = "The architecture is that of He et al. 2015 (arXiv:1512.03385), section 4.2"
    return f"{text}, with projections instead of its identity shortcuts." if config.shortcut == "B" else f"{text}."


def _start(record: RunRecord) -> str:
    if record.init_from is None:
        return ""
    return f"Training started from existing weights, from a file with SHA-256 {record.init_from.sha256}.\n"


def _repeat(record: RunRecord) -> str:
    config = record.config
    if config.dataset == "arrays":
        return "The images came from a Python program.\n"
    folder = "DIR" if config.dataset == "imagefolder" else None
    initial = ["--init-from", "WEIGHTS"] if record.init_from else []
    command = " ".join(map(shell_text, ["resnet", *train_arguments(config, data_dir=folder), *initial]))
    return f"This command repeats the training:\n\n    {command}\n"
