"""`resnet diff`: what differs between runs."""

import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from resnet_cli.cli.completion import complete_runs
from resnet_cli.cli.options import Json, Quiet
from resnet_cli.cli.output import Output
from resnet_cli.errors import UsageError
from resnet_cli.util.text import shorten, value_text

HELP = """Show what differs between runs: configuration, data, environment and results, side by side.

Equal values are omitted, and so are identifiers and times of day.

Examples:

  resnet diff runs/plain-56 runs/resnet-56

  resnet diff runs/resnet-56-seed0 runs/resnet-56-seed1 runs/resnet-56-seed2 --json
"""

_LABELS = string.ascii_uppercase
_MOST_CHARACTERS = {"fingerprint": 17}


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more run directories.", metavar="RUN", show_default=False, autocompletion=complete_runs
        ),
    ],
    *,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See `HELP`."""
    from resnet_cli.analysis.inspection import diff_document
    from resnet_cli.rundir import RunDir

    if not 2 <= len(runs) <= len(_LABELS):
        raise UsageError(f"{len(runs)} run given; diff compares 2 to {len(_LABELS)}", hint="resnet diff RUN RUN")
    document = diff_document([RunDir(run) for run in runs])
    Output(json=json, quiet=quiet).result(document, Group(*_parts(document)))


def _parts(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    from resnet_cli.cli.views import facts

    paths, parts = document["runs"], {name: values for name, values in document.items() if name != "runs"}
    yield facts("Runs", list(zip(_LABELS, paths, strict=False)))
    for name, values in parts.items():
        rows = [(key, *(_text(key, value) for value in row)) for key, row in values.items()]
        if rows:
            yield facts(name.capitalize(), rows, headers=("", *_LABELS[: len(paths)]), are_numbers=name == "results")
    if equal := [name for name, values in parts.items() if not values]:
        yield Text(f"no difference in {', '.join(equal)}")


def _text(name: str, value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, float):
        return f"{value:.6g}"
    return shorten(value, _MOST_CHARACTERS.get(name, 100)) if isinstance(value, str) else value_text(value)
