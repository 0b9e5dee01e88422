"""Writes docs/commands.md, the reference of every command and option, from the commands themselves.

    python docs/commands.py

A test compares the page with what this prints, so that it cannot go stale.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from resnet_cli.cli.app import app

PAGE = Path(__file__).with_name("commands.md")
_HEAD = """# Commands and options

Written by `python docs/commands.py` from the commands themselves; `resnet COMMAND --help` says the same.
"""


class Parameter(NamedTuple):
    """One argument or option as the command's function declares it."""

    names: list[str]
    kind: str
    help: str
    default: str
    is_argument: bool


def reference() -> str:
    """The whole page as Markdown."""
    sections = [_section(path, command.callback, command.help) for path, command in _commands("resnet", app)]
    return "\n".join([_HEAD, *sections])


def _commands(path: str, group: typer.Typer) -> Iterator[tuple[str, Any]]:
    for command in group.registered_commands:
        yield f"{path} {command.name or command.callback.__name__.replace('_', '-')}", command
    for subgroup in group.registered_groups:
        yield from _commands(f"{path} {subgroup.name}", subgroup.typer_instance)


def _section(path: str, function: Callable[..., Any], help_text: str | None) -> str:
    parameters = list(_parameters(function))
    arguments = [parameter.kind for parameter in parameters if parameter.is_argument]
    lines = [f"## {path}", "", f"    {' '.join([path, *arguments, '[OPTIONS]'])}", ""]
    lines += [*_paragraphs(help_text or inspect.getdoc(function) or ""), ""]
    lines += ["| option | meaning | default |", "|---|---|---|"]
    for parameter in parameters:
        names = ", ".join(f"`{name}`" for name in parameter.names)
        shown = f"`{parameter.kind}`" if parameter.is_argument else f"{names} {parameter.kind}".strip()
        lines.append(f"| {shown} | {_cell(parameter.help)} | {parameter.default} |")
    return "\n".join([*lines, ""])


def _parameters(function: Callable[..., Any]) -> Iterator[Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        annotation, info = typing.get_args(hints[name])[:2]
        is_argument = isinstance(info, typer.models.ArgumentInfo)
        # in Annotated form typer takes the first name as the positional `default`
        declared = [info.default, *(info.param_decls or ())]
        names = [decl for decl in declared if isinstance(decl, str) and decl.startswith("-")]
        names = names or [f"--{name.replace('_', '-')}"]
        kind = info.metavar or (name.upper() if is_argument else _kind(annotation))
        if parameter.default is inspect.Parameter.empty:
            default = "required"
        elif parameter.default is None or parameter.default is False:
            default = ""
        else:
            values = parameter.default if isinstance(parameter.default, list | tuple) else [parameter.default]
            default = f"`{' '.join(map(str, values))}`"
        yield Parameter(names, _cell(kind), info.help or "", default, is_argument)


def _kind(annotation: Any) -> str:
    if annotation is bool:
        return ""
    if typing.get_origin(annotation) is typing.Literal:
        return " ".join(typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list):
        return _kind(next(part for part in typing.get_args(annotation) if part is not type(None)))
    return {int: "N", float: "X", str: "TEXT", Path: "PATH"}[annotation]


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith("  "):
            lines.append(f"    {line.strip()}")
        elif line.strip():
            lines.append(line)
        elif lines and not lines[-1].startswith("    "):
            lines.append("")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
