"""A study from Python: the plan follows from the directories, and the results from the runs."""

import os
import signal
from pathlib import Path

import pytest

from resnet_cli.errors import DivergedError, InputError, InterruptedByUserError, StoppedError
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.study import plan, run_study, write_results
from resnet_cli.util.progress import StudyPosition

GRID = [
    make_config("demo", arch=arch, depth=depth, seed=seed)
    for seed in (0, 1)
    for depth in (8, 14)
    for arch in ("plain", "resnet")
]


def test_every_configuration_of_a_study_has_its_own_run_directory():
    jobs = plan(GRID, Path("study"))
    assert [job.config for job in jobs] == GRID
    assert jobs[0].out == Path("study/plain-8-seed0")
    assert jobs[-1].out == Path("study/resnet-14-seed1")
    both = [make_config("demo", arch="resnet", depth=8, shortcut=shortcut) for shortcut in "AB"]
    assert [job.out.name for job in plan(both, Path("study"))] == ["resnet-8-seed0", "resnet-8-B-seed0"]


def test_planning_a_study_reads_the_status_of_its_runs_and_writes_nothing(make_run, tmp_path):
    made = {"complete": "plain-8-seed0", "incomplete": "resnet-8-seed0", "diverged": "plain-14-seed0"}
    for status, name in made.items():
        make_run(tmp_path / name, recipe="demo", dataset="digits", depth=8, epochs=2, status=status)
    with RunDir(tmp_path / made["incomplete"]).lock():
        assert [job.state for job in plan(GRID[:4], tmp_path)] == ["done", "resume", "diverged", "todo"]
    assert [job.state for job in plan(GRID[:4], tmp_path)] == ["done", "resume", "diverged", "todo"]
    assert sorted(os.listdir(tmp_path)) == sorted(made.values())


def test_a_diverged_run_does_not_stop_the_other_runs_of_a_study(monkeypatch):
    def launch(job, signals, *, position, **options):
        assert options == {"data_dir": Path("data"), "quiet": True}
        if job.config.arch == "plain":
            raise DivergedError("diverged")

    monkeypatch.setattr("resnet_cli.study.launch", launch)
    started = []
    jobs = plan(GRID[:4], Path("study"))
    finished = run_study(jobs, data_dir=Path("data"), quiet=True, on_start=started.append)
    assert started == jobs
    assert [job.state for job in finished] == ["diverged", "done", "diverged", "done"]


def test_every_run_of_a_study_receives_its_position_in_the_work_of_the_study(monkeypatch):
    positions = []
    monkeypatch.setattr("resnet_cli.study.launch", lambda *_, position, **__: positions.append(position))
    states = ["todo", "done", "resume", "todo"]
    run_study(job._replace(state=state) for job, state in zip(plan(GRID[:4], Path("study")), states, strict=True))
    # the depths are 8, 8, 14 and 14, and the second run is complete from the start
    assert positions == [
        StudyPosition(1, 4, done=8 / 44, share=8 / 44),
        StudyPosition(2, 4, done=8 / 44, share=8 / 44),
        StudyPosition(3, 4, done=16 / 44, share=14 / 44),
        StudyPosition(4, 4, done=30 / 44, share=14 / 44),
    ]


@pytest.mark.parametrize(("name", "error"), [("SIGTERM", StoppedError), ("SIGINT", InterruptedByUserError)])
def test_a_signal_between_two_runs_stops_the_study(monkeypatch, name, error):
    launched = []

    def launch(job, signals, **_):
        launched.append(job)
        os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr("resnet_cli.study.launch", launch)
    with pytest.raises(error, match="before resnet-8, seed 0; run the same command again to resume"):
        run_study(plan(GRID[:4], Path("study")))
    assert len(launched) == 1


def test_a_stopped_run_stops_the_study(monkeypatch):
    launched = []

    def launch(job, signals, **_):
        launched.append(job)
        raise StoppedError("stopped")

    monkeypatch.setattr("resnet_cli.study.launch", launch)
    with pytest.raises(StoppedError):
        run_study(plan(GRID, Path("study")))
    assert len(launched) == 1


def test_the_results_of_a_study_are_a_table_figures_and_a_comparison(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # these files need not survive a power failure
    for arch in ("plain", "resnet"):
        run = make_run(tmp_path / "runs" / arch, arch=arch, recipe="demo", dataset="digits")
        run.record_path.write_text(run.record_path.read_text().replace('"class 3"', '"猫"'))
    make_run(tmp_path / "elsewhere", arch="resnet", depth=56, recipe="demo", dataset="digits", predictions=False)
    with pytest.warns(UserWarning, match=r"confusion-20\.png: the font lacks characters"):
        results = write_results(tmp_path)
    assert results.table.read_text().startswith("### Results: digits (16×16), demo")
    assert [row["network"] for row in results.document["networks"]] == ["plain-20", "resnet-20"]
    assert results.figures == [
        tmp_path / "figures" / f"{name}.png"
        for name in ("curves", "convergence-20", "accuracy-20", "confusion-20", "degradation")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in results.figures)
    assert [figure.kind for figure in results.skipped_figures] == ["gradients"]


def test_results_of_a_study_without_complete_runs_are_unusable_input(make_run, tmp_path):
    make_run(tmp_path / "runs" / "a", status="diverged")
    with pytest.raises(InputError, match="no complete run; found 1 diverged"):
        write_results(tmp_path)
