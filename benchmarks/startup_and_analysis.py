"""Time and memory of the commands that use no network: help, `resnet compare`, `resnet plot` and `resnet report`.

    python benchmarks/startup_and_analysis.py [--starts 15] [--runs 1000] [--repeats 5]

Each time is that of a whole fresh process: the median of several, after one that is not counted. `resnet --help` and
`--version` alternate with `python -c pass`, which measures Python's own share. The runs are generated
(`generated_runs.py`): 200 epochs of the report's four networks in turn. Four more runs, with predictions
and gradient norms of every layer and epoch, are plotted in every figure. `compare` reads the configuration and the
results of a run, `plot` and `report` its epochs too. Memory is the peak resident memory of the process.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from processes import RESNET, ROOT, Finished, run

sys.path.insert(0, str(ROOT))

from generated_runs import generate
from where import command_line, parser, where

from resnet_cli.analysis.figures import KINDS

START_SECONDS = 0.25
COMPARE_SECONDS, COMPARE_BYTES = 5.0, 500e6
PLOT_SECONDS = 10.0
PLOT_MANY_SECONDS = 15.0
REPORT_MANY_SECONDS = 20.0


def main() -> None:
    options = _arguments()
    print(f"{command_line()}\n")
    with tempfile.TemporaryDirectory() as name:
        lines = _starts(options.starts)
        lines += _compare(Path(name, "many"), options.runs, options.repeats)
        lines += _plot_many(Path(name, "many"), Path(name, "figures_of_many"), options.runs, options.repeats)
        lines += _report_many(Path(name, "many"), Path(name, "report.html"), options.runs, options.repeats)
        lines += _plot(Path(name, "study"), Path(name, "figures"), options.repeats)
    _print_table(lines)
    print(f"\n{where()}")


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--starts", type=int, default=15, help="measurements of help and version")
    options.add_argument("--runs", type=int, default=1000, help="number of runs to compare, plot and report")
    options.add_argument("--repeats", type=int, default=5, help="measurements of compare, plot and report")
    return options.parse_args()


Line = tuple[str, str, str, str]


def _starts(count: int) -> list[Line]:
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "resnet --version": (*RESNET, "--version"),
        "resnet --help": (*RESNET, "--help"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(count + 1):
        for name, command in commands.items():
            finished = run(*command)
            if number:
                seconds[name].append(finished.seconds)
    goals = {"python -c pass": None, "resnet --version": START_SECONDS, "resnet --help": START_SECONDS}
    return [_line(name, seconds[name], goals[name], "s", digits=3) for name in commands]


def _compare(folder: Path, num_runs: int, repeats: int) -> list[Line]:
    generate(folder, num_runs)
    document = json.loads(run(*RESNET, "compare", str(folder), "--json").stdout)
    assert sum(network["n"] for network in document["networks"]) == num_runs, "a run was excluded"
    finished = [run(*RESNET, "compare", str(folder)) for _ in range(repeats)]
    return _time_and_memory(f"resnet compare, {num_runs:,} runs", finished, COMPARE_SECONDS, COMPARE_BYTES)


def _plot_many(folder: Path, out: Path, num_runs: int, repeats: int) -> list[Line]:
    finished = [run(*RESNET, "plot", str(folder), "--out", str(out)) for _ in range(repeats)]
    return _time_and_memory(f"resnet plot, {num_runs:,} runs", finished, PLOT_MANY_SECONDS, None)


def _report_many(folder: Path, out: Path, num_runs: int, repeats: int) -> list[Line]:
    finished = [run(*RESNET, "report", str(folder), "--out", str(out)) for _ in range(repeats)]
    lines = _time_and_memory(f"resnet report, {num_runs:,} runs", finished, REPORT_MANY_SECONDS, None)
    return [*lines, _line("its page", [out.stat().st_size / 1e6], None, "MB", digits=1)]


def _plot(folder: Path, out: Path, repeats: int) -> list[Line]:
    generate(folder, 4, gradflow=True, predictions=True)
    command = (*RESNET, "plot", str(folder), "--kind", "all", "--out", str(out))
    run(*command)
    drawn = {path.stem for path in out.iterdir()}
    kinds = {name.partition("-")[0] for name in drawn}
    assert kinds == set(KINDS), f"figures not drawn: {set(KINDS) - kinds}"
    finished = [run(*command) for _ in range(repeats)]
    return _time_and_memory(f"resnet plot --kind all, 4 runs, {len(drawn)} figures", finished, PLOT_SECONDS, None)


def _time_and_memory(
    name: str, finished: Sequence[Finished], goal_seconds: float, goal_bytes: float | None
) -> list[Line]:
    seconds, megabytes = [one.seconds for one in finished], [one.peak_bytes / 1e6 for one in finished]
    return [
        _line(name, seconds, goal_seconds, "s", digits=2),
        _line(f"{name}, memory", megabytes, goal_bytes and goal_bytes / 1e6, "MB", digits=0),
    ]


def _line(name: str, values: Sequence[float], goal: float | None, unit: str, *, digits: int) -> Line:
    median = statistics.median(values)
    measured = f"{median:.{digits}f} {unit} ({min(values):.{digits}f} to {max(values):.{digits}f}, {len(values)} times)"
    if goal is None:
        return name, measured, "", ""
    return name, measured, f"≤ {goal:g} {unit}", "reached" if median <= goal else "missed"


def _print_table(lines: Sequence[Line]) -> None:
    rows = [("what", "median (range)", "goal", ""), *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
