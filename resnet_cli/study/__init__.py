"""A whole study: plan the grid, train missing runs in parallel, measure, judge, and write the report.

From Python::

    from pathlib import Path
    from resnet_cli import make_config
    from resnet_cli.study import plan, run_study, write_results

    folder = Path("study")
    grid = [make_config("demo", arch=arch, depth=depth) for depth in (20, 56) for arch in ("plain", "resnet")]
    run_study(plan(grid, folder / "runs"), num_jobs=2)
    write_results(folder).document["networks"]
"""

from resnet_cli.study.jobs import ARMS, Job, grid_configs, plan
from resnet_cli.study.results import StudyResults, write_results
from resnet_cli.study.running import choose_num_jobs, measure_probes, run_study

__all__ = [
    "ARMS", "Job", "StudyResults", "choose_num_jobs", "grid_configs", "measure_probes", "plan", "run_study",
    "write_results",
]  # fmt: skip
