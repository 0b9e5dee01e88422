"""`resnet data`: fetch, verify and describe a dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnet_cli.cli.options import DataDir, Json, Quiet
from resnet_cli.cli.output import Output
from resnet_cli.config import DatasetName
from resnet_cli.util.progress import Progress
from resnet_cli.util.text import printable

if TYPE_CHECKING:  # numpy and rich's tables would slow every other command down
    from rich.console import Group
    from rich.text import Text

    from resnet_cli.data import Dataset, Images, Source

HELP = """Fetch, verify and describe datasets.

Examples:

  resnet data fetch cifar10

  resnet data verify cifar10 --data-dir DIR

  resnet data show digits
"""

FETCH_HELP = """Make a dataset ready for use, so that training needs no network.

cifar10 and cifar100 are downloaded (170 MB each); an interrupted download is resumed.
A mirror may be named in RESNET_CIFAR10_URL or RESNET_CIFAR100_URL; the checksums hold for it too.
imagefolder is decoded and cached; digits is embedded.

Examples:

  resnet data fetch cifar10

  resnet data fetch cifar100 --data-dir DIR

  resnet data fetch imagefolder --data-dir DIR
"""

VERIFY_HELP = """Read a dataset again and check every byte of it; never downloads.

cifar10 and cifar100 are checked against the published checksums; imagefolder is decoded afresh and
compared with the cache.

Examples:

  resnet data verify cifar10

  resnet data verify imagefolder --data-dir DIR --json
"""

SHOW_HELP = """Describe a dataset: fingerprint, classes, splits, mean and deviation; never downloads.

Examples:

  resnet data show digits

  resnet data show cifar10 --limit-train 5000 --val-size 500 --json
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")

_Name = Annotated[DatasetName, typer.Argument(metavar="DATASET", help="The dataset.", show_default=False)]


@app.command("fetch", help=FETCH_HELP)
def fetch(dataset: _Name, data_dir: DataDir = None, json: Json = False, quiet: Quiet = False) -> None:
    """Download, or decode and cache, what can be."""
    out = Output(json=json, quiet=quiet)
    with out.progress() as progress:
        source = _load(dataset, data_dir, progress, warn=out.warn)
    document = _summary(source)
    out.result(document, _sentence("nothing to fetch" if source.location is None else "ready", document))


@app.command("verify", help=VERIFY_HELP)
def verify(dataset: _Name, data_dir: DataDir = None, json: Json = False, quiet: Quiet = False) -> None:
    """Assertion every byte."""
    out = Output(json=json, quiet=quiet)
    with out.progress() as progress:
        if dataset == "imagefolder":
            from resnet_cli.data.imagefolder import verify_imagefolder

            source = verify_imagefolder(data_dir, progress=progress)
        else:
            source = _load(dataset, data_dir, progress, warn=out.warn, offline=True)
    document = _summary(source)
    out.result({"ok": True, **document}, _sentence("OK", document))


@app.command("show", help=SHOW_HELP)
def show(
    dataset: _Name,
    data_dir: DataDir = None,
    limit_train: Annotated[
        int | None,
        typer.Option(min=1, help="Keep N training images, stratified.", show_default=False, rich_help_panel="Data"),
    ] = None,
    limit_test: Annotated[
        int | None,
        typer.Option(min=1, help="Keep N test images, stratified.", show_default=False, rich_help_panel="Data"),
    ] = None,
    val_size: Annotated[
        int, typer.Option(min=0, help="Split N validation images off the training images.", rich_help_panel="Data")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the validation split.", rich_help_panel="Data")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Describe what a run with these options would train and test on."""
    from resnet_cli.data import prepare

    out = Output(json=json, quiet=quiet)
    with out.progress() as progress:
        source = _load(dataset, data_dir, progress, warn=out.warn, offline=True)
    data = prepare(source, limit_train=limit_train, limit_test=limit_test, val_size=val_size, seed=seed)
    document = _description(data)
    out.result(document, _tables(document))


def _load(
    name: DatasetName, data_dir: Path | None, progress: Progress, *, warn: Callable[[str], None], offline: bool = False
) -> "Source":
    """As `resnet_cli.data.load_source`, which neither warns nor can be kept from downloading."""
    if name == "imagefolder":
        from resnet_cli.data.imagefolder import load_imagefolder

        return load_imagefolder(data_dir, progress=progress, warn=warn)
    if name == "digits":
        from resnet_cli.data.digits import load_digits

        return load_digits()
    from resnet_cli.data.cifar import load_cifar

    return load_cifar(name, data_dir, offline=offline, progress=progress)


def _summary(source: "Source") -> dict[str, Any]:
    """What `fetch` and `verify` say of a whole dataset."""
    from resnet_cli.data import prepare

    data = prepare(source)
    return {
        "dataset": data.name,
        "display_name": data.display_name,
        "fingerprint": data.fingerprint,
        "location": data.location,
        "num_train": len(data.train),
        "num_test": len(data.test),
        "num_classes": len(data.classes),
    }


def _sentence(verdict: str, document: dict[str, Any]) -> "Text":
    from rich.text import Text

    place = f"in {document['location']}" if document["location"] else "embedded"
    sizes = f"{document['num_train']:,} training and {document['num_test']:,} test images"
    text = f"{document['display_name']}: {verdict}, {sizes}, {place}"
    # a path is never broken over lines, so that it can be copied
    return Text(f"{printable(text)}\nfingerprint {document['fingerprint']}", no_wrap=True, overflow="ignore")


def _description(data: "Dataset") -> dict[str, Any]:
    splits = {"train": data.train, "val": data.val, "test": data.test}
    counts = {split: _class_counts(images, len(data.classes)) for split, images in splits.items()}
    return {
        "dataset": data.name,
        "display_name": data.display_name,
        "fingerprint": data.fingerprint,
        "location": data.location,
        "image_size": data.image_size,
        "num_train": len(data.train),
        "num_val": len(data.val) if data.val else 0,
        "num_test": len(data.test),
        "mean": list(data.mean),
        "std": list(data.std),
        "classes": [
            {"name": name, **{f"num_{split}": counts[split][label] for split in splits}}
            for label, name in enumerate(data.classes)
        ],
    }


def _class_counts(images: "Images | None", num_classes: int) -> list[int]:
    import numpy as np

    return [0] * num_classes if images is None else np.bincount(images.labels, minlength=num_classes).tolist()


def _tables(document: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.table import Table

    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column()
    facts.add_column(overflow="fold")
    sizes = f"{document['num_train']:,} training, {document['num_val']:,} validation, {document['num_test']:,} test"
    for name, value in (
        ("dataset", printable(f"{document['dataset']}: {document['display_name']}")),
        ("fingerprint", document["fingerprint"]),
        ("location", printable(document["location"] or "embedded")),
        ("image size", f"{document['image_size']}×{document['image_size']} RGB"),
        ("images", sizes),
        ("mean", "  ".join(f"{value:.4f}" for value in document["mean"])),
        ("deviation", "  ".join(f"{value:.4f}" for value in document["std"])),
    ):
        facts.add_row(name, value)
    classes = Table("label", "class", box=None, pad_edge=False)
    for heading in ("training", "validation", "test"):
        classes.add_column(heading, justify="right")
    for label, row in enumerate(document["classes"]):
        classes.add_row(
            str(label), printable(row["name"]), f"{row['num_train']:,}", f"{row['num_val']:,}", f"{row['num_test']:,}"
        )
    return Group(facts, "", classes)
