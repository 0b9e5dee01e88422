"""README.md of a run directory: a human-readable summary."""

from collections.abc import Sequence

from resnet_cli.rundir.records import RunRecord, Summary
from resnet_cli.util.text import duration, markdown_text, shell_text

_FROM_PYTHON = """The images came from a Python program and are not stored. To repeat the run from this folder, pass
them again:

    import json, resnet_cli
    config = resnet_cli.RunConfig.from_dict(json.load(open("run.json"))["config"])
    resnet_cli.train(config, "repeated", dataset=(train, test))"""


_WEIGHTS = """| weights/last.safetensors, weights/best.safetensors | the networks |
| checkpoints/ | state for resuming |"""
_NO_WEIGHTS = "| weights, checkpoints | not included; summary.json has the SHA-256 of the weights |"


def run_page(
    record: RunRecord, summary: Summary, *, recipe: str, arguments: Sequence[str], has_weights: bool = True
) -> str:
    """Write README.md of a complete run directory; names from elsewhere are shown as text, without their markup.

    Args:
        record: run.json.
        summary: summary.json.
        recipe: the recipe and its overrides, as returned by `recipes.recipe_label`.
        arguments: the arguments of `resnet` that repeat the run; not used if a Python program passed the images.
        has_weights: whether the directory contains weights and checkpoints.
    """
    config, data = record.config, record.dataset
    last, best = summary.last, summary.best
    device, torch = (markdown_text(str(record.environment.get(name))) for name in ("device_name", "torch"))
    clean = last.train_clean_error_pct
    repeat = (
        _FROM_PYTHON
        if config.dataset == "arrays"
        else f"""To repeat it:

    {" ".join(map(shell_text, ["resnet", *arguments]))}"""
    )
    return f"""# {config.network} on {markdown_text(data.display_name)}, seed {config.seed}

A run of `resnet train` (version {markdown_text(record.tool_version)}), recipe {markdown_text(recipe)},
finished {summary.finished_at}.

| result | value |
|---|---|
| test accuracy, last epoch ({last.epoch}) | {last.test_accuracy_pct:.2f} % |
| test accuracy, best epoch ({best.epoch}), chosen on the {summary.best_chosen_on} set | {best.test_accuracy_pct:.2f} % |
| training error, eval mode without augmentation | {"not measured" if clean is None else f"{clean:.2f} %"} |
| training time, without evaluation | {duration(summary.train_seconds)} |

{repeat}

| file | contents |
|---|---|
| run.json | configuration, dataset fingerprint, environment, decisions with their reasons |
| metrics.csv | one row per epoch |
| gradflow.csv | gradient norm of every layer, if recorded |
| attempts.jsonl | when the run was started and resumed, with which command and environment |
| predictions.npz | test labels and logits of the last epoch |
| summary.json | last and best results; present only when the run is complete |
| probes/ | what `resnet probe` measured, if anything |
{_WEIGHTS if has_weights else _NO_WEIGHTS}

Trained on {data.num_train:,} images ({data.num_val:,} for validation), tested on {data.num_test:,};
{device}, torch {torch}, {markdown_text(record.decisions["precision"].value)}.
"""  # noqa: E501 (a table row is one line)
