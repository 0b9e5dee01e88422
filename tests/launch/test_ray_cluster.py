"""Tasks on a Ray cluster: a real one of two nodes on this machine, of which one and then the head are killed.

These tests are skipped without the extra `ray`.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import resnet_cli
from resnet_cli.cli.app import run as resnet
from resnet_cli.errors import ExitCode, InputError, ResnetError, UsageError
from resnet_cli.launch import ray_cluster
from resnet_cli.rundir import RunDir

pytest.importorskip("ray", reason="the extra ray is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))
import sameness

ROOT = str(Path(resnet_cli.__file__).parents[1])
# -P: as if installed, so that only Ray could import code from the current folder
PYTHON = [sys.executable, "-P"]
SETTINGS = {"epochs": 20, "limit_train": 300, "limit_test": 60, "device": "cpu"}
GRID = ["--archs", "plain", "--depths", "8", "--probes", "none", "--quiet"]
GRID += [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
STUDY = f"""
import sys
from pathlib import Path
from resnet_cli import make_config
from resnet_cli.launch import Observer, Warned, ray_cluster
from resnet_cli.study import plan, run_study

class Printer(Observer):
    def received(self, task, message):
        if isinstance(message, Warned):
            print(f"{{task.name}}: {{message.text}}", file=sys.stderr)

jobs = plan([make_config("demo", arch=arch, depth=8, **{SETTINGS}) for arch in ("plain", "resnet")], Path("runs"))
"""
ON_CLUSTER = f"""{STUDY}
with ray_cluster.RayCluster(sys.argv[1]) as cluster:
    num_jobs = cluster.choose_num_jobs(5)
    endings = run_study(jobs, num_jobs=num_jobs, observer=Printer(), executor=cluster)
print(num_jobs, [ending.state for ending in endings])
"""


@pytest.fixture(scope="module")
def cluster(local_study, tmp_path_factory):
    """A head without CPUs, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        scratch = str(tmp_path_factory.mktemp("nodes"))  # too long for the sockets of Ray
        environment = {"RAY_TMPDIR": tempfile.gettempdir(), "TMPDIR": scratch}
        for name, value in {"PYTHONPATH": ROOT, "RAY_USAGE_STATS_ENABLED": "0", **environment}.items():
            patch.setenv(name, value)
        settings = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": settings}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def local_study(tmp_path_factory):
    """The same study by the local executor, in progress while the cluster starts: its folder and its process."""
    folder = tmp_path_factory.mktemp("local")
    with start(folder, "-c", f"{STUDY}\nrun_study(jobs, num_jobs=2)") as process:
        yield folder, process


@pytest.fixture(scope="module")
def expected(local_study):
    """Checksums of the runs that the local executor trains, by name."""
    folder, process = local_study
    assert process.wait() == 0
    return checksums(folder / "runs")


def checksums(runs):
    return {path.name: sameness.parts(RunDir(path)) for path in sorted(runs.iterdir())}


def start(folder, *arguments):
    """Start Python in `folder`, which contains code that must not be imported."""
    folder.mkdir(exist_ok=True)
    (folder / "numpy.py").write_text("raise SystemExit('the numpy.py of the current folder was imported')")
    environment = {**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*PYTHON, *arguments], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_checkpoints(runs, *archs, after=0):
    """Wait until the copies of the runs have a checkpoint of a later step; return the latest step."""
    copies = [RunDir(runs / f"{arch}-8-seed0") for arch in archs]
    for _ in range(3000):
        if all(copy.checkpoint_path.is_file() and sameness.step_of(copy) > after for copy in copies):
            return max(map(sameness.step_of, copies))
        time.sleep(0.02)
    raise AssertionError("no checkpoint came back within a minute")


def test_a_node_with_another_version_of_this_tool_is_refused(cluster, tmp_path):
    other = ON_CLUSTER.replace("with ray", "ray_cluster.__version__ = '9.9.9'\nwith ray")
    study = start(tmp_path / "work", "-c", other, cluster.address)
    last = study.communicate(timeout=60)[1].strip().splitlines()[-1]
    assert study.returncode == 1
    assert last.startswith("resnet_cli.errors.UsageError: resnet-cli cannot run on a node of the Ray cluster: ")
    assert last.endswith(f"has resnet-cli {resnet_cli.__version__}, not 9.9.9; install resnet-cli 9.9.9 on every node")


def test_a_grid_that_loses_a_node_ends_bit_identical_to_that_of_the_local_executor(cluster, expected, tmp_path):
    folder = tmp_path / "work"
    study = start(folder, "-c", ON_CLUSTER, cluster.address)
    wait_for_checkpoints(folder / "runs", "plain", "resnet")
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    output, errors = study.communicate(timeout=120)
    assert (study.returncode, output) == (0, "2 ['done', 'done']\n")
    assert [line.partition(" was lost; ")[2] for line in errors.splitlines()] == ["restarting it"]
    assert checksums(folder / "runs") == expected
    steps = [[attempt.step for attempt in RunDir(path).read_attempts()] for path in (folder / "runs").iterdir()]
    assert sorted(map(len, steps)) == [1, 2]
    assert max(max(steps)) > 0  # the lost run went on from its last copy
    cluster.add_node(num_cpus=1)


