"""`examples/slurm.sh` against a stand-in for SLURM: an array task per run, preemption, requeueing and the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_cli.cli.app import run as resnet
from resnet_cli.rundir import METRICS_COLUMNS, RunDir
from resnet_cli.study import StudyResults
from resnet_cli.study_file import StudyPlan, read_study_file

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "slurm.sh"
STUB = Path(__file__).with_name("slurm_stub.py")
STUDY = [
    "--recipe", "demo", "--depths", "8", "--epochs", "4", "--limit-train", "300", "--limit-test", "50", "--device",
    "cpu", "--probes", "none",
]  # fmt: skip
CLOCK = {"images_per_second", "train_seconds", "eval_seconds", "peak_memory_bytes"}
# What other tests run, and takes seconds, only parses its options: --help is acted on after them.
RESNET = f"""#!/bin/sh
case $1 in probe | report) set -- "$@" --help ;; esac
exec {sys.executable} -m resnet_cli "$@"
"""
# prints one command, and ends as if by a signal or with an exit code when it is to train
ENDING = '#!/bin/sh\ncase $1 in reproduce) echo "resnet train --out run" ;; train) {} ;; esac\n'


class Cluster:
    """A folder with the commands of SLURM, and what was submitted to them."""

    def __init__(self, folder, resnet=RESNET):
        self.folder = folder
        for name in ("sbatch", "srun", "scontrol"):
            self._install(name, f'#!/bin/sh\nexec {sys.executable} -S -E {STUB} {name} "$@"\n')
        self._install("resnet", resnet)

    def _install(self, name, text):
        path = self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def submit(self, *arguments, **environment):
        """Run the example; return the jobs that it submitted."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        here = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "SLURM_STUB": str(self.folder), **environment}
        before = len(self.jobs)
        done = subprocess.run(["sh", SCRIPT, *arguments], env=here, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return self.jobs[before:]

    @property
    def jobs(self):
        path = self.folder / "jobs.jsonl"
        return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def results_of(study, name):
    """What training computed in a run: metrics without the clock, and predictions."""
    run = RunDir(study / "runs" / name)
    rows = [line.split(",") for line in run.metrics_path.read_text().splitlines()]
    kept = [i for i, column in enumerate(METRICS_COLUMNS) if column not in CLOCK]
    return [[row[i] for i in kept] for row in rows], run.predictions_path.read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study of two runs that the example trained, one of which was preempted; with the submitted jobs."""
    folder = tmp_path_factory.mktemp("slurm")
    study = folder / "my study"
    metrics = study / "runs" / "plain-8-seed0" / "metrics.csv"
    jobs = Cluster(folder).submit(
        study, *STUDY, "--planned-seeds", "3", SLURM_STUB_PREEMPT=str(metrics), SBATCH_GRES="gpu:1"
    )
    return study, jobs


def test_every_run_is_an_array_task_and_the_report_waits_for_them(trained):
    _, (array, report) = trained
    assert array["options"]["array"] == "1-2"
    assert report["options"]["dependency"] == f"afterany:{array['id']}"
    assert (array["gres"], report["gres"]) == ("gpu:1", None)


def test_a_preempted_run_is_requeued_and_continues_from_its_checkpoint(trained):
    study, _ = trained
    first, second = RunDir(study / "runs" / "plain-8-seed0").read_attempts()
    assert first.step == 0
    assert second.step > 0
    assert len(RunDir(study / "runs" / "resnet-8-seed0").read_attempts()) == 1


def test_a_study_trained_by_slurm_has_the_results_of_reproduce(trained, tmp_path, monkeypatch):
    study, _ = trained
    document = dict.fromkeys(("networks", "gaps", "depth_gaps", "amplification", "skipped", "notes"), ())
    results = StudyResults(document, None, Path("table"), Path("report.html"), [], [])
    monkeypatch.setattr("resnet_cli.study.write_results", lambda *_, **__: results)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as each task has
    assert resnet(["reproduce", "--out", str(tmp_path), *STUDY, "--jobs", "2", "--quiet"]) == 0
    for name in ("plain-8-seed0", "resnet-8-seed0"):
        assert RunDir(study / "runs" / name).status() == "complete"
        assert results_of(study, name) == results_of(tmp_path, name)


def test_each_task_also_measures_its_run_and_the_last_job_shows_results_verdicts_and_the_report(trained):
    study, (array, _) = trained
    for task in (1, 2):
        (log,) = (study / "slurm").glob(f"*/{array['id']}_{task}.log")
        assert "Usage: resnet probe" in log.read_text()
    (log,) = (study / "slurm").glob("*/report.log")
    for part in ("Results: digits", "Verdicts: digits", "Usage: resnet report"):
        assert part in log.read_text()


def test_a_finished_study_is_recorded_with_its_plan_and_submits_only_the_report(trained):
    study, _ = trained
    assert read_study_file(study).plan == StudyPlan(seeds=3, looks=1)
    (report,) = Cluster(study.parent).submit(study, SLURM_STUB_RECORD="1")
    assert "dependency" not in report["options"]


def test_more_runs_than_an_array_may_have_are_several_arrays(tmp_path):
    *arrays, report = Cluster(tmp_path).submit(
        tmp_path / "study", *STUDY, "--archs", "plain", "--seeds", "0-2000", SLURM_STUB_RECORD="1"
    )
    assert [array["options"]["array"] for array in arrays] == ["1-1000", "1-1000", "1-1"]
    assert report["options"]["dependency"] == "afterany:100:101:102"


def test_a_task_can_train_several_runs(tmp_path):
    # three runs, the first of which fails
    fake = f"""#!/bin/sh
case $1 in
  reproduce) printf 'resnet train %s --out run\\n' a b c ;;
  train) echo "$2" >>"{tmp_path}/trained"; [ "$2" != a ] ;;
esac
"""
    array, _ = Cluster(tmp_path, fake).submit(tmp_path / "study", RUNS_PER_TASK="2")
    assert array["options"]["array"] == "1-2"
    assert (tmp_path / "trained").read_text().split() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ending", "is_requeued"),
    [("exit 75", True), ("kill -USR1 $$", True), ("kill -TERM $$", True), ("exit 4", False), ("exit 1", False)],
)
def test_a_task_is_requeued_only_if_a_signal_stopped_it(tmp_path, ending, is_requeued):
    once = f"if mkdir {tmp_path}/tried; then {ending}; fi; touch {tmp_path}/started-again"
    Cluster(tmp_path, ENDING.format(once)).submit(tmp_path / "study")
    assert (tmp_path / "started-again").exists() == is_requeued
