"""The processes of a slot: tests and measurements, rehearsed on the CPU."""

import json
import os
import subprocess
import sys

import pytest
from slot_modules import FOLDER, ROOT, module


def test_the_outcome_of_each_test_is_printed_as_json(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2\n"
        "def test_skipped(): pytest.skip('why')\n@pytest.fixture\ndef broken(): raise ValueError('x')\n"
        "def test_set_up(broken): pass\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(FOLDER / "gpu" / "run_tests.py"), "60", str(tmp_path / "test_some.py")]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # starts faster
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    values = [value for value in map(json.loads, done.stdout.splitlines()) if value["kind"] == "test"]
    outcomes = {value["name"].rpartition("::")[2]: value for value in values}
    assert {name: value["outcome"] for name, value in outcomes.items()} == {
        "test_good": "passed", "test_bad": "failed", "test_skipped": "skipped", "test_set_up": "failed",
    }  # fmt: skip
    assert outcomes["test_bad"]["message"] == "assert 1 == 2"


MEASUREMENTS = [
    "speed/steps-8-eager-textbook", "speed/steps-8-graph", "speed/epochs", "speed/textbook-epoch-8",
    "speed/shared-streams", "speed/profile-8", "speed/traffic-8", "setup/environment",
]  # fmt: skip


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_runs_in_a_rehearsal_without_an_error(name, monkeypatch, capsys):
    import torch

    def numbers():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark

    before = numbers()
    (step,) = (step for step in module("gpu.steps").steps_of("cpu", tiny=True) if step.name == name)
    monkeypatch.setattr(sys, "argv", list(step.command))
    try:
        module("gpu.measure").main()
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert values
    assert not [value for value in values if "error" in value]


def test_a_measurement_that_fails_is_printed_and_ends_the_step_as_failed(monkeypatch, capsys):
    loops = module("gpu.loops")

    def fail(*_):
        raise RuntimeError("no such kernel\nmore")

    monkeypatch.setattr(loops, "textbook", fail)
    measure = module("gpu.measure")
    monkeypatch.setattr(sys, "argv", ["measure.py", "steps", "--device", "cpu", "--tiny", "--variants", "textbook"])
    with pytest.raises(SystemExit, match=r"failed measurements: 1, the last one: RuntimeError: no such kernel$"):
        measure.main()
    assert json.loads(capsys.readouterr().out)["error"] == "RuntimeError: no such kernel"


def test_a_test_that_hangs_ends_the_process_and_is_named_by_its_start(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import time\ndef test_good(): pass\ndef test_hangs(): time.sleep(60)\n", encoding="utf-8"
    )
    command = [sys.executable, str(FOLDER / "gpu" / "run_tests.py"), "1", str(tmp_path / "test_some.py")]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    found = [(value["kind"], value["name"].rpartition("::")[2]) for value in map(json.loads, done.stdout.splitlines())]
    assert found == [("started", "test_good"), ("test", "test_good"), ("started", "test_hangs")]
    assert "test_hangs" in done.stderr


def test_a_gpu_slot_measures_in_full_size_all_that_a_rehearsal_measures():
    steps_of = module("gpu.steps").steps_of
    assert len(steps_of("cuda", tiny=False)) == len(steps_of("cpu", tiny=True))
    for step in steps_of("cuda", tiny=False):
        assert (ROOT / step.command[0]).is_file()
        assert "--tiny" not in step.command
        assert all((ROOT / name).exists() for name in step.command if name.startswith("tests/"))


def test_versions_are_compared_by_their_leading_numbers():
    numbers = module("gpu.measure")._numbers
    assert numbers("2.9.1+cu130") < numbers("2.10") < numbers("2.11.0a0") < numbers("3")


def test_traffic_counts_the_bytes_of_operations_but_not_of_views():
    import torch

    with module("gpu.traffic").TrafficCounter() as counter:
        x = torch.ones(10)
        y = (x.view(2, 5) + 1).t()
    assert y.shape == (5, 2)
    # 40 bytes written by `ones` (and read if it fills), 40 read and 40 written by the sum
    assert counter.total in (120, 160)


def test_traffic_of_chosen_images_does_not_depend_on_how_many_there_are_to_choose_from():
    import torch

    totals = set()
    for num_images in (10, 1000):
        images, order = torch.ones(num_images, 3), torch.tensor([1, 2])
        with module("gpu.traffic").TrafficCounter() as counter:
            images[order]
        totals.add(counter.total)
    assert totals == {24 + 24 + 16}  # read, written, and the order
