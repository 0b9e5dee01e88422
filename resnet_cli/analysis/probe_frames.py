"""Stored probe rows of a study as one tidy frame."""

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from resnet_cli.analysis.frames import IDENTITY_COLUMNS, Run, run_row
from resnet_cli.errors import RunFileError
from resnet_cli.rundir.probe_files import WHICH, ProbeFiles

if TYPE_CHECKING:
    import pandas as pd


def load_probes(
    runs: Iterable[Run], name: str, which: str | None = None, *, warn: Callable[[str], None] = warnings.warn
) -> "pd.DataFrame":
    """Load what the probe `name` measured on `runs`, as the figure modules in `analysis.figures.probes` expect it.

    Args:
        runs: complete runs.
        name: name of the probe, as on the command line.
        which: `init`, `last` or `best` weights (None: all that were measured).
        warn: receives one line for each file that is damaged, or was measured on other weights than those of the run.

    Returns:
        `IDENTITY_COLUMNS` of `analysis.frames`, label, which, and the columns of the probe, in the order of `runs`.
        The label is the name of the network, followed by the seed if several runs train it, or else the path. A frame
        without rows if nothing was measured.
    """
    import numpy as np
    import pandas as pd

    runs = list(runs)
    identities, parts = [], []
    for run, label in zip(runs, _labels(runs), strict=True):
        identity = {name: value for name, value in run_row(run).items() if name in IDENTITY_COLUMNS} | {"label": label}
        for weights in [which] if which else WHICH:
            files = ProbeFiles(run.dir, name, weights)
            if not files.exists():
                continue
            try:
                rows = _read(files, run)
            except RunFileError as error:
                warn(str(error))
                continue
            identities.append({**identity, "which": weights})
            parts.append(rows)
    columns = pd.DataFrame(identities, columns=[*IDENTITY_COLUMNS, "label", "which"])
    if not parts:
        return columns
    row_of_part = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    repeated = columns.iloc[row_of_part].reset_index(drop=True)
    rows = pd.concat(parts, ignore_index=True).drop(columns=columns.columns, errors="ignore")
    return pd.concat([repeated, rows], axis="columns")


def _read(files: ProbeFiles, run: Run) -> "pd.DataFrame":
    record = files.read_record()
    found = files.source_sha256(record.source)
    # a run may have been published without its weights
    is_other = record.source_sha256 is not None and found is not None and found != record.source_sha256
    if record.run_id != run.record.run_id or is_other:
        raise RunFileError(
            f"{files.rows_path} was measured on other {record.source}",
            hint=f"measure again: resnet probe {files.probe} {run.dir.path} --which {files.which}",
        )
    return files.read_rows()


def _labels(runs: list[Run]) -> list[str]:
    choices = (
        [run.network for run in runs],
        [f"{run.network}, seed {run.seed}" for run in runs],
        [str(run.dir.path) for run in runs],
    )
    return next(labels for labels in choices if len(set(labels)) == len(runs))
