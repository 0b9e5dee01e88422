"""Differences between runs of a group other than their configuration: machine, versions and numerical settings."""

from collections.abc import Sequence
from itertools import groupby

from resnet_cli.analysis.frames import Run
from resnet_cli.errors import RunFileError
from resnet_cli.rundir import Attempt, RunRecord
from resnet_cli.util.text import shorten

# Settings that may change the last bits of a result, with their names in messages.
_MUST_AGREE = {
    "device": "device", "device_name": "hardware", "cpu_capability": "CPU instruction set", "precision": "precision",
    "compile": "compilation", "ranks": "number of processes", "threads": "number of threads",
    "deterministic": "use of deterministic kernels",
    "torch": "torch version", "cuda": "CUDA version", "cudnn": "cuDNN version", "python": "python version",
    "tool_version": "version of this tool",
}  # fmt: skip
_MAX_LENGTH = 60
_MAX_CHANGES = 4


def provenance_notes(runs: Sequence[Run]) -> list[str]:
    """List settings that differ between `runs`, all of one group, or that changed during training, one line each.

    For a run that was resumed with other settings, the line shows all of them in order:
    `torch version differs between runs: 2.10.0 (2 runs), 2.10.0 → 2.11.0 (1 run)`. The line says so if all runs of each
    network agree, so that the setting could explain differences between networks.
    """
    notes = []
    sources_of: list[list[RunRecord | Attempt]] = []
    for run in runs:
        sources_of.append([run.record])
        try:
            sources_of[-1] += run.dir.read_attempts()
        except RunFileError as error:
            notes.append(f"{error}; it is unknown whether {run.dir.path} was resumed with other settings")
    for name, words in _MUST_AGREE.items():
        # A history is the sequence of values, without consecutive repetitions.
        histories = [
            tuple(value for value, _ in groupby(_setting(source, name) for source in sources))
            for sources in sources_of
        ]  # fmt: skip
        counts = {history: histories.count(history) for history in sorted(set(histories))}
        if len(counts) > 1 or any(len(history) > 1 for history in counts):
            found = ", ".join(f"{_shown(history)} ({n} run{'s' if n > 1 else ''})" for history, n in counts.items())
            note = f"{words} differs between runs: {found}" if len(counts) > 1 else f"{words} changed: {found}"
            pairs = {(run.network, history) for run, history in zip(runs, histories, strict=True)}
            is_aligned = len(counts) > 1 and len(pairs) == len({run.network for run in runs})
            notes.append(f"{note}; it could explain differences between networks" if is_aligned else note)
    return notes


def _setting(source: RunRecord | Attempt, name: str) -> str:
    if name == "tool_version":
        return shorten(source.tool_version, _MAX_LENGTH)
    decision = source.decisions.get(name)
    value = decision.value if decision else source.environment.get(name, "1" if name == "ranks" else None)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not recorded" if value is None else shorten(str(value), _MAX_LENGTH)


def _shown(history: tuple[str, ...]) -> str:
    return " → ".join([*history[:_MAX_CHANGES], *["…"] * (len(history) > _MAX_CHANGES)])