def test_a_stopped_study_and_one_whose_head_is_gone_resume_from_their_copies(cluster, expected, tmp_path):
    runs = tmp_path / "work" / "study" / "runs"
    command = ["-m", "resnet_cli", "reproduce", "--out", "study", *GRID]
    command += ["--executor", "ray", "--ray-address", cluster.address]

    study = start(tmp_path / "work", *command)
    wait_for_checkpoints(runs, "plain")
    study.send_signal(signal.SIGTERM)
    assert study.communicate(timeout=60) == ("", "stopped by SIGTERM; run the same command again to resume\n")
    assert study.returncode == ExitCode.STOPPED
    stopped_at = wait_for_checkpoints(runs, "plain")

    study = start(tmp_path / "work", *command)
    wait_for_checkpoints(runs, "plain", after=stopped_at)
    cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    output, errors = study.communicate(timeout=60)
    assert (study.returncode, output) == (ExitCode.FAILED, "")
    assert errors == (
        f"error: the connection to the Ray cluster at {cluster.address} was lost; run the same command again to "
        "resume once it is back, or with --executor local on this machine\n"
    )

    study = start(tmp_path / "work" / "study", "-c", f"{STUDY}\nprint(run_study(jobs[:1])[0].state)")
    assert study.communicate(timeout=60) == ("done\n", "")
    assert checksums(runs)["plain-8-seed0"] == expected["plain-8-seed0"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_one_line(address):
    with pytest.raises(InputError, match=f"ray_address {address}: no Ray cluster answers \\(Connection refused\\)"):
        ray_cluster.RayCluster(address).__enter__()


def test_an_address_without_a_port_is_wrong_usage(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    with pytest.raises(UsageError, match=r"must be HOST:PORT \(got somewhere\)"):
        ray_cluster.RayCluster().__enter__()


def test_a_connection_that_breaks_during_a_call_is_lost_for_good():
    cluster = ray_cluster.RayCluster("HOST:1")
    cluster._head = "HOST:1"
    lost = "the connection to the Ray cluster at HOST:1 was lost; run the same command again to resume"
    with pytest.raises(ResnetError, match=lost), cluster.connection():
        raise BrokenPipeError
    with pytest.raises(ResnetError, match=lost):
        cluster.check()


@pytest.mark.parametrize(
    ("nodes", "num_tasks", "device", "num_jobs"),
    [
        pytest.param([{"CPU": 4}, {"CPU": 2}], 99, "auto", 6, id="one per CPU"),
        pytest.param([{"CPU": 4}, {"CPU": 2}], 3, "auto", 3, id="not more than there are tasks"),
        pytest.param([{"CPU": 8, "GPU": 2}, {"CPU": 64}], 99, "auto", 2, id="one per GPU"),
        pytest.param([{"CPU": 1, "GPU": 8}], 99, "cuda", 1, id="each GPU needs a CPU"),
        pytest.param([{"CPU": 8, "GPU": 2}, {"CPU": 64}], 99, "cpu", 72, id="GPUs are ignored on the CPU"),
    ],
)
def test_the_number_of_tasks_at_a_time_follows_from_the_resources(monkeypatch, nodes, num_tasks, device, num_jobs):
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: nodes)
    assert ray_cluster.RayCluster("HOST:1").choose_num_jobs(num_tasks, device=device) == num_jobs


def test_a_cluster_on_which_no_task_fits_is_wrong_usage(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: [{"CPU": 64}])
    cluster = ray_cluster.RayCluster("HOST:1")
    cluster._head = "HOST:1"
    with pytest.raises(UsageError, match="device cuda: no node of the Ray cluster at HOST:1 has a GPU"):
        cluster.run_tasks([], 1, "cuda", None)


@pytest.mark.parametrize(("num_jobs", "num_threads"), [(1, 8), (2, 4), (3, 4), (4, 2), (6, 2), (7, 1), (99, 1)])
def test_the_cpus_are_divided_among_the_tasks_without_crossing_a_node(monkeypatch, num_jobs, num_threads):
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: [{"CPU": 8}, {"CPU": 4}])
    assert ray_cluster._num_threads(num_jobs, 0) == num_threads


def test_a_task_keeps_its_options_on_a_node_but_not_the_folder_of_its_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run, arguments, folder = ray_cluster._relocate(["train", "--data-dir", "data", "--out", "here/x", "--quiet"])
    assert (run.path, folder) == (Path("here/x"), "runs/x")
    assert arguments == ["train", "--data-dir", str(tmp_path / "data"), "--out", "runs/x", "--quiet"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray-address", "a:1"], "--ray-address a:1 needs a Ray cluster; add --executor ray"),
        (["--executor", "ray", "--print-commands"], "--executor ray and --print-commands cannot be combined"),
    ],
)
def test_options_that_exclude_each_other_are_one_line(options, message, capsys, tmp_path):
    assert resnet(["reproduce", "--out", str(tmp_path / "study"), *options]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith(f"error: {message}")
