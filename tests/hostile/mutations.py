"""All mutations of a run directory: named, seeded, each applied to a good run in place."""

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

from array_mutations import PREDICTIONS, TABLES, mutations_of_predictions, mutations_of_tables
from damage import ESCAPES, Change, Mutation, damages_of_a_file, flip, link, replace, then, unlink
from json_mutations import JSON_FILES, mutations_of_json_fields, mutations_of_json_texts

WEIGHTS = "weights/last.safetensors"


def all_mutations(seed: int = 0) -> list[Mutation]:
    """Every mutation of a run directory, each name once, in an order that depends on `seed`."""
    rng = random.Random(seed)  # noqa: S311 (damage, not a secret)
    found = [
        *_of_any_file(),
        *mutations_of_json_fields(rng),
        *mutations_of_json_texts(),
        *mutations_of_tables(),
        *mutations_of_predictions(),
        *_of_the_folder(),
    ]
    assert len({mutation.name for mutation in found}) == len(found)
    rng.shuffle(found)
    return found


def _of_any_file() -> Iterator[Mutation]:
    for file in (*JSON_FILES, *TABLES, PREDICTIONS):
        for what, change in damages_of_a_file(file).items():
            yield Mutation(f"{file} {what}", change, is_refused=True)
        yield Mutation(f"{file} is missing", unlink(file), file in JSON_FILES)
        for number in (1, 3, 30):
            yield Mutation(f"{file} has {number} flipped bits", flip(file, number), is_refused=False)
    for file in ("attempts.jsonl", ".lock", ".holder.json", "README.md", WEIGHTS, "checkpoints/resume.safetensors"):
        for what in ("is a folder", "is a pipe", "links to itself", "links to /dev/zero", "links to a file of /proc"):
            yield Mutation(f"{file} {what}", damages_of_a_file(file)[what], is_refused=False)
    locks = {"links to a good run": link(".lock", "../good-plain/metrics.csv"), **damages_of_a_file(".lock")}
    for what, change in locks.items():
        yield Mutation(f".lock of an unfinished run {what}", then(unlink("summary.json"), change), is_refused=True)
    for what, change in damages_of_a_file("diverged.json").items():
        if what.startswith(("is a terabyte", "is cut")):
            continue  # a complete run has no diverged.json to cut
        yield Mutation(f"diverged.json alone, which {what}", then(unlink("summary.json"), change), is_refused=True)


def _of_the_folder() -> Iterator[Mutation]:
    names = {
        "escapes": ESCAPES.replace("/", ""), "a newline": "a\nb: error: c", "markup": "<b>&lt;[red]$x$|`",
        "no UTF-8": os.fsdecode(b"\xff\xfe-run\x80"), "255 bytes": "n" * 250,
        "a title": "\x1b]2;title\x07", "arrows": "\u2192\u202e\u200b\U000e0041", "spaces": "  ",
        "a percent sign": "%s%n{0}",
    }  # fmt: skip
    for what, name in names.items():
        yield Mutation(f"the folder is named with {what}", _rename(name), is_refused=False)
        yield Mutation(
            f"the folder is named with {what} and its record is empty",
            then(replace("run.json", b""), _rename(name)), is_refused=True,
        )  # fmt: skip
    for what, name in itertools.islice(names.items(), 4):
        change = then(link("loop", "."), link(f"loop-{name}", ".."), link("up", "../.."))
        yield Mutation(f"the folder holds loops of links, one named with {what}", change, is_refused=False)
    yield Mutation("the folder holds only a run.json", _keep("run.json"), is_refused=True)
    yield Mutation("the folder holds only tables", _keep(*TABLES), is_refused=True)
    yield Mutation("the folder is nested a thousand deep", _bury, is_refused=False)


def _rename(name: str) -> Change:
    def apply(run: Path, _: random.Random) -> None:
        run.rename(run.with_name(f"{run.name}{name}"))

    return apply


def _keep(*kept: str) -> Change:
    def apply(run: Path, _: random.Random) -> None:
        for path in run.iterdir():
            if path.is_file() and path.name not in kept:
                path.unlink()

    return apply


def _bury(run: Path, _: random.Random) -> None:
    aside = run.rename(run.with_name(f"{run.name}-aside"))
    run.mkdir()
    here = os.getcwd()
    os.chdir(run)
    try:
        for _level in range(950):
            os.mkdir("d")
            os.chdir("d")
        os.rename(aside, "run")
    finally:
        os.chdir(here)
