"""`resnet data`: fetch, verify and describe a dataset."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet, config_options
from resnet_cli.cli.output import Output
from resnet_cli.config import DatasetName
from resnet_cli.recipes import make_config
from resnet_cli.util.text import printable

if TYPE_CHECKING:  # numpy and rich's tables would slow down every other command
    from rich.console import Group
    from rich.text import Text

    from resnet_cli.data import Dataset

HELP = """Fetch, verify and describe datasets.

Examples:

  resnet data fetch cifar10

  resnet data verify cifar10 --data-dir DIR

  resnet data show digits
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")

_Name = Annotated[DatasetName, typer.Argument(metavar="DATASET", help="Name of the dataset.", show_default=False)]


@app.command("fetch")
def fetch(dataset: _Name, data_dir: DataDir = None, json: Json = False, quiet: Quiet = False) -> None:
    """Download and prepare a dataset for offline training.

    cifar10 and cifar100 are downloaded (170 MB each); an interrupted download is resumed.
    Set RESNET_CIFAR10_URL or RESNET_CIFAR100_URL to use a mirror; its files are checked against the same checksums.
    imagefolder is decoded and cached; digits is embedded.

    Examples:

      resnet data fetch cifar10

      resnet data fetch cifar100 --data-dir DIR

      resnet data fetch imagefolder --data-dir DIR
    """
    from resnet_cli.data import load_source, prepare

    out = Output(json=json, quiet=quiet, is_saved=True)
    with out.progress() as progress:
        source = load_source(dataset, data_dir, progress=progress, warn=out.warn)
    document = _description(prepare(source))
    out.result(document, _sentence("nothing to fetch" if source.location is None else "ready", document))


@app.command("verify")
def verify(dataset: _Name, data_dir: DataDir = None, json: Json = False, quiet: Quiet = False) -> None:
    """Re-read a dataset and verify it byte for byte (never downloads).

    cifar10 and cifar100 are checked against the published checksums; imagefolder is decoded again and
    compared with the cache.

    Examples:

      resnet data verify cifar10

      resnet data verify imagefolder --data-dir DIR --json
    """
    from resnet_cli.data import load_source, prepare

    out = Output(json=json, quiet=quiet)
    with out.progress() as progress:
        source = load_source(dataset, data_dir, offline=True, verify=True, progress=progress)
    document = _description(prepare(source))
    out.result({"ok": True, **document}, _sentence("OK", document))


@app.command("show")
@config_options("limit_train", "limit_test", "val_size", seed="Seed of the validation split (default: 0).")
def show(
    *, dataset: _Name, data_dir: DataDir = None, given: dict[str, Any], json: Json = False, quiet: Quiet = False
) -> None:
    """Show the fingerprint, classes, splits, mean and standard deviation of a dataset (never downloads).

    Examples:

      resnet data show digits

      resnet data show cifar10 --limit-train 5000 --val-size 500 --json
    """
    from resnet_cli.data import open_data

    config = make_config(arch="plain", depth=20, dataset=dataset, **given)  # the data do not depend on the network
    out = Output(json=json, quiet=quiet)
    with out.progress() as progress:
        data = open_data(config, data_dir=data_dir, offline=True, progress=progress, warn=out.warn)
    document = _description(data)
    out.result(document, _tables(document))


def _description(data: "Dataset") -> dict[str, Any]:
    """The JSON document of all three commands."""
    import numpy as np

    splits = {"train": data.train, "val": data.val, "test": data.test}
    counts = {
        f"num_{split}": np.bincount(images.labels if images else [], minlength=len(data.classes)).tolist()
        for split, images in splits.items()
    }
    return {
        "dataset": data.name,
        "display_name": data.display_name,
        "fingerprint": data.fingerprint,
        "location": data.location,
        "image_size": data.image_size,
        **{name: sum(values) for name, values in counts.items()},
        "num_classes": len(data.classes),
        "mean": list(data.mean),
        "std": list(data.std),
        "classes": [
            {"name": class_name, **{name: values[label] for name, values in counts.items()}}
            for label, class_name in enumerate(data.classes)
        ],
    }


def _sentence(verdict: str, document: dict[str, Any]) -> "Text":
    from rich.text import Text

    place = f"in {document['location']}" if document["location"] else "embedded"
    sizes = f"{document['num_train']:,} training and {document['num_test']:,} test images"
    text = f"{document['display_name']}: {verdict}, {sizes}, {place}"
    # a path is never wrapped, so that it can be copied
    return Text(f"{printable(text)}\nfingerprint {document['fingerprint']}", no_wrap=True, overflow="ignore")


def _tables(document: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.table import Column, Table

    facts = Table(Column(), Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    sizes = f"{document['num_train']:,} training, {document['num_val']:,} validation, {document['num_test']:,} test"
    for name, value in (
        ("dataset", printable(f"{document['dataset']}: {document['display_name']}")),
        ("fingerprint", document["fingerprint"]),
        ("location", printable(document["location"] or "embedded")),
        ("image size", f"{document['image_size']}×{document['image_size']} RGB"),
        ("images", sizes),
        ("mean", "  ".join(f"{value:.4f}" for value in document["mean"])),
        ("std", "  ".join(f"{value:.4f}" for value in document["std"])),
    ):
        facts.add_row(name, value)
    counts = (Column(split, justify="right") for split in ("training", "validation", "test"))
    classes = Table("label", "class", *counts, box=None, pad_edge=False)
    for label, row in enumerate(document["classes"]):
        cells = (f"{row[f'num_{split}']:,}" for split in ("train", "val", "test"))
        classes.add_row(str(label), printable(row["name"]), *cells)
    return Group(facts, "", classes)
