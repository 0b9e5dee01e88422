"""What is missing in a study is trained and measured; the rest is left alone."""

from pathlib import Path

import pytest

from resnet_cli.errors import UsageError
from resnet_cli.launch import Ending
from resnet_cli.probes.registry import OF_INITIAL_WEIGHTS, TITLES, load_probe
from resnet_cli.recipes import make_config
from resnet_cli.rundir import RunDir
from resnet_cli.study import choose_num_jobs, measure_probes, plan, run_study
from resnet_cli.study.running import probe_names

JOBS = [
    job._replace(state=state)
    for job, state in zip(
        plan([make_config("demo", arch="plain", depth=8, seed=seed) for seed in range(4)], Path("study")),
        ("done", "todo", "diverged", "resume"),
        strict=True,
    )
]


@pytest.fixture
def runs(make_run, tmp_path):
    """A folder with two complete runs."""
    for arch in ("plain", "resnet"):
        make_run(tmp_path / "runs" / arch, arch=arch)
    return tmp_path / "runs"


@pytest.fixture
def launched(monkeypatch):
    """Replace the processes; returns the calls as (tasks, slots). Tasks with `fail` in their name fail."""
    calls = []

    def run_tasks(tasks, slots, observer):
        calls.append((list(tasks), list(slots)))
        return [Ending("failed", 1, "broken") if "seed 3" in task.name else Ending("done", 0) for task in tasks]

    monkeypatch.setattr("resnet_cli.study.running.run_tasks", run_tasks)
    return calls


def test_only_missing_runs_are_launched_and_every_job_has_an_ending(launched):
    endings = run_study(JOBS, num_jobs=2, data_dir=Path("data"), options=["--save-every", "5min"])
    assert [ending.state for ending in endings] == ["done", "done", "diverged", "failed"]
    ((tasks, slots),) = launched
    assert tasks == [JOBS[i].task("--save-every", "5min", data_dir=Path("data")) for i in (1, 3)]
    assert len(slots) == 2


def test_the_machine_is_divided_among_no_more_jobs_than_there_are_runs(launched, runs):
    run_study(JOBS, num_jobs=50)
    measure_probes(["bn"], runs, num_jobs=50)
    assert [len(slots) for _, slots in launched] == [2, 1]


def test_probes_are_measured_once_each_on_the_folder_of_the_runs(launched, runs):
    endings = measure_probes(["lesion", "bn", "bn"], runs, device="cpu")
    assert {name: ending.state for name, ending in endings.items()} == {"bn": "done", "lesion": "done"}
    ((tasks, _),) = launched
    assert [task.arguments for task in tasks] == [
        ["probe", name, str(runs), "--device", "cpu", "--quiet"] for name in ("bn", "lesion")
    ]


def test_no_process_is_started_for_a_probe_that_every_run_has(launched, runs, make_run, add_probe):
    for path in sorted(runs.iterdir()):
        add_probe(RunDir(path), "bn", [{"value": 1}])
        add_probe(RunDir(path), "shattering", [{"value": 1}], which="init")
        add_probe(RunDir(path), "lesion", [{"value": 1}], which="init")  # of other weights than the default
    endings = measure_probes(["bn", "lesion", "shattering"], runs)
    assert [ending.state for ending in endings.values()] == ["done"] * 3
    make_run(runs / "another", arch="plain")
    measure_probes(["bn"], runs)
    assert [[task.name for task in tasks] for tasks, _ in launched] == [["probe lesion"], ["probe bn"]]


def test_rows_of_other_weights_or_of_another_version_are_measured_again(launched, runs, add_probe, monkeypatch):
    first, second = (add_probe(RunDir(path), "bn", [{"value": 1}]) for path in sorted(runs.iterdir()))
    second.run.last_weights_path.write_bytes(b"other weights")
    assert (first.is_current("0.1.0"), first.is_current("9.9.9"), second.is_current("0.1.0")) == (True, False, False)
    measure_probes(["bn"], runs)
    assert len(launched) == 1


def test_the_registry_knows_which_weights_a_probe_measures_by_default():
    assert [name for name in TITLES if load_probe(name).which == "init"] == list(OF_INITIAL_WEIGHTS)


def test_all_stands_for_every_probe_and_an_unknown_one_is_wrong_usage():
    assert len(probe_names(["bn", "all"])) == 10
    with pytest.raises(UsageError, match="must be a probe"):
        probe_names(["bn", "palpation"])


@pytest.mark.parametrize(
    ("num_tasks", "gpus", "cores", "memory", "available", "num_jobs"),
    [
        pytest.param(12, [], 2, None, 2**40, 2, id="one per core"),
        pytest.param(1, [], 8, None, 2**40, 1, id="not more than there are runs"),
        pytest.param(12, [], 8, 10 * 2**30, 32 * 2**30, 2, id="as many as fit into memory"),
        pytest.param(12, [], 8, 10 * 2**30, 2**30, 1, id="at least one"),
        pytest.param(12, [], 8, 10 * 2**30, None, 8, id="memory unknown"),
        pytest.param(12, ["0", "1", "2"], 2, 2**50, 2**30, 3, id="one per gpu"),
        pytest.param(0, [], 2, None, None, 1, id="nothing to train"),
    ],
)
def test_the_number_of_parallel_runs_follows_from_cores_memory_and_gpus(
    monkeypatch, num_tasks, gpus, cores, memory, available, num_jobs
):
    monkeypatch.setattr("resnet_cli.study.running.gpu_ids", lambda: gpus)
    monkeypatch.setattr("resnet_cli.study.running.num_cores", lambda: cores)
    monkeypatch.setattr("resnet_cli.study.running.available_memory_bytes", lambda: available)
    assert choose_num_jobs(num_tasks, memory_bytes=memory) == num_jobs


def test_a_study_on_the_cpu_ignores_gpus(monkeypatch):
    monkeypatch.setattr("resnet_cli.study.running.gpu_ids", lambda: ["0", "1"])
    monkeypatch.setattr("resnet_cli.study.running.num_cores", lambda: 5)
    assert choose_num_jobs(12, device="cpu") == 5
