"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout.", rich_help_panel="Output")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.", rich_help_panel="Output")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder of the dataset. Default: $RESNET_DATA, else the user's cache folder.",
        show_default=False,
        rich_help_panel="Data",
    ),
]
RunPaths = Annotated[
    list[Path],
    typer.Argument(
        help="Run directories, or folders that are searched for them.", metavar="RUNS...", show_default=False
    ),
]
