"""Options that several commands share, most of them derived from the fields of `RunConfig`."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from resnet_cli.cli.completion import complete_recipes, complete_runs
from resnet_cli.config import FIELDS, DatasetName
from resnet_cli.errors import UsageError
from resnet_cli.recipes import RECIPE_NAMES
from resnet_cli.util.text import shorten

Json = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout.", rich_help_panel="Output")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors only.", rich_help_panel="Output")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder of the dataset (default: $RESNET_DATA, else the user's cache folder).",
        show_default=False,
        rich_help_panel="Data",
    ),
]
rgb_option = functools.partial(typer.Option, show_default=False, metavar="R,G,B", rich_help_panel="Data")
Std = Annotated[
    str | None, rgb_option(help="Per-channel standard deviation for pixels in [0, 1]; required with --mean.")
]
RunPaths = Annotated[
    list[Path],
    typer.Argument(
        help="Run directories, or folders to search for them.",
        metavar="RUN",
        show_default=False,
        autocompletion=complete_runs,
    ),
]

Recipe = Annotated[
    str,
    typer.Option(
        "--recipe", metavar="RECIPE", help=f"Recipe that supplies the defaults: {RECIPE_NAMES}.",
        autocompletion=complete_recipes,
    ),
]  # fmt: skip


def parse_rgb(option: str, text: str | None) -> tuple[float, float, float] | None:
    """The three numbers of `--mean` or `--std`; None if the option was not given."""
    if text is None:
        return None
    try:
        red, green, blue = map(float, text.split(","))
    except ValueError:
        raise UsageError(
            f"{option} must be three numbers (got {text!r})", hint=f"use {option} 0.49,0.48,0.45"
        ) from None
    return red, green, blue


def sort_option(default: str) -> Any:
    """`--sort COLUMN`; `default` describes the order without it."""
    return typer.Option(
        metavar="COLUMN", show_default=False,
        help=f"Sort by a column of the csv format; -COLUMN sorts in descending order (default: {default}).",
    )  # fmt: skip


_PANELS = {
    "Data": ("dataset", "limit_train", "limit_test", "val_size", "augment", "normalization"),
    "Training": (
        "epochs", "steps", "batch_size", "lr", "momentum", "weight_decay", "milestones", "lr_decay", "warmup_steps",
        "warmup_lr",
    ),
    "Measurements": ("clean_train_every", "clean_train_images", "gradflow_every"),
    "Machine": ("precision", "compile", "device", "deterministic"),
}  # fmt: skip
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
Command = TypeVar("Command", bound=Callable[..., None])


def config_options(*names: str, **help_texts: str) -> Callable[[Command], Command]:
    """Give a command one option for each of these fields of `RunConfig`, with its type and help text.

    The options replace the command's parameter `given`, which receives the values of those that the user set.
    They have no default of their own. Bounds are checked where the configuration is built.

    Args:
        names: fields whose own description is the help text.
        help_texts: other fields, with the help text for this command.
    """
    fields = [name for name in FIELDS if name in names or name in help_texts]

    def decorate(function: Command) -> Command:
        derived = [_parameter(name, help_texts.get(name)) for name in fields]
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(function).parameters.values():
            parameters += derived if parameter.name == "given" else [parameter]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            texts = {name: values.pop(name) for name in fields}
            given = {
                name: _value(name, value) for name, value in texts.items() if value is not None and value is not False
            }
            function(given=given, **values)

        # typer reads the signature and the annotations, and passes every value by name
        signature = inspect.Signature([parameter.replace(kind=_KEYWORD) for parameter in parameters])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command  # type: ignore[return-value]

    return decorate


def _parameter(name: str, help_text: str | None) -> inspect.Parameter:
    """The option of field `name` as a parameter for typer; its value is None (or False) if it is not given."""
    kind, meta, is_optional = FIELDS[name]
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=help_text or meta.description,
        metavar={int: "N", float: "X", tuple[int, ...]: "N,N,…"}.get(kind),
        show_default=False,
        rich_help_panel=_PANEL_OF.get(name),
        autocompletion=complete_recipes if name == "recipe" else None,
    )
    if kind is bool:
        return inspect.Parameter(name, _KEYWORD, default=False, annotation=Annotated[bool, option])
    special: dict[str, Any] = {"dataset": DatasetName, "milestones": str}
    value = str if is_optional else special.get(name, kind)
    return inspect.Parameter(name, _KEYWORD, default=None, annotation=Annotated[value | None, option])


def _value(name: str, value: Any) -> Any:
    """The value of a field; the text of an option that can be `none` is parsed."""
    if name == "milestones":
        return _milestones(value)
    if not FIELDS[name].is_optional:
        return value
    if value.strip() == "none":
        return None
    try:
        return int(value)
    except ValueError:
        option = f"--{name.replace('_', '-')}"
        raise UsageError(f"{option} must be a valid integer or none (got {shorten(repr(value))})") from None


def _milestones(text: str) -> tuple[int, ...]:
    if text.strip() in ("", "none"):
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--milestones {text!r} is not a list of numbers", hint="use 80,120 or none") from None
