"""The parts of the machine that processes get which run at the same time."""

import pytest

from resnet_cli.launch import gpu_ids, num_cores, slots


@pytest.fixture(autouse=True)
def _no_choice_of_the_user(monkeypatch):
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program `nvidia-smi` that runs `script` on the path."""

    def replace(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return replace


def test_the_cores_are_divided_among_the_processes(monkeypatch):
    monkeypatch.setattr("resnet_cli.launch.machine.num_cores", lambda: 8)
    assert slots(3, []) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert slots(20, []) == [{"OMP_NUM_THREADS": "1"}] * 20


def test_a_single_process_keeps_the_threads_that_pytorch_chooses():
    assert slots(1, []) == [{}]


def test_threads_that_the_user_chose_are_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert slots(2, []) == [{}, {}]


def test_processes_go_round_the_gpus_and_share_them():
    devices = [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(5, ["0", "3"])]
    assert devices == ["0", "3", "0", "3", "0"]


@pytest.mark.parametrize(("value", "names"), [("2,GPU-ab", ["2", "GPU-ab"]), ("", []), ("-1", [])])
def test_the_gpus_that_the_user_chose_are_used(monkeypatch, nvidia_smi, value, names):
    nvidia_smi("echo 0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpu_ids() == names


def test_gpus_are_found_by_nvidia_smi(nvidia_smi):
    nvidia_smi('[ "$1 $2" = "--query-gpu=index --format=csv,noheader" ] && printf "0\\n1\\n"')
    assert gpu_ids() == ["0", "1"]


@pytest.mark.parametrize("script", ["echo 'NVIDIA-SMI has failed'; exit 9", "echo 'No devices were found'"])
def test_a_machine_whose_driver_finds_no_gpus_has_none(nvidia_smi, script):
    nvidia_smi(script)
    assert gpu_ids() == []


def test_there_is_at_least_one_core():
    assert num_cores() >= 1
