"""Time, memory and output of the commands that read run directories, on a study of many runs.

    python benchmarks/many_runs.py [--runs 10000] [--repeats 1] [--folder FOLDER]

Each command runs in a fresh process. The runs are generated (`generated_runs.py`): 200 epochs of the report's four
networks in turn, with the files that a run without weights has, and with the rows of the probe `bn`. The runs of a
network share one predictions.npz through hard links, so reading predictions from a disk is not measured, only opening
and parsing. With --folder, the first command may have to read the files from the disk; later ones find them in memory.
Memory is the peak resident memory of the process.

Also prints what a run directory takes on the disk: that of a ResNet-56, trained for one epoch on 128 digits to get the
real weights and checkpoint, and that of a generated run, without weights and with 10,000 test images.

--folder keeps the runs, and uses those that an earlier call left there.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from processes import RESNET, ROOT, run

sys.path.insert(0, str(ROOT))

from where import command_line, parser, where

from resnet_cli.rundir import RunDir, find_runs

_GENERATE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from generated_runs import generate
generate(Path(sys.argv[2]), int(sys.argv[3]), predictions="shared", bn=True)
"""


def main() -> None:
    options = _arguments()
    print(f"{command_line()}\n")
    with _folder(options.folder) as folder:
        runs = folder / "runs"
        _generate(runs, options.runs)
        for line in _measure(runs, folder, options.repeats):
            print(line, flush=True)
        print()
        for line in _sizes(runs, folder):
            print(line, flush=True)
    print(f"\n{where()}")


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=10_000, help="number of runs")
    options.add_argument("--repeats", type=int, default=1, help="measurements of each command")
    options.add_argument("--folder", type=Path, help="folder for the runs (default: a temporary one)")
    return options.parse_args()


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _generate(runs: Path, num_runs: int) -> None:
    if not runs.exists():
        # in a process of its own: a large parent would add to the memory of the commands
        run(sys.executable, "-c", _GENERATE, str(Path(__file__).parent), str(runs), str(num_runs))
    found = len(find_runs([runs]))
    if found != num_runs:
        sys.exit(f"{runs} contains {found:,} runs, not {num_runs:,}; choose another --folder")


def _measure(runs: Path, folder: Path, repeats: int) -> Iterator[str]:
    """One line per command, as soon as it is measured."""
    figures, report, num_runs = folder / "figures", folder / "report.html", len(find_runs([runs]))
    commands = {
        "resnet ls": ("ls", str(runs)),
        "resnet ls --format csv": ("ls", str(runs), "--format", "csv"),
        "resnet compare": ("compare", str(runs)),
        "resnet compare --claims": ("compare", str(runs), "--claims"),
        "resnet plot": ("plot", str(runs), "--out", str(figures)),
        "resnet report": ("report", str(runs), "--out", str(report)),
        "resnet reproduce, the plan": (
            "reproduce", "--recipe", "report2025", "--seeds", f"0-{(num_runs - 1) // 4}", "--out", str(folder),
            "--print-commands",
        ),
    }  # fmt: skip
    yield f"{num_runs:,} runs"
    yield f"{'command':<28} {'seconds':<24} {'memory, MB':>10} {'output, MB':>10}"
    for name, command in commands.items():
        finished = [run(*RESNET, *command) for _ in range(repeats)]
        seconds = ", ".join(f"{one.seconds:.1f}" for one in finished)
        memory = max(one.peak_bytes for one in finished) / 1e6
        written = {"resnet plot": figures, "resnet report": report}.get(name)
        num_bytes = len(finished[0].stdout) if written is None else sum(map(os.path.getsize, _files(written)))
        yield f"{name:<28} {seconds:<24} {memory:>10.0f} {num_bytes / 1e6:>10.2f}"


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _sizes(runs: Path, folder: Path) -> Iterator[str]:
    """What a run directory takes on the disk."""
    trained = folder / "trained"
    run(
        *RESNET, "train", "--recipe", "demo", "--arch", "resnet", "--depth", "56", "--epochs", "1", "--limit-train",
        "128", "--limit-test", "50", "--device", "cpu", "--compile", "off", "--out", str(trained), "--quiet",
    )  # fmt: skip
    for title, path in (("a ResNet-56 trained on digits", trained), ("a generated run", runs / "resnet-56-seed0")):
        sizes = RunDir(path).file_sizes()
        yield f"{title}: {len(sizes)} files, {sum(sizes.values()):,} bytes"
        yield from (f"  {name:<32} {size:>10,}" for name, size in sizes.items())


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
