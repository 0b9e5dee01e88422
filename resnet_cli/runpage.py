"""The page that a run directory shows to people, and the command that repeats a run."""

import shlex

from resnet_cli.config import RunConfig
from resnet_cli.recipes import RECIPES, make_config, recipe_label
from resnet_cli.rundir import RunRecord, Summary


def command_line(config: RunConfig, *, data_dir: str | None = None) -> str:
    """The `resnet train` command that gives `config` again."""
    words = ["resnet", "train", "--recipe", config.recipe, "--arch", config.arch, "--depth", str(config.depth)]
    values = config.to_dict()
    if config.recipe in RECIPES:
        base = make_config(config.recipe, arch=config.arch, depth=config.depth).to_dict()
    else:
        base = {}
    for name, value in values.items():
        if name in ("recipe", "arch", "depth") or value == base.get(name) or value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [option, ",".join(map(str, value)) or "none"]
        else:
            words += [option, str(value)]
    if data_dir:
        words += ["--data-dir", data_dir]
    return shlex.join(words)


def run_page(record: RunRecord, summary: Summary) -> str:
    """README.md of a complete run directory."""
    config, data = record.config, record.dataset
    last, best = summary.last, summary.best
    environment = record.environment
    clean = last["train_clean_error_pct"]
    location = data.location if data.name == "imagefolder" else None
    return f"""# {config.network} on {data.display_name}, seed {config.seed}

A run of `resnet train` (version {record.tool_version}), recipe {recipe_label(config)},
finished {summary.finished_at}.

| result | value |
|---|---|
| test accuracy, last epoch ({last["epoch"]}) | {last["test_accuracy_pct"]:.2f} % |
| test accuracy, best epoch ({best["epoch"]}), chosen on the {summary.best_chosen_on} set | {best["test_accuracy_pct"]:.2f} % |
| training error, eval mode without augmentation | {"not measured" if clean is None else f"{clean:.2f} %"} |
| training time, without evaluation | {summary.train_seconds:.0f} s |

Repeat it with

    {command_line(config, data_dir=location)}

| file | holds |
|---|---|
| run.json | configuration, dataset fingerprint, environment, decisions with their reasons |
| metrics.csv | one row an epoch |
| gradflow.csv | gradient norm of every layer, when recorded |
| predictions.npz | test labels and logits of the last epoch |
| weights/last.safetensors, weights/best.safetensors | the networks |
| checkpoints/ | what resuming needs |
| summary.json | last and best results; its presence means that the run is complete |

Trained on {data.num_train:,} images ({data.num_val:,} for validation), tested on {data.num_test:,};
{environment.get("device_name")}, torch {environment.get("torch")}, {record.decisions["precision"].value}.
"""  # noqa: E501 (a table row is one line)
