"""Copy the complete runs of a study without weights and checkpoints, to be published.

    python benchmarks/collect_reference.py STUDY runs/reference/NAME

Copies study.toml and, for every complete run in STUDY/runs (or in STUDY itself), all text files, the predictions and
the stored probes, and writes a README.md for a folder without weights; summary.json contains their SHA-256. A run that
is there already must be the same run. The folder of the images, which exists on one machine only, is replaced by its
name.
"""

import shutil
import sys
from pathlib import Path

from processes import ROOT
from where import parser

sys.path.insert(0, str(ROOT))

from resnet_cli.recipes import recipe_label, train_arguments
from resnet_cli.rundir import RunDir, find_runs
from resnet_cli.rundir.page import run_page

FILES = ("run.json", "metrics.csv", "gradflow.csv", "summary.json", "attempts.jsonl", "predictions.npz")


def main() -> int:
    options = parser(__doc__)
    options.add_argument("study", type=Path)
    options.add_argument("out", type=Path)
    args = options.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.study / "study.toml").exists():
        lines = (args.study / "study.toml").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("data_dir")]
        (args.out / "study.toml").write_text("".join(kept).lstrip(), encoding="utf-8")
    num_runs = 0
    for run in find_runs([args.study]):
        if run.status() == "complete":
            copy(run, args.out / "runs" / run.path.name)
            num_runs += 1
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{num_runs} complete runs in {args.out}, {size / 1e6:.1f} MB")
    return 0


def copy(run: RunDir, out: Path) -> None:
    """Copy one run."""
    if out.exists() and RunDir(out).read_record().run_id != run.read_record().run_id:
        raise SystemExit(f"{out} is a different run: remove it first")
    (out / "probes").mkdir(parents=True, exist_ok=True)
    location = run.read_record().dataset.location or ""
    for name in FILES:
        source = run.path / name
        if source.suffix == ".npz":
            shutil.copy(source, out)
        elif source.exists():
            text = source.read_text(encoding="utf-8")
            (out / name).write_text(text.replace(location, Path(location).name) if location else text, encoding="utf-8")
    record = RunDir(out).read_record()
    folder = record.dataset.location if record.config.dataset == "imagefolder" else None
    arguments = train_arguments(record.config, data_dir=folder)
    page = run_page(
        record, run.read_summary(), recipe=recipe_label(record.config), arguments=arguments, has_weights=False
    )
    (out / "README.md").write_text(page, encoding="utf-8")
    for path in sorted((run.path / "probes").glob("[!.]*")):
        shutil.copy(path, out / "probes")
    if not any((out / "probes").iterdir()):
        (out / "probes").rmdir()


if __name__ == "__main__":
    raise SystemExit(main())
