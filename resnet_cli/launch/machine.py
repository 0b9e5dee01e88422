"""The places for processes that run at the same time, each with its part of the machine."""

import os
import shutil
import subprocess


def num_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_ids() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without PyTorch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [word for word in listed.stdout.split() if word.isdigit()] if listed.returncode == 0 else []


def slots(num_jobs: int, gpus: list[str]) -> list[dict[str, str]]:
    """Environment variables of `num_jobs` processes that run at the same time.

    CPU threads are divided among them, unless the user chose a number with OMP_NUM_THREADS; one process keeps PyTorch's
    own number. GPUs are given out in turn, so several processes share one if there are more processes than GPUs.
    """
    shared: dict[str, str] = {}
    if num_jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        shared["OMP_NUM_THREADS"] = str(max(1, num_cores() // num_jobs))
    if not gpus:
        return [shared] * num_jobs
    return [{**shared, "CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} for index in range(num_jobs)]
