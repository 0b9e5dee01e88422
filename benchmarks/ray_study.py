"""Train a study on a Ray cluster of two nodes on this machine, kill one of them, and compare with the local executor.

    python benchmarks/ray_study.py [--seeds 0]

The study trains networks of 8 and 14 layers on 300 of the embedded digits, one at a time on each node. It runs on the
cluster three times:

1. undisturbed;
2. one node is killed when half of the runs are complete, and its run must resume on the other one from its last copy;
3. the head is killed, which must end the command, and the local executor resumes the study.

Every run must then be bit-identical to that of the local executor alone: weights, momentum, batch-normalisation
statistics, gradient norms, predictions, and metrics without the columns that depend on the clock. Exits with code 1
otherwise.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]
os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}

import sameness  # noqa: E402 (after the path to it)

from resnet_cli.rundir import RunDir  # noqa: E402

OPTIONS = (
    "--depths", "8,14", "--epochs", "20", "--augment", "crop", "--limit-train", "300", "--limit-test", "60",
    "--gradflow-every", "10", "--device", "cpu", "--probes", "none", "--json", "--quiet",
)  # fmt: skip


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--seeds", default="0")
    args = options.parse_args()
    print(command_line())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        differing = compare_all(folder, args.seeds)
    print(f"\n{where()}, ray {_ray_version()}")
    return int(differing)


def compare_all(folder: Path, seeds: str) -> bool:
    from ray.cluster_utils import Cluster

    seconds, code, _ = finish(start(folder / "local", seeds, "--jobs", "2"))
    runs = sorted(path.name for path in (folder / "local" / "runs").iterdir())
    print(f"{'local executor':32} exit code {code:3}, {seconds:4.0f} s, {len(runs)} runs")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray = ["--executor", "ray", "--ray-address", cluster.address]
    is_bad = report("Ray, undisturbed", finish(start(folder / "ray", seeds, *ray)), folder, "ray", runs)

    study = start(folder / "killed", seeds, *ray)
    wait_until(lambda: num_complete(folder / "killed") >= len(runs) // 2 and num_started(folder / "killed"))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    is_bad |= report("Ray, one node killed", finish(study), folder, "killed", runs)

    cluster.add_node(num_cpus=1)
    study = start(folder / "head", seeds, *ray)
    wait_until(lambda: num_started(folder / "head"))
    killed_at = time.monotonic()
    cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    _, code, errors = finish(study)
    print(f"{'Ray, head killed':32} exit code {code:3}, {time.monotonic() - killed_at:4.0f} s after the kill")
    print(f"  {errors.strip().splitlines()[-1].replace(cluster.address, 'HOST:PORT')}")
    ended = finish(start(folder / "head", seeds, "--jobs", "2"))
    return is_bad | report("  the same, local executor", ended, folder, "head", runs) | (code != 1)


def start(folder: Path, seeds: str, *options: str) -> "subprocess.Popen[str]":
    """Start or continue the study in `folder`."""
    command = [sys.executable, "-m", "resnet_cli", "reproduce", "--out", str(folder), "--seeds", seeds, *OPTIONS]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(study: "subprocess.Popen[str]") -> tuple[float, int, str]:
    """Wait for the end of a study; return seconds, exit code and messages."""
    started = time.monotonic()
    errors = study.communicate()[1]
    return time.monotonic() - started, study.returncode, errors


def report(title: str, ended: tuple[float, int, str], folder: Path, name: str, runs: list[str]) -> bool:
    """Print how a study ended; return whether anything is wrong with it."""
    seconds, code, errors = ended
    differing = [run for run in runs if not is_same(folder / "local" / "runs" / run, folder / name / "runs" / run)]
    attempts = [RunDir(folder / name / "runs" / run).read_attempts() for run in runs]
    print(
        f"{title:32} exit code {code:3}, {seconds:4.0f} s, {sum(map(len, attempts)) - len(runs)} runs resumed, "
        f"{len(differing)} of {len(runs)} not bit-identical"
    )
    for line in errors.splitlines():
        if "lost" in line:
            print(f"  {line}")
    return bool(differing or code)


def is_same(one: Path, other: Path) -> bool:
    return RunDir(other).status() == "complete" and sameness.parts(RunDir(one)) == sameness.parts(RunDir(other))


def num_complete(folder: Path) -> int:
    return sum(RunDir(path).status() == "complete" for path in (folder / "runs").glob("*"))


def num_started(folder: Path) -> bool:
    """Whether two runs are in progress and have a checkpoint."""
    unfinished = [RunDir(path) for path in (folder / "runs").glob("*") if RunDir(path).status() == "running"]
    return sum(run.checkpoint_path.is_file() for run in unfinished) == 2


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within two minutes"
        time.sleep(0.1)


def _ray_version() -> str:
    import ray

    return ray.__version__


if __name__ == "__main__":
    raise SystemExit(main())
